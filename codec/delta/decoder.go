package delta

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/mithrilfs/mithrilfs/codec"
)

// A Decoder reads delta frames. It keeps scratch memory between them, about 10
// times the length of a frame and at most 1 MiB more. It must not be used by two
// goroutines at once; make one for each. The zero value is ready for use.
type Decoder struct {
	half    decoder[uint16]
	full    decoder[uint32]
	other   codec.Decoder
	content []byte
	planes  []byte
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{} }

// Info is what a frame says about itself.
type Info struct {
	Type  codec.DType   // of its elements
	Bases []codec.DType // of the bases that it needs: as many as its encoder used
}

// Inspect returns what a frame says about itself. Its error matches [ErrCorrupt].
func (d *Decoder) Inspect(frame []byte) (Info, error) {
	content, buf, err := contentOf(d.content, frame)
	d.content = buf
	if err != nil {
		return Info{}, err
	}
	h, err := readHeader(content)
	if err != nil {
		return Info{}, err
	}
	return Info{h.dtype, append([]codec.DType(nil), h.bases[:h.used]...)}, nil
}

// A header is what the content of every frame begins with.
type header struct {
	kind  byte
	used  int
	dtype codec.DType
	bases [maxBases]codec.DType
	sum   uint32 // lower half of the XXH64 of the logical bytes
	rest  []byte
}

func readHeader(content []byte) (h header, err error) {
	if len(content) == 0 {
		return h, corrupt("no content", nil)
	}
	h.kind, h.used = content[0]&15, int(content[0]>>4)
	if h.kind > kindDifference || h.used == 0 || h.used > maxBases || h.kind != kindResidual && h.used != 1 {
		return h, corrupt(fmt.Sprintf("unknown kind 0x%02x", content[0]), nil)
	}
	if len(content) < 2+h.used+4 {
		return h, corrupt("cut short", nil)
	}
	h.dtype = codec.DType(content[1])
	for i := range h.used {
		h.bases[i] = codec.DType(content[2+i])
		if h.bases[i] != h.dtype && !(isFloat(h.bases[i]) && isFloat(h.dtype)) {
			return h, corrupt("types that can't be compared", nil)
		}
	}
	if !h.dtype.Valid() || h.kind != kindEqual && isFloat(h.dtype) != (h.kind == kindResidual) {
		return h, corrupt("a type of another kind", nil)
	}
	h.sum = binary.LittleEndian.Uint32(content[2+h.used:])
	h.rest = content[2+h.used+4:]
	return h, nil
}

// DecodeFrame fills dst with the logical bytes of frame, which
// [Encoder.AppendFrame] made with bases; bases that the frame does not use may be
// left out. dst must not overlap any of them.
//
// Whatever frame holds, DecodeFrame decodes no more than len(dst) bytes and needs
// no more memory than the Decoder says. Its error matches [ErrBase] for bases of a
// wrong number, type or length, or else [ErrCorrupt]; the content of dst is then
// undefined. A checksum of 32 bits in the frame tells if the bytes are the right
// ones, and so if the bases are.
func (d *Decoder) DecodeFrame(dst, frame []byte, bases []Elements) error {
	if len(dst) > MaxContent {
		return corrupt(fmt.Sprintf("a frame of %d bytes, the most is %d", len(dst), MaxContent), nil)
	}
	content, buf, err := contentOf(d.content, frame)
	d.content = buf
	if err != nil {
		return err
	}
	h, err := readHeader(content)
	if err != nil {
		return err
	}
	if err := h.check(dst, bases); err != nil {
		return err
	}
	if err := d.decode(dst, &h, bases); err != nil {
		return err
	}
	if uint32(xxhash.Sum64(dst)) != h.sum {
		return corrupt("wrong checksum: a damaged frame, or another base", nil)
	}
	return nil
}

// check reports bases that the frame can't have been made with.
func (h *header) check(dst []byte, bases []Elements) error {
	n := len(dst) / h.dtype.Size()
	if n*h.dtype.Size() != len(dst) {
		return corrupt(fmt.Sprintf("%d bytes of elements of %v", len(dst), h.dtype), nil)
	}
	if len(bases) < h.used {
		return fmt.Errorf("%w: %d instead of %d", ErrBase, len(bases), h.used)
	}
	for i, b := range bases[:h.used] {
		if b.Type != h.bases[i] {
			return fmt.Errorf("%w: base %d is of type %v, not %v", ErrBase, i, b.Type, h.bases[i])
		}
		if len(b.Data) != n*b.Type.Size() {
			return fmt.Errorf("%w: base %d has %d bytes, not %d", ErrBase, i, len(b.Data), n*b.Type.Size())
		}
	}
	return nil
}

func (d *Decoder) decode(dst []byte, h *header, bases []Elements) error {
	switch {
	case h.kind == kindEqual:
		if len(h.rest) != 0 {
			return corrupt("bytes after the end", nil)
		}
		if bases[0].Type == h.dtype {
			copy(dst, bases[0].Data)
		} else {
			castElements(dst, h.dtype, bases[0])
		}
		return nil
	case h.kind == kindDifference:
		return d.decodeDifference(dst, h, bases[0].Data)
	case h.dtype.Size() == 2:
		return d.half.decode(dst, h, bases)
	}
	return d.full.decode(dst, h, bases)
}

func (d *Decoder) decodeDifference(dst []byte, h *header, base []byte) error {
	n, rest, err := length(h.rest)
	if err != nil {
		return err
	}
	if n != uint64(len(dst)) {
		return corrupt(fmt.Sprintf("%d bytes instead of %d", n, len(dst)), nil)
	}
	d.planes = grow(d.planes, len(dst))
	if err := d.other.DecodeFrame(d.planes, rest, 0); err != nil {
		return corrupt("differences", err)
	}
	w := h.dtype.Size()
	if err := codec.ByteUngroup(dst, d.planes, w); err != nil {
		return corrupt("differences", err)
	}
	add(dst, base, w, h.dtype == codec.F64)
	return nil
}

// length reads a number of bytes or elements, and returns what follows it.
func length(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, corrupt("cut short in a length", nil)
	}
	return n, b[size:], nil
}

// A decoder reads the content of frames of one width.
type decoder[T ordinal] struct {
	params   params
	features features[T]
	syms     []uint8
	entries  []entry
}

func (d *decoder[T]) decode(dst []byte, h *header, bases []Elements) error {
	n := len(dst) / h.dtype.Size()
	elements, rest, err := length(h.rest)
	if err != nil {
		return err
	}
	if elements != uint64(n) {
		return corrupt(fmt.Sprintf("%d elements instead of %d", elements, n), nil)
	}
	layout := &floats[h.dtype]
	r := bitReader{in: rest}
	p := &d.params
	if reason := p.read(&r, h.used, (n+block-1)/block, layout); reason != "" {
		return corrupt(reason, nil)
	}
	size, coded, err := length(r.rest(rest))
	if err != nil {
		return err
	}
	if size > uint64(len(coded)) {
		return corrupt("cut short in raw bits", nil)
	}
	raw := bitReader{in: coded[:size]}
	coded = coded[size:]

	f := &d.features
	f.resize(n)
	f.setBases(bases[:p.bases], h.dtype)
	f.measure(p, layout)
	f.setCells(p, &p.classes)
	d.setEntries()
	d.syms = grow(d.syms, n)
	if !decodeSymbols(d.syms, f.cells, d.entries, coded) {
		return corrupt("bad symbols", nil)
	}
	restore(f.guess, d.syms, f.move, &raw, layout)
	if raw.over || len(raw.in) != 0 {
		return corrupt("raw bits of another number", nil)
	}
	store(dst, f.guess)
	return nil
}

// setEntries sets the slots of all classes.
func (d *decoder[T]) setEntries() {
	p := &d.params
	d.entries = grow(d.entries, p.nclasses*freqSum)
	for k := range p.nclasses {
		t := &p.tables[k]
		slots := d.entries[k*freqSum : (k+1)*freqSum]
		for s := range t.syms {
			f := int(t.freq[s])
			first := makeEntry(f, 0, s)
			for i := range slots[:f] {
				slots[i] = first + entry(i)<<13
			}
			slots = slots[f:]
		}
	}
}
