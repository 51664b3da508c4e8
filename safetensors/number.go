package safetensors

import "math"

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// readUint consumes a whole number of 64 bits. If another value is there
// instead, that breaks rule, and wrong says how.
func (s *scanner) readUint(rule Rule, wrong string) (uint64, error) {
	first, err := s.peek()
	if err != nil {
		return 0, err
	}
	if !isDigit(first) {
		return 0, s.fail(rule, "%s", wrong)
	}
	var v uint64
	err = s.readDigits(func(digit uint64) error {
		if v > (math.MaxUint64-digit)/10 {
			return s.fail(RuleOverflow, "a number does not fit in 64 bits")
		}
		v = v*10 + digit
		return nil
	})
	if err != nil {
		return 0, err
	}
	after, err := s.glance()
	if err == nil && (after == '.' || after == 'e' || after == 'E') {
		err = s.fail(rule, "%s", wrong)
	}
	return v, err
}

// readDigits consumes the whole part of a number: one or more digits, the
// first of which is 0 only if it is alone.
func (s *scanner) readDigits(each func(digit uint64) error) error {
	zero := false
	for n := 0; ; n++ {
		c, err := s.glance()
		if err != nil {
			return err
		}
		switch {
		case isDigit(c) && zero:
			return s.fail(RuleJSON, "a number begins with a superfluous 0")
		case !isDigit(c) && n == 0:
			return s.fail(RuleJSON, "expected a digit, found %q", c)
		case !isDigit(c):
			return nil
		}
		zero = n == 0 && c == '0'
		if _, err := s.next(); err != nil {
			return err
		}
		if err := each(uint64(c - '0')); err != nil {
			return err
		}
	}
}

// skipNumber consumes any number, of any length.
func (s *scanner) skipNumber() error {
	if _, err := s.accept("-"); err != nil {
		return err
	}
	if err := s.readDigits(func(uint64) error { return nil }); err != nil {
		return err
	}
	if point, err := s.accept("."); err != nil {
		return err
	} else if point {
		if err := s.skipFraction(); err != nil {
			return err
		}
	}
	exponent, err := s.accept("eE")
	if err != nil || !exponent {
		return err
	}
	if _, err := s.accept("+-"); err != nil {
		return err
	}
	return s.skipFraction()
}

// skipFraction consumes one or more digits.
func (s *scanner) skipFraction() error {
	for n := 0; ; n++ {
		digit, err := s.accept("0123456789")
		if err != nil {
			return err
		}
		if digit {
			continue
		}
		if n == 0 {
			return s.fail(RuleJSON, "a number lacks the digits after its point or exponent")
		}
		return nil
	}
}
