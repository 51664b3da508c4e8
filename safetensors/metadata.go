package safetensors

// readMetadata consumes the value of "__metadata__".
func (p *parser) readMetadata() error {
	if p.sawMetadata {
		return p.fail(RuleDuplicate, "%q occurs twice", metadataKey)
	}
	p.sawMetadata = true
	c, err := p.peek()
	if err != nil {
		return err
	}
	if c == 'n' { // null, says the reference, is no metadata
		return p.skipValue()
	}
	if err := p.open('{', RuleMetadata, `"__metadata__" is not an object`); err != nil {
		return err
	}
	p.metadata = make(map[string]string)
	return p.object(true, p.readMetadatum)
}

// readMetadatum consumes a value of the metadata, whose key is p.text.
func (p *parser) readMetadatum() error {
	if err := p.take(metadataCost); err != nil {
		return err
	}
	key, err := p.keepText()
	if err != nil {
		return err
	}
	if _, twice := p.metadata[key]; twice {
		return p.fail(RuleDuplicate, "the metadata key %s occurs twice", quote(key))
	}
	wrong := "the metadata value of " + quote(key) + " is not a string"
	if err := p.open('"', RuleMetadata, wrong); err != nil {
		return err
	}
	if err := p.readText(true); err != nil {
		return err
	}
	value, err := p.keepText()
	if err != nil {
		return err
	}
	p.metadata[key] = value
	return nil
}
