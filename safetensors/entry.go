package safetensors

// entry is a tensor's value in the header while it is being read.
type entry struct {
	p      *parser
	tensor Tensor
	// Which of the three fields were there.
	sawDType, sawShape, sawOffsets bool
}

// readEntry consumes the value of the tensor p.tensor. Its offsets are
// relative to the data buffer.
func (p *parser) readEntry() (Tensor, error) {
	e := entry{p: p, tensor: Tensor{Name: p.tensor}}
	if err := p.open('{', RuleEntry, "its entry is not an object"); err != nil {
		return Tensor{}, err
	}
	if err := p.object(true, e.readField); err != nil {
		return Tensor{}, err
	}
	switch {
	case !e.sawDType:
		return Tensor{}, p.fail(RuleEntry, `its entry lacks "dtype"`)
	case !e.sawShape:
		return Tensor{}, p.fail(RuleEntry, `its entry lacks "shape"`)
	case !e.sawOffsets:
		return Tensor{}, p.fail(RuleEntry, `its entry lacks "data_offsets"`)
	}
	return e.tensor, nil
}

// readField consumes a field, whose name is p.text.
func (e *entry) readField() error {
	switch string(e.p.text) {
	case "dtype":
		return e.once("dtype", &e.sawDType, e.readDType)
	case "shape":
		return e.once("shape", &e.sawShape, e.readShape)
	case "data_offsets":
		return e.once("data_offsets", &e.sawOffsets, e.readOffsets)
	}
	return e.p.skipValue()
}

// once calls read unless the field was there before.
func (e *entry) once(field string, saw *bool, read func() error) error {
	if *saw {
		return e.p.fail(RuleDuplicate, "its entry has %q twice", field)
	}
	*saw = true
	return read()
}

func (e *entry) readDType() error {
	p := e.p
	if err := p.open('"', RuleEntry, `"dtype" is not a string`); err != nil {
		return err
	}
	if err := p.readText(true); err != nil {
		return err
	}
	known := false
	if e.tensor.DType, known = knownDType(p.text); known {
		return nil
	}
	text, err := p.keepText()
	e.tensor.DType = DType(text)
	return err
}

func (e *entry) readShape() error {
	p := e.p
	if err := p.open('[', RuleEntry, `"shape" is not a list`); err != nil {
		return err
	}
	p.shape = p.shape[:0]
	err := p.list(']', func() error {
		dim, err := p.readUint(RuleEntry, `"shape" holds something other than whole numbers`)
		if err != nil {
			return err
		}
		if err := p.take(dimCost); err != nil {
			return err
		}
		p.shape = append(p.shape, dim)
		return nil
	})
	e.tensor.Shape = append([]uint64{}, p.shape...)
	return err
}

func (e *entry) readOffsets() error {
	const wrong = `"data_offsets" is not a list of two whole numbers`
	p := e.p
	if err := p.open('[', RuleEntry, wrong); err != nil {
		return err
	}
	var offsets [2]uint64
	n := 0
	err := p.list(']', func() (err error) {
		if n == len(offsets) {
			return p.fail(RuleEntry, wrong)
		}
		offsets[n], err = p.readUint(RuleEntry, wrong)
		n++
		return err
	})
	if err == nil && n != len(offsets) {
		err = p.fail(RuleEntry, wrong)
	}
	e.tensor.Begin, e.tensor.End = offsets[0], offsets[1]
	return err
}
