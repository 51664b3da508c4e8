package series

import (
	"cmp"
	"context"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/mithrilfs/mithrilfs/codec"
)

// sketch is a few bits of a member's data that hardly change during training:
// which of two elements is the greater one. Members of one series have nearly the
// same, others agree in half of it, so sketches tell which candidates are worth
// coding. They decide nothing else.
type sketch [sketchTensors * sketchPairs / 64]uint64

const (
	sketchTensors = 4
	sketchPairs   = 128 // of each tensor
)

// distance is how many bits differ.
func (s *sketch) distance(o *sketch) int {
	n := 0
	for i := range s {
		n += bits.OnesCount64(s[i] ^ o[i])
	}
	return n
}

// sketch reads the middles of the largest tensors, which are the same elements in
// every file of one shape, whatever the order and the type of its tensors.
func (t *tester) sketch(ctx context.Context, m *Member) (s sketch, err error) {
	list := spans(m)
	list = slices.DeleteFunc(list, func(s span) bool { return s.tensor < 0 })
	slices.SortStableFunc(list, func(a, b span) int {
		return cmp.Or(cmp.Compare(b.count(), a.count()), cmp.Compare(m.Tensors[a.tensor].Name, m.Tensors[b.tensor].Name))
	})
	for k, part := range list[:min(len(list), sketchTensors)] {
		w := part.dtype.Size()
		n := int(min(part.count(), 8*sketchPairs))
		b := make([]byte, n*w)
		if err := t.read(ctx, m, b, part.begin+(part.count()-int64(n))/2*int64(w)); err != nil {
			return s, err
		}
		for i := range min(sketchPairs, n/2) {
			j := i * (n / 2) / sketchPairs
			if ordinal(b, j, part.dtype) > ordinal(b, j+n/2, part.dtype) {
				at := k*sketchPairs + i
				s[at/64] |= 1 << (at % 64)
			}
		}
	}
	return s, nil
}

// ordinal returns an integer that rises with the value of the i-th element.
func ordinal(b []byte, i int, d codec.DType) uint64 {
	w := d.Size()
	var u uint64
	switch w {
	case 1:
		return uint64(b[i])
	case 2:
		u = uint64(binary.LittleEndian.Uint16(b[2*i:]))
	case 4:
		u = uint64(binary.LittleEndian.Uint32(b[4*i:]))
	default:
		u = binary.LittleEndian.Uint64(b[8*i:])
	}
	top := uint64(1) << (8*w - 1)
	switch {
	case d == codec.I16 || d == codec.I32 || d == codec.I64:
		return u ^ top
	case u&top != 0:
		return top - 1 - u&^top
	}
	return u | top
}
