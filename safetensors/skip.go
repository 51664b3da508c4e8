package safetensors

import "strings"

// skipValue consumes any value, checking that it is JSON.
func (s *scanner) skipValue() error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c == '-' || isDigit(c) {
		return s.skipNumber()
	}
	if _, err := s.next(); err != nil {
		return err
	}
	switch c {
	case '"':
		return s.readText(false)
	case '{':
		return s.object(false, s.skipValue)
	case '[':
		return s.list(']', s.skipValue)
	case 't':
		return s.skipLiteral("rue")
	case 'f':
		return s.skipLiteral("alse")
	case 'n':
		return s.skipLiteral("ull")
	}
	return s.fail(RuleJSON, "expected a value, found %q", c)
}

// skipLiteral consumes the rest of true, false or null.
func (s *scanner) skipLiteral(rest string) error {
	for _, want := range []byte(rest) {
		c, err := s.next()
		if err != nil {
			return err
		}
		if c != want {
			return s.fail(RuleJSON, "found a misspelt true, false or null")
		}
	}
	return nil
}

// accept consumes the next byte if it is one of set, and reports whether.
func (s *scanner) accept(set string) (bool, error) {
	c, err := s.glance()
	if err != nil || strings.IndexByte(set, c) < 0 {
		return false, err
	}
	_, err = s.next()
	return true, err
}
