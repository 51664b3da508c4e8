package safetensors

import "io"

// parser turns the JSON of a header into tensors and metadata. Their offsets
// are still relative to the data buffer and unchecked.
type parser struct {
	scanner
	tensors  []Tensor
	metadata map[string]string

	names       map[string]struct{} // of the tensors so far
	sawMetadata bool
	shape       []uint64 // scratch
}

func newParser(r io.Reader, size int64) *parser {
	return &parser{scanner: newScanner(r, size), names: make(map[string]struct{})}
}

// parse consumes the whole header.
func (p *parser) parse() error {
	if p.size == 0 {
		return p.fail(RuleStart, "it is empty; expected '{'")
	}
	c, err := p.next()
	if err != nil {
		return err
	}
	if c != '{' {
		return p.fail(RuleStart, "it begins with %q; expected '{'", c)
	}
	if err := p.object(true, p.readMember); err != nil {
		return err
	}
	return p.finish()
}

// readMember consumes a value of the header's object, whose name is p.text.
func (p *parser) readMember() error {
	if string(p.text) == metadataKey {
		return p.readMetadata()
	}
	if err := p.take(tensorCost); err != nil {
		return err
	}
	name, err := p.keepText()
	if err != nil {
		return err
	}
	p.tensor = name
	if _, twice := p.names[name]; twice {
		return p.fail(RuleDuplicate, "the header has two tensors of this name")
	}
	p.names[name] = struct{}{}
	t, err := p.readEntry()
	if err != nil {
		return err
	}
	p.tensors = append(p.tensors, t)
	p.tensor = ""
	return nil
}

// keepText returns p.text as a string of its own.
func (p *parser) keepText() (string, error) {
	if err := p.take(int64(len(p.text))); err != nil {
		return "", err
	}
	return string(p.text), nil
}
