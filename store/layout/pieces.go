package layout

import (
	"errors"
	"fmt"
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/safetensors"
)

const (
	// maxTensors is how many tensors a layout remembers: a file with more is
	// hostile, or not what it seems to be.
	maxTensors = 1 << 20
	// maxTable is how many bytes their names and shapes may have, about.
	maxTable = 64 << 20
	// maxHeader is how long the header of one array may be.
	maxHeader = 1 << 20
	// smallArray is the size below which an array is left among the headers
	// around it: frames of its own would cost more than its type gains.
	smallArray = 4 << 10
)

// piece is a header with what follows it, up to the next header.
type piece struct {
	length int64   // of all; math.MaxInt64 for all that comes
	tensor *Tensor // or nil. Begin and End count from the piece's begin
}

// pieces is a file of arrays with a header before each.
type pieces struct {
	src    Source
	format string
	// parse reads a header, of which b is the beginning. It returns how many
	// bytes it must see if those are more than b has.
	parse   func(b []byte) (p piece, need int, err error)
	tensors []Tensor
	table   int   // bytes of their names and shapes
	next    int64 // where the first header begins that is not read yet
	need    int   // how many bytes of it must be there
	problem error
	rest    *probe // from next on, after a problem
}

var errTooMany = errors.New("there are too many tensors")

func tableSize(t *Tensor) int { return len(t.Name) + len(t.DType) + 8*len(t.Shape) }

func newPieces(format string, src Source, parse func([]byte) (piece, int, error)) *pieces {
	return &pieces{src: src, format: format, parse: parse, need: 1}
}

func (p *pieces) Format() string    { return p.format }
func (p *pieces) Tensors() []Tensor { return p.tensors }
func (p *pieces) Problem() error    { return p.problem }

// Region returns an array or what lies between two. What may be a header is
// given out in small parts, so that the array after it begins a region.
func (p *pieces) Region(off int64) (Region, error) {
	for p.rest == nil && off >= p.next && p.advance() {
	}
	switch {
	case off < p.next:
		return shared(regionOf(p.tensors, off), off, p.next), nil
	case p.rest != nil:
		return p.rest.Region(off)
	case off < p.next+int64(p.need):
		return Region{Begin: off, End: p.next + int64(p.need), DType: codec.Bytes}, nil
	}
	return Region{}, ErrMore
}

// shared cuts a region at end, and lets bytes of no type and small arrays begin
// at off, so that what is told in parts can share a frame.
func shared(r Region, off, end int64) Region {
	r.End = min(r.End, end)
	if r.End-r.Begin < smallArray {
		r.DType = codec.Bytes
	}
	if r.DType == codec.Bytes {
		r.Begin = off
	}
	return r
}

// advance reads more of the next header, and says whether that told anything.
func (p *pieces) advance() bool {
	if p.src.Arrived()-p.next < int64(p.need) {
		return false
	}
	b := make([]byte, p.need)
	if _, err := p.src.ReadAt(b, p.next); err != nil {
		return p.fail(err)
	}
	piece, need, err := p.parse(b)
	switch {
	case err != nil:
		return p.fail(err)
	case need > maxHeader:
		return p.fail(fmt.Errorf("a header of %d bytes is too long", need))
	case need > len(b):
		p.need = need
		return true
	case len(p.tensors) == maxTensors || p.table > maxTable:
		return p.fail(errTooMany)
	}
	end := int64(math.MaxInt64)
	if piece.length < end-p.next {
		end = p.next + piece.length
	}
	if t := piece.tensor; t != nil && t.End <= piece.length {
		t.Begin, t.End = t.Begin+p.next, min(t.End, end-p.next)+p.next
		p.tensors = append(p.tensors, *t)
		p.table += tableSize(t)
	}
	p.next, p.need = end, 1
	return true
}

func (p *pieces) fail(err error) bool {
	p.problem = fmt.Errorf("%s: at byte %d: %w", p.format, p.next, err)
	p.rest = newProbe(p.src, p.next)
	return false
}

// detectArrays tries the formats of arrays that are not those of one library's
// models.
func detectArrays(head []byte, src Source) Layout {
	for _, detect := range []func([]byte, Source) Layout{detectGGUF, detectNPY, detectNPZ} {
		if l := detect(head, src); l != nil {
			return l
		}
	}
	return nil
}

// elementOf maps an element type, as any of the formats spells it, to the
// codec's: no two formats mean different things by one name.
func elementOf(dtype string) codec.DType {
	if d := npyElement(dtype); d != codec.Bytes {
		return d
	}
	return dtypeOf(safetensors.DType(dtype))
}
