package layout

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"
)

// fuzzArrays: whatever a file is, it has regions everywhere, in whatever
// pieces it arrives, and the tensors do not depend on them.
func fuzzArrays(f *testing.F, pattern string, detect func([]byte, Source) Layout) {
	names, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds match %s: %v", pattern, err)
	}
	for _, name := range names {
		data := fixture(f, filepath.Base(name))
		f.Add(data[:min(len(data), 16<<10)], uint16(1000), uint16(0))
		f.Add(data[:len(data)/2], uint16(1), uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, most, repeat uint16) {
		data = bytes.Repeat(data, 1+int(repeat)%3)
		if detect(data[:min(len(data), 1<<20)], source(data)) == nil {
			return
		}
		l, _ := play(t, data, -1, int64(most)+1)
		all, _ := play(t, data, int64(len(data)), 1<<18)
		if l == nil || all == nil {
			return
		}
		if !reflect.DeepEqual(tensorsOf(l), tensorsOf(all)) && l.Problem() == nil && all.Problem() == nil {
			t.Fatalf("%+v in pieces of %d, %+v at once", l.Tensors(), most, all.Tensors())
		}
		known := Known(l.Format(), l.Tensors())
		for off := int64(0); off < int64(len(data)); off += int64(most) + 1 {
			if r, err := known.Region(off); err != nil || r.Begin > off || r.End <= off {
				t.Fatalf("known: at %d: %+v %v", off, r, err)
			}
		}
	})
}

func FuzzGGUF(f *testing.F) { fuzzArrays(f, "*.gguf", detectGGUF) }
func FuzzNPY(f *testing.F)  { fuzzArrays(f, "*.npy", detectNPY) }
func FuzzNPZ(f *testing.F)  { fuzzArrays(f, "*.npz", detectNPZ) }
