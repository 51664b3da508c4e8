package container

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

var allTypes = []codec.DType{codec.Bytes, codec.F8, codec.I16, codec.I32, codec.I64, codec.BF16, codec.F16, codec.F32, codec.F64}

// TestChains: every member of a family reads as it was, whatever its type and
// however many bases it has.
func TestChains(t *testing.T) {
	for _, dtype := range allTypes {
		for bases := 1; bases <= MaxBases; bases++ {
			t.Run(fmt.Sprint(dtype, bases), func(t *testing.T) {
				f := chainOf(t, 4, bases, 3*codec.FrameSize/2/dtype.Size(), codec.FrameSize, dtype, 8<<20)
				for i := range 5 {
					r := f.reader(t, generation(i))
					checkContents(t, r, f.logical[generation(i)])
					checkFrames(t, r, i < 4, bases)
					r.Close()
				}
				if f.open != 0 {
					t.Errorf("%d bases are not released", f.open)
				}
			})
		}
	}
}

// checkFrames: the frames of a dependent's tensor are delta frames, and can be
// checked.
func checkFrames(t *testing.T, r *Reader, dependent bool, bases int) {
	t.Helper()
	deltas := 0
	for _, e := range r.Log().Extents {
		if e.Frame.Coding == CodingDelta {
			deltas++
		}
		if int(e.Frame.Bases) > bases {
			t.Errorf("a frame has %d bases, more than %d", e.Frame.Bases, bases)
		}
		must(t, r.Check(e.Frame))
	}
	if dependent != (deltas > 0) {
		t.Errorf("%d delta frames", deltas)
	}
}

// TestMissingBase: only what needs the base can't be read.
func TestMissingBase(t *testing.T) {
	f := chainOf(t, 2, 2, 1000, codec.FrameSize, codec.BF16, 8<<20)
	delete(f.stored, generation(1))
	r := f.reader(t, generation(0))
	defer r.Close()
	head := make([]byte, 100)
	if _, err := r.ReadAt(head, 0); err != nil || !bytes.Equal(head, bytes.Repeat([]byte{'h'}, 100)) {
		t.Errorf("%q, %v", head, err)
	}
	n, err := r.ReadAt(make([]byte, 300), 0)
	var missing *BaseError
	if n != 100 || !errors.As(err, &missing) || missing.Generation != generation(1) || !errors.Is(err, ErrBase) || !errors.Is(err, errAbsent) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
