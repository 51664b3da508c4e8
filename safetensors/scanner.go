package safetensors

import (
	"bufio"
	"fmt"
	"io"
)

// maxDepth is how deep values may be nested; serde_json, which the reference
// parses with, stops there too.
const maxDepth = 127

// bufferSize is how much of a header is held at a time, in bytes.
const bufferSize = 16 << 10

// scanner reads JSON (RFC 8259) from a stream, value by value. The standard library's decoder will not do: it replaces invalid
// UTF-8, and holds a whole string or number, whatever its length.
type scanner struct {
	r      *bufio.Reader
	size   int64  // length of the JSON in bytes, as claimed
	pos    int64  // bytes consumed
	depth  int    // objects and lists that are open
	text   []byte // the string read last; reused
	tensor string // whose entry is being read, for errors
	budget budget
}

func newScanner(r io.Reader, size int64) scanner {
	return scanner{
		r:      bufio.NewReaderSize(io.LimitReader(r, size), bufferSize),
		size:   size,
		budget: MaxHeaderMemory,
	}
}

// fail returns the error that the header breaks rule here.
func (s *scanner) fail(rule Rule, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	return &HeaderError{
		Tensor: s.tensor,
		Rule:   rule,
		Detail: fmt.Sprintf("%s (byte %d of the header)", detail, s.pos),
	}
}

// take charges the budget.
func (s *scanner) take(cost int64) error {
	if !s.budget.take(cost) {
		return s.fail(RuleBudget, "the header needs more than %d bytes of memory", MaxHeaderMemory)
	}
	return nil
}

// next consumes one byte.
func (s *scanner) next() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, s.readError(err)
	}
	s.pos++
	return c, nil
}

// readError tells a header whose JSON is incomplete from one that has not
// arrived and one that cannot be read.
func (s *scanner) readError(err error) error {
	switch {
	case !ended(err):
		return fmt.Errorf("safetensors: read header: %w", err)
	case s.pos >= s.size:
		return s.fail(RuleJSON, "the header ends inside its JSON")
	default:
		return fmt.Errorf("%w: %d of %d bytes of JSON", ErrShort, s.pos, s.size)
	}
}

// glance returns the next byte without consuming it.
func (s *scanner) glance() (byte, error) {
	c, err := s.r.Peek(1)
	if err != nil {
		return 0, s.readError(err)
	}
	return c[0], nil
}

// peek skips white space and returns the byte after it without consuming it.
func (s *scanner) peek() (byte, error) {
	for {
		c, err := s.glance()
		if err != nil || !isSpace(c) {
			return c, err
		}
		if _, err := s.next(); err != nil {
			return 0, err
		}
	}
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r'
}

// open skips white space and consumes want, the first byte of a value. If
// another value is there instead, that breaks rule, and wrong says how.
func (s *scanner) open(want byte, rule Rule, wrong string) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return s.fail(rule, "%s", wrong)
	}
	_, err = s.next()
	return err
}

// delimiter skips white space and consumes a comma or end, and reports which.
func (s *scanner) delimiter(end byte) (more bool, err error) {
	c, err := s.peek()
	if err != nil {
		return false, err
	}
	if c != ',' && c != end {
		return false, s.fail(RuleJSON, "expected ',' or %q, found %q", end, c)
	}
	_, err = s.next()
	return c == ',', err
}

// list calls each for every value of a list or member of an object, whose
// first byte was consumed and which ends with end.
func (s *scanner) list(end byte, each func() error) error {
	if s.depth++; s.depth > maxDepth {
		return s.fail(RuleDepth, "values are nested more than %d deep", maxDepth)
	}
	defer func() { s.depth-- }()

	c, err := s.peek()
	if err != nil {
		return err
	}
	if c == end {
		_, err := s.next()
		return err
	}
	for more := true; more; {
		if err := each(); err != nil {
			return err
		}
		if more, err = s.delimiter(end); err != nil {
			return err
		}
	}
	return nil
}

// object calls each with the name of every member in s.text, in front of the
// member's value. Without keep the names are not stored.
func (s *scanner) object(keep bool, each func() error) error {
	return s.list('}', func() error {
		if err := s.open('"', RuleJSON, "expected a member's name in quotes"); err != nil {
			return err
		}
		if err := s.readText(keep); err != nil {
			return err
		}
		if err := s.open(':', RuleJSON, "expected ':' after a member's name"); err != nil {
			return err
		}
		return each()
	})
}

// finish consumes the rest of the header, which must be white space.
func (s *scanner) finish() error {
	for s.pos < s.size {
		c, err := s.next()
		if err != nil {
			return err
		}
		if !isSpace(c) {
			return s.fail(RuleJSON, "found %q after the end of the JSON object", c)
		}
	}
	return nil
}
