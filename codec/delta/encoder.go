package delta

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/mithrilfs/mithrilfs/codec"
)

// Elements is bytes of one element type.
type Elements struct {
	Data []byte
	Type codec.DType
}

// An Encoder makes delta frames. It keeps scratch memory between them, about 16
// times the length of a frame. It must not be used by two goroutines at once;
// make one for each. The zero value is ready for use.
type Encoder struct {
	half  coder[uint16]
	full  coder[uint32]
	other codec.Encoder
	cast  []byte
	body  []byte
	try   []byte
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return &Encoder{} }

// AppendFrame appends to dst one frame that holds src as its differences from
// bases, if that takes less than limit bytes, and reports whether it did; if
// not, it returns dst. The limit is usually the length of src's full frame.
//
// bases are one to three ranges of other checkpoints, of the elements that src has
// there: the nearest first, then the one on its other side, for a frame of step
// 30 those of steps 20 and 10, or 40, 50 and 60. The frame may use only the first
// ones. Bases of other float types than src's are rounded to it.
//
// row is the number of elements in a row of the tensor, its last dimension, or 0;
// it makes frames smaller, never wrong.
func (e *Encoder) AppendFrame(dst []byte, src Elements, row int, bases []Elements, limit int) ([]byte, bool) {
	n := len(src.Data) / src.Type.Size()
	if !suitable(src, n, bases) {
		return dst, false
	}
	body := e.appendBody(e.body[:0], src, row, bases)
	e.body = body
	if frameSize(len(body)) >= limit {
		return dst, false
	}
	return appendFrame(dst, body), true
}

// suitable reports whether a frame can be made: src and bases are of as many
// whole elements, and of types that can be compared.
func suitable(src Elements, n int, bases []Elements) bool {
	if len(bases) == 0 || len(bases) > maxBases || len(src.Data) > MaxContent ||
		!src.Type.Valid() || n*src.Type.Size() != len(src.Data) {
		return false
	}
	for _, b := range bases {
		if b.Type != src.Type && !(isFloat(b.Type) && isFloat(src.Type)) || len(b.Data) != n*b.Type.Size() {
			return false
		}
	}
	return true
}

// appendBody appends the content of a frame.
func (e *Encoder) appendBody(dst []byte, src Elements, row int, bases []Elements) []byte {
	sum := binary.LittleEndian.AppendUint32(nil, uint32(xxhash.Sum64(src.Data)))
	head := func(kind byte, used int) []byte {
		out := append(dst, kind|byte(used)<<4, byte(src.Type))
		for _, b := range bases[:used] {
			out = append(out, byte(b.Type))
		}
		return append(out, sum...)
	}
	nearest := bases[0].Data
	if bases[0].Type != src.Type {
		e.cast = grow(e.cast, len(src.Data))
		castElements(e.cast, src.Type, bases[0])
		nearest = e.cast
	}
	if bytes.Equal(nearest, src.Data) {
		return head(kindEqual, 1)
	}
	switch {
	case !isFloat(src.Type):
		return e.appendDifference(head(kindDifference, 1), src, nearest)
	case src.Type.Size() == 2:
		used := e.half.trial(src, bases)
		e.half.prepare(src, bases[:used], row)
		return e.half.append(head(kindResidual, used))
	}
	used := e.full.trial(src, bases)
	e.full.prepare(src, bases[:used], row)
	return e.full.append(head(kindResidual, used))
}

// trialSize is about the number of elements by which the number of bases is
// chosen.
const trialSize = 8 << 10

// trial returns how many of the bases make some blocks of src, at even distances,
// smallest.
func (c *coder[T]) trial(src Elements, bases []Elements) int {
	if len(bases) == 1 {
		return 1
	}
	part := c.trialPart(0, src)
	var parts [maxBases]Elements
	for i, b := range bases {
		parts[i] = c.trialPart(1+i, b)
	}
	best, least := 0, int64(0)
	for used := 1; used <= len(bases); used++ {
		size := c.prepare(part, parts[:used], 0)
		// A further base must be worth its reading.
		if best == 0 || size < least-least/50 {
			best, least = used, size
		}
	}
	return best
}

// trialPart returns the blocks of e that trial codes, put together in the memory
// of trials[k].
func (c *coder[T]) trialPart(k int, e Elements) Elements {
	w := e.Type.Size()
	every := max(1, len(e.Data)/w/trialSize)
	if every == 1 {
		return e
	}
	out := c.trials[k][:0]
	for from := every / 2 * block * w; from < len(e.Data); from += every * block * w {
		out = append(out, e.Data[from:min(from+block*w, len(e.Data))]...)
	}
	c.trials[k] = out
	return Elements{out, e.Type}
}

// A coder makes the content of frames of one width.
type coder[T ordinal] struct {
	float     *float
	src       []byte
	want      []T // its ordinals
	params    params
	features  features[T]
	sample    sample[T]
	trials    [1 + maxBases][]byte
	residuals residuals
	counts    counts
	merged    counts          // with fewer groups
	coarse    params          // their classes and tables
	classes   [maxCells]uint8 // of the cells, however the groups of params are
	codings   []coding
}

// prepare finds the parameters and the symbols, and returns about what they take,
// in units of 2^-16 bits. As if the frame were longer, tables hardly count.
func (c *coder[T]) prepare(src Elements, bases []Elements, row int) int64 {
	n := len(src.Data) / src.Type.Size()
	c.float = &floats[src.Type]
	c.src = src.Data
	c.want = grow(c.want, n)
	ordinals(c.want, src.Data)
	f := &c.features
	f.resize(n)
	f.setBases(bases, src.Type)
	c.sample.choose(n)

	p := &c.params
	*p = params{bases: len(bases), explicits: p.explicits}
	p.firstExponent = c.sample.firstExponent(f, c.float)
	if len(bases) > 1 {
		if src.Type.Size() == 2 {
			p.groups = grouping(len(bases) - 1)
		}
		if row > 1 && row <= min(n/8, maxStride) {
			p.stride = row
		}
		c.sample.gains(p, f, c.src, c.float)
	}
	f.measure(p, c.float)
	if p.bases == 1 {
		c.setExplicits()
	}
	c.sample.observe(p, f, c.want)
	c.sample.fit(p)
	f.setCells(p, &identity)
	setResiduals(&c.residuals, c.want, f.guess, f.move, c.float.direct, c.float.parts)
	c.counts.set(c.residuals.syms, f.cells)
	symbols, tables := c.chooseClasses()
	size := symbols + tables/16 + int64(8*len(c.residuals.raw.out))<<16
	if p.bases == 1 {
		var w bitWriter
		writeLevels(&w, p.explicits)
		size += int64(8*len(w.out)) << 16
	}
	return size
}

// chooseClasses finds the classes of the cells, with fewer groups if that takes
// less.
func (c *coder[T]) chooseClasses() (symbols, tables int64) {
	p := &c.params
	fine := p.groups
	if fine != together {
		c.merged.merge(&c.counts, fine, c.float.syms)
	}
	symbols, tables = c.counts.choose(p, c.float.syms)
	c.classes = p.classes
	if fine == together {
		return symbols, tables
	}
	c.coarse.bases, c.coarse.groups = p.bases, byMove
	if s, t := c.merged.choose(&c.coarse, c.float.syms); s+t < symbols+tables {
		p.groups, p.classes, p.nclasses, p.tables = byMove, c.coarse.classes, c.coarse.nclasses, c.coarse.tables
		for k := range fine.groups() * levels {
			c.classes[k] = p.classes[fine.coarse(k/levels)*levels+k%levels]
		}
		return s, t
	}
	return symbols, tables
}

// setExplicits sets the levels of activity of the blocks by what is to be coded,
// in octaves; or none, where too few elements differ for levels to pay.
func (c *coder[T]) setExplicits() {
	f, p := &c.features, &c.params
	differ, w := 0, int(c.float.width/8)
	scale := c.float.activityScale(p.firstExponent)
	var base, want [block]float32
	for k := range f.blocks {
		n := min(block, len(c.want)-k*block)
		values(base[:n], f.bases[0][k*block*w:], c.float.dtype)
		values(want[:n], c.src[k*block*w:], c.float.dtype)
		sum := uint64(0)
		for i, v := range want[:n] {
			if r := difference(v, base[i]); r != 0 {
				sum += uint64(min(float32(max(r, -r)*scale), mostActive))
				differ++
			}
		}
		f.blocks[k] = sum
	}
	p.explicits = grow(p.explicits, len(f.blocks))
	if differ < len(c.want)/8 {
		clear(p.explicits)
		return
	}
	origin := max(middle(f.blocks)/2-activities/2, 0)
	for k, sum := range f.blocks {
		p.explicits[k] = level(quarter(sum)/2, origin, activities)
	}
}

// append appends parameters, symbols and raw bits.
func (c *coder[T]) append(dst []byte) []byte {
	p := &c.params
	dst = binary.AppendUvarint(dst, uint64(len(c.want)))
	w := bitWriter{out: dst}
	p.write(&w, len(c.features.blocks), c.float)
	dst = w.flush()
	c.codings = grow(c.codings, p.nclasses*maxSyms)
	for k := range p.nclasses {
		p.tables[k].setCodings(c.codings[k*maxSyms : (k+1)*maxSyms])
	}
	raw := c.residuals.raw.flush()
	dst = binary.AppendUvarint(dst, uint64(len(raw)))
	dst = append(dst, raw...)
	return encodeSymbols(dst, c.residuals.syms, c.features.cells, &c.classes, c.codings)
}

// setCodings sets what the encoder needs of each symbol.
func (t *table) setCodings(c []coding) {
	start := uint32(0)
	for s := range t.syms {
		if f := uint32(t.freq[s]); f > 0 {
			c[s] = makeCoding(start, f)
			start += f
		}
	}
}

// identity makes cells of cells.
var identity = func() (t [maxCells]uint8) {
	for i := range t {
		t[i] = uint8(i)
	}
	return t
}()
