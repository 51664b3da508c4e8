package safetensors

import (
	"unicode/utf16"
	"unicode/utf8"
)

// readText consumes a string whose opening quote was consumed. With keep it is
// in s.text afterwards; without, it is only checked.
func (s *scanner) readText(keep bool) error {
	s.text = s.text[:0]
	for {
		if err := s.readPlain(keep); err != nil {
			return err
		}
		c, err := s.next()
		if err != nil {
			return err
		}
		if c == '"' {
			return nil
		}
		var encoded [utf8.UTFMax]byte
		char, err := s.readChar(encoded[:0], c)
		if err != nil {
			return err
		}
		if keep {
			if err := s.store(char); err != nil {
				return err
			}
		}
	}
}

// readPlain consumes the characters of a string up to one that needs a closer
// look, or the end of the buffer.
func (s *scanner) readPlain(keep bool) error {
	buffered, err := s.r.Peek(s.r.Buffered())
	if err != nil {
		return err
	}
	n := 0
	for n < len(buffered) && isPlain(buffered[n]) {
		n++
	}
	if keep {
		if err := s.store(buffered[:n]); err != nil {
			return err
		}
	}
	s.pos += int64(n)
	_, err = s.r.Discard(n)
	return err
}

// isPlain reports whether c stands for itself in a string.
func isPlain(c byte) bool {
	return ' ' <= c && c < utf8.RuneSelf && c != '"' && c != '\\'
}

// store appends characters to s.text.
func (s *scanner) store(chars []byte) error {
	if need := len(s.text) + len(chars); need > cap(s.text) {
		// Charged for good, so that the sum covers the old array and the new.
		bigger := max(cap(s.text), 1<<10)
		for bigger < need {
			bigger *= 2
		}
		if err := s.take(int64(bigger)); err != nil {
			return err
		}
		s.text = append(make([]byte, 0, bigger), s.text...)
	}
	s.text = append(s.text, chars...)
	return nil
}

// readChar appends to dst, which has room for it, the character of a string
// that begins with the byte c.
func (s *scanner) readChar(dst []byte, c byte) ([]byte, error) {
	switch {
	case c == '\\':
		return s.readEscape(dst)
	case c < ' ':
		return nil, s.fail(RuleJSON, "a string contains the control character %#02x", c)
	case c < utf8.RuneSelf:
		return append(dst, c), nil
	}
	dst = append(dst, c)
	for !utf8.FullRune(dst) {
		c, err := s.next()
		if err != nil {
			return nil, err
		}
		dst = append(dst, c)
	}
	if !utf8.Valid(dst) {
		return nil, s.fail(RuleUTF8, "a string is not valid UTF-8")
	}
	return dst, nil
}

// readEscape appends the character for which an escape stands whose backslash
// was consumed.
func (s *scanner) readEscape(dst []byte) ([]byte, error) {
	c, err := s.next()
	if err != nil {
		return nil, err
	}
	switch c {
	case '"', '\\', '/':
		return append(dst, c), nil
	case 'b':
		return append(dst, '\b'), nil
	case 'f':
		return append(dst, '\f'), nil
	case 'n':
		return append(dst, '\n'), nil
	case 'r':
		return append(dst, '\r'), nil
	case 't':
		return append(dst, '\t'), nil
	case 'u':
		r, err := s.readEscapedRune()
		return utf8.AppendRune(dst, r), err
	}
	return nil, s.fail(RuleJSON, "a string contains the unknown escape \\%c", c)
}

// readEscapedRune consumes what follows "\u": one UTF-16 code unit, or a
// surrogate pair with the second "\u" in between.
func (s *scanner) readEscapedRune() (rune, error) {
	r, err := s.readHex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	for _, want := range []byte(`\u`) {
		c, err := s.next()
		if err != nil {
			return 0, err
		}
		if c != want {
			return 0, s.fail(RuleUTF8, "a string contains half of a surrogate pair")
		}
	}
	second, err := s.readHex4()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
		return 0, s.fail(RuleUTF8, "a string contains half of a surrogate pair")
	}
	return r, nil
}

// readHex4 consumes four hexadecimal digits.
func (s *scanner) readHex4() (rune, error) {
	var r rune
	for range 4 {
		c, err := s.next()
		if err != nil {
			return 0, err
		}
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, s.fail(RuleJSON, "\\u is not followed by four hexadecimal digits")
		}
	}
	return r, nil
}
