package series

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// Fingerprint tells files apart that can't be of one series. Equal fingerprints
// make files candidates, no more: every rank of a model has the same.
type Fingerprint struct {
	// Shape is of the format and of the tensors' names and shapes, in whatever
	// order they are in the file.
	Shape [16]byte
	// Types is of the tensors' element types. Files that differ in it only may be
	// exports of one another.
	Types [16]byte
}

// FingerprintOf returns the fingerprint of a file. One without tensors has the
// zero Fingerprint, and belongs to no series.
func FingerprintOf(format string, tensors []container.Tensor) Fingerprint {
	if len(tensors) == 0 {
		return Fingerprint{}
	}
	sorted := make([]*container.Tensor, len(tensors))
	for i := range tensors {
		sorted[i] = &tensors[i]
	}
	slices.SortStableFunc(sorted, func(a, b *container.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	shape, types := sha256.New(), sha256.New()
	var b []byte
	text := func(s string) {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(format)
	for _, t := range sorted {
		text(t.Name)
		b = binary.LittleEndian.AppendUint64(b, uint64(len(t.Shape)))
		for _, d := range t.Shape {
			b = binary.LittleEndian.AppendUint64(b, d)
		}
		_, _ = shape.Write(b) // a hash never fails
		b = b[:0]
		text(t.DType)
		_, _ = types.Write(b)
		b = b[:0]
	}
	var f Fingerprint
	copy(f.Shape[:], shape.Sum(nil))
	copy(f.Types[:], types.Sum(nil))
	return f
}

// elements returns the codec's element type of each tensor.
func elements(format string, tensors []container.Tensor) []codec.DType {
	types := make([]codec.DType, len(tensors))
	for i, t := range tensors {
		if t.Begin < 0 || t.End <= t.Begin {
			continue
		}
		// One by one: what they say of each other may be wrong.
		r, err := layout.Known(format, []layout.Tensor{layout.Tensor(t)}).Region(t.Begin)
		if err == nil {
			types[i] = r.DType
		}
	}
	return types
}
