package layout

import (
	"errors"
	"strconv"
	"strings"
)

var errLiteral = errors.New("the header is not a Python literal")

// maxLiteralDepth is how deep lists may be nested: recursion follows the input.
const maxLiteralDepth = 32

// parseLiteral reads the subset of Python that headers of arrays are written
// in: strings, numbers that are not negative, True, False and None, tuples and
// lists, which become []any, and dicts with strings as keys. Numbers become
// uint64.
func parseLiteral(s string) (any, error) {
	p := literal{s}
	v, ok := p.value(0)
	p.space()
	if !ok || p.s != "" {
		return nil, errLiteral
	}
	return v, nil
}

// literal is what is left to read.
type literal struct{ s string }

func (p *literal) space() { p.s = strings.TrimLeft(p.s, " \t\r\n\x00") }

// take reads one character if it is next.
func (p *literal) take(c byte) bool {
	p.space()
	if p.s == "" || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *literal) value(depth int) (any, bool) {
	p.space()
	switch {
	case p.s == "" || depth > maxLiteralDepth:
		return nil, false
	case p.s[0] == '\'' || p.s[0] == '"':
		return p.text()
	case p.s[0] >= '0' && p.s[0] <= '9':
		return p.number()
	case p.take('('):
		return p.list(')', depth)
	case p.take('['):
		return p.list(']', depth)
	case p.take('{'):
		return p.dict(depth)
	}
	for word, v := range map[string]any{"True": true, "False": false, "None": nil} {
		if rest, ok := strings.CutPrefix(p.s, word); ok {
			p.s = rest
			return v, true
		}
	}
	return nil, false
}

// text reads a string. Of escapes only those matter that keep a quote from
// ending it: the text itself is kept as it is written, in whatever encoding.
func (p *literal) text() (any, bool) {
	quote := p.s[0]
	for i := 1; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case quote:
			t := p.s[1:i]
			p.s = p.s[i+1:]
			return t, true
		}
	}
	return nil, false
}

// number reads digits, with the L that Python 2 wrote after large ones.
func (p *literal) number() (any, bool) {
	n := 0
	for n < len(p.s) && p.s[n] >= '0' && p.s[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(p.s[:n], 10, 64)
	p.s = strings.TrimPrefix(p.s[n:], "L")
	return v, err == nil
}

// list reads up to end. One value in parentheses without a comma is itself.
func (p *literal) list(end byte, depth int) (any, bool) {
	list := []any{}
	for !p.take(end) {
		v, ok := p.value(depth + 1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
		if !p.take(',') {
			if end == ')' && len(list) == 1 && p.take(end) {
				return v, true
			}
			return list, p.take(end)
		}
	}
	return list, true
}

func (p *literal) dict(depth int) (any, bool) {
	dict := map[string]any{}
	for !p.take('}') {
		k, ok := p.value(depth + 1)
		key, isText := k.(string)
		if !ok || !isText || !p.take(':') {
			return nil, false
		}
		if dict[key], ok = p.value(depth + 1); !ok {
			return nil, false
		}
		if !p.take(',') {
			return dict, p.take('}')
		}
	}
	return dict, true
}
