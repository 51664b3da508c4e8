package layout

import (
	"archive/zip"
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// torchSeeds adds the fixtures that match to a fuzz target, if they are not too
// long for it.
func torchSeeds(f *testing.F, pattern string) {
	names, err := filepath.Glob(filepath.Join(torchFixtures, pattern))
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 40<<10 {
			f.Add(b)
			n++
		}
	}
	if n == 0 {
		f.Fatalf("no seeds match %s", pattern)
	}
}

// FuzzPickle: a pickle that arrives byte by byte gives what it gives when all of
// it is there, and never more memory than the bounds.
func FuzzPickle(f *testing.F) {
	names, err := filepath.Glob(filepath.Join(torchFixtures, "*.pt"))
	if err != nil || len(names) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".legacy.pt") {
			continue
		}
		r, err := zip.OpenReader(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, record := range r.File {
			if strings.HasSuffix(record.Name, "data.pkl") {
				file, err := record.OpenRaw() // one has no checksums
				if err != nil {
					f.Fatal(err)
				}
				b, err := io.ReadAll(file)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(b)
			}
		}
		if err := r.Close(); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := &pickle{state: &torchState{}, keys: new([]uint64)}
		n, _, err := whole.run(data)
		pieces := &pickle{state: &torchState{}, keys: new([]uint64)}
		m, err2 := runPieces(t, pieces, data)
		if n != m || (err == nil) != (err2 == nil) || !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("%d bytes, %v; in pieces %d bytes, %v", n, err, m, err2)
		}
		checkPickle(t, whole)
	})
}

func runPieces(t *testing.T, p *pickle, data []byte) (int64, error) {
	at, end := int64(0), int64(1)
	for !p.done && end <= int64(len(data)) {
		if at >= end {
			end = at + 1
			continue
		}
		n, need, err := p.run(data[at:end])
		if err != nil {
			return at + n, err
		}
		if n == 0 && need <= int(end-at) {
			t.Fatalf("at %d: %d bytes were given, %d wanted", at, end-at, need)
		}
		at += n
		end++
	}
	return at, nil
}

func checkPickle(t *testing.T, p *pickle) {
	held := 0
	for i := range p.stack {
		held += p.stack[i].weight()
	}
	if held != p.held || held > pickleMaxHeld || len(p.stack) > pickleMaxStack || len(p.marks) > pickleMaxStack ||
		len(p.memo) > pickleMaxMemo || len(p.late) > pickleMaxLate {
		t.Errorf("too much is held: %d, counted %d", held, p.held)
	}
	s := p.state
	for i := range s.storages {
		s.storages[i].begin = int64(i) << 40
		if s.storages[i].size < 0 {
			t.Errorf("storage %d has %d bytes", i, s.storages[i].size)
		}
	}
	for i := range s.tensors {
		if x := &s.tensors[i]; x.begin < 0 || x.end < x.begin || x.end > s.storages[x.storage].size {
			t.Errorf("tensor %d is not in its storage: %+v", i, *x)
		}
	}
	checkTorchTensors(t, s.table(""))
}

func checkTorchTensors(t *testing.T, list []Tensor) {
	last := int64(0)
	for _, x := range list {
		if x.Begin < last || x.End < x.Begin || x.Name == "" || len(x.Name) > 2*torchMaxName {
			t.Errorf("%+v after byte %d", x, last)
		}
		last = x.End
	}
}

func FuzzTorchZip(f *testing.F) {
	torchSeeds(f, "*[^y].pt")
	torchSeeds(f, "*.distcp")
	f.Fuzz(fuzzTorchFile)
}

func FuzzTorchLegacy(f *testing.F) {
	torchSeeds(f, "*.legacy.pt")
	f.Fuzz(fuzzTorchFile)
}

// fuzzTorchFile: the regions cover the file, in order, whatever it is, and those
// of numbers are the same however the file arrives.
func fuzzTorchFile(t *testing.T, data []byte) {
	arriving, regions := arrive(t, data, 1000)
	if arriving == nil {
		return
	}
	checkTorchTensors(t, arriving.Tensors())
	covered := int64(0)
	for _, r := range regions {
		if r.Begin != covered {
			t.Fatalf("%+v after byte %d", r, covered)
		}
		covered = r.End
	}
	there := &torchFile{src: &file{bytes.NewReader(data), int64(len(data)), -1}, next: (*torchFile).start}
	there.advance(int64(len(data)) - 1)
	a, ok := arriving.(*torchFile)
	if !ok {
		return
	}
	a.advance(int64(len(data)) - 1)
	if !slices.Equal(a.regions, there.regions) || a.problem == nil && a.pos != there.pos || (a.problem == nil) != (there.problem == nil) {
		t.Fatalf("arriving: %v to byte %d, %v\nthere: %v to byte %d, %v", a.regions, a.pos, a.problem, there.regions, there.pos, there.problem)
	}
	last := int64(0)
	for _, r := range a.regions {
		if r.Begin < last || r.End < r.Begin || r.End == math.MaxInt64 && r.DType != codec.Bytes {
			t.Fatalf("%+v after byte %d", r, last)
		}
		last = r.End
	}
	known := Known(a.Format(), a.Tensors())
	for off := int64(0); off < int64(len(data)); {
		r, err := known.Region(off)
		if err != nil || r.Begin > off || r.End <= off {
			t.Fatalf("known, at %d: %+v, %v", off, r, err)
		}
		off = r.End
	}
}
