package store

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A formatFile is a file of some format as its library writes it, and what the
// tensor table should say of it.
type formatFile struct {
	format string
	data   []byte
	// later is written once the rest is there, at its offset.
	later   map[int64][]byte
	tensors []string // name and type
}

// npyArray is one array as numpy saves it.
func npyArray(descr string, size int, data []byte) []byte {
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }", descr, len(data)/size)
	dict += strings.Repeat(" ", 117-len(dict)) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(dict)), 0)
	return append(append(b, dict...), data...)
}

// npzOf writes as zipfile does: each header has no sizes until its member is
// written.
func npzOf(t *testing.T, names []string, arrays [][]byte) formatFile {
	f := formatFile{format: "npz", later: make(map[int64][]byte)}
	var whole bytes.Buffer
	z := zip.NewWriter(&whole)
	for i, name := range names {
		h := &zip.FileHeader{Name: name + ".npy", Method: zip.Store, CompressedSize64: uint64(len(arrays[i])), UncompressedSize64: uint64(len(arrays[i]))}
		w, err := z.CreateRaw(h)
		must(t, err)
		_, err = w.Write(arrays[i])
		must(t, err)
	}
	must(t, z.Close())
	f.data = whole.Bytes()
	for at := bytes.Index(f.data, []byte("PK\x03\x04")); at >= 0; {
		f.later[int64(at)] = bytes.Clone(f.data[at : at+30])
		clear(f.data[at+14 : at+26]) // checksum and sizes
		next := bytes.Index(f.data[at+30:], []byte("PK\x03\x04"))
		if next < 0 {
			break
		}
		at += 30 + next
	}
	return f
}

// ggufOf has a tensor of each type.
func ggufOf(types map[string]uint32, data map[string][]byte, elements map[string]uint64) formatFile {
	le := binary.LittleEndian
	f := formatFile{format: "gguf"}
	text := func(s string) { f.data = append(le.AppendUint64(f.data, uint64(len(s))), s...) }
	f.data = le.AppendUint64(le.AppendUint64([]byte("GGUF\x03\x00\x00\x00"), uint64(len(types))), 2)
	text("general.architecture")
	f.data = le.AppendUint32(f.data, 8)
	text("llama")
	text("tokens")
	f.data = le.AppendUint64(le.AppendUint32(le.AppendUint32(f.data, 9), 8), 20_000)
	for i := range 20_000 {
		text(fmt.Sprint("token", i))
	}
	var names []string
	for name := range types {
		names = append(names, name)
	}
	slices.Sort(names)
	offset := 0
	for _, name := range names {
		text(name)
		f.data = le.AppendUint64(le.AppendUint32(f.data, 1), elements[name])
		f.data = le.AppendUint64(le.AppendUint32(f.data, types[name]), uint64(offset))
		offset += (len(data[name]) + 31) &^ 31
	}
	pad := func() { f.data = append(f.data, make([]byte, -len(f.data)&31)...) }
	pad()
	for _, name := range names {
		f.data = append(f.data, data[name]...)
		pad()
	}
	return f
}

func formatFiles(t *testing.T) map[string]formatFile {
	w := testWeights(t)
	npy := func(n int) []byte { return npyArray("<V2", 2, w[:n]) }
	files := map[string]formatFile{
		"one.npy":   {format: "npy", data: npy(3_000_000), tensors: []string{"arr_0 <V2"}},
		"three.npy": {format: "npy", data: slices.Concat(npy(1_000_002), npyArray("<i8", 8, w[:800]), npy(1_500_000)), tensors: []string{"arr_0 <V2", "arr_1 <i8", "arr_2 <V2"}},
	}
	z := npzOf(t, []string{"a", "layer.b", "c"}, [][]byte{npy(1_000_002), npy(400), npy(2_000_000)})
	z.tensors = []string{"a <V2", "layer.b <V2", "c <V2"}
	files["some.npz"] = z
	g := ggufOf(map[string]uint32{"a": 30, "b": 12, "c": 30, "d": 0},
		map[string][]byte{"a": w[:1_000_002], "b": w[:144*1000], "c": w[:1_200_000], "d": w[:40]},
		map[string]uint64{"a": 500_001, "b": 256_000, "c": 600_000, "d": 10})
	g.tensors = []string{"a BF16", "b Q4_K", "c BF16", "d F32"}
	files["model.gguf"] = g
	return files
}

// writeFormat writes f in pieces of up to most bytes, reading back and flushing
// on the way, and returns what the file must have in the end.
func writeFormat(t *testing.T, s *Store, name string, f formatFile, most int, rnd *rand.Rand) []byte {
	t.Helper()
	file, err := s.Create(name, 0o600, Caller{})
	must(t, err)
	want, later := bytes.Clone(f.data), maps.Clone(f.later)
	for off := 0; off < len(want); {
		n := min(1+rnd.IntN(most), len(want)-off)
		_, err := file.WriteAt(want[off:off+n], int64(off))
		must(t, err)
		off += n
		for at, b := range later { // as far as it lies behind
			if at+int64(len(b)) < int64(off-2000) {
				delete(later, at)
				_, err := file.WriteAt(b, at)
				must(t, err)
				copy(want[at:], b)
			}
		}
		if rnd.IntN(4) == 0 {
			must(t, file.Flush())
		}
		from := rnd.IntN(off)
		got := make([]byte, min(off-from, 5000))
		_, err = file.ReadAt(got, int64(from))
		must(t, err)
		if !bytes.Equal(got, want[from:from+len(got)]) {
			t.Fatalf("%s: wrong bytes at %d while it is written", name, from)
		}
	}
	must(t, file.Release(true))
	return want
}

// TestFormats: files of each format, and what is left of them when they are cut,
// joined and shuffled, read back as they were written. Whole ones have their
// tensors in the table, and gain.
func TestFormats(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for name, f := range formatFiles(t) {
		half := len(f.data) / 2
		shuffled := bytes.Clone(f.data)
		for i := 1 << 16; i+1<<16 <= len(shuffled); i += 1 << 16 {
			j := rnd.IntN(i>>16+1) << 16
			for k := range 1 << 16 {
				shuffled[i+k], shuffled[j+k] = shuffled[j+k], shuffled[i+k]
			}
		}
		for what, data := range map[string][]byte{
			"whole": f.data, "cut": f.data[:rnd.IntN(len(f.data))], "cut to a few bytes": f.data[:100], "twice": slices.Concat(f.data, f.data),
			"from the middle": f.data[half+1:], "halves swapped": slices.Concat(f.data[half:], f.data[:half]), "shuffled": shuffled,
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				dir := t.TempDir()
				s, err := Open(dir, Options{Workers: 2})
				must(t, err)
				g := f
				g.data = data
				want := writeFormat(t, s, "f", g, 700_000, rnd)
				must(t, s.Close())
				s, err = Open(dir, Options{Workers: 2})
				must(t, err)
				defer func() { must(t, s.Close()) }()
				r, err := s.Open(context.Background(), "f", Read)
				must(t, err)
				got, err := io.ReadAll(io.NewSectionReader(r, 0, int64(len(want)+1)))
				must(t, err)
				if !bytes.Equal(got, want) {
					t.Fatal("it reads back otherwise")
				}
				must(t, r.Release(false))
				if what == "whole" {
					checkFormat(t, filepath.Join(dir, "f"), f)
				}
			})
		}
	}
}

// TestManySmallArrays: an archive of small members, each of whose headers is
// written twice, ends in few frames.
func TestManySmallArrays(t *testing.T) {
	const count, size = 2000, 1000
	w := testWeights(t)
	var names []string
	var arrays [][]byte
	for i := range count {
		names = append(names, fmt.Sprint("layer.", i))
		arrays = append(arrays, npyArray("<V2", 2, w[i*size:][:size]))
	}
	f := npzOf(t, names, arrays)
	dir := t.TempDir()
	s, err := Open(dir, Options{Workers: 2})
	must(t, err)
	want := writeFormat(t, s, "f", f, 3000, rand.New(rand.NewPCG(2, 2)))
	path := filepath.Join(dir, "f")
	within(t, time.Minute, func() {
		for summaryOf(t, path).Frames > 50 { // until it has been stored anew
			time.Sleep(10 * time.Millisecond)
		}
	})
	must(t, s.Close())
	x, err := Inspect(path)
	must(t, err)
	got := make([]byte, len(want))
	_, err = x.ReadAt(got, 0)
	must(t, err)
	if sum := x.Summary(); !bytes.Equal(got, want) || sum.Tensors != count || sum.Ratio < 1.3 {
		t.Errorf("%+v", sum)
	}
	must(t, x.Close())
}

func summaryOf(t *testing.T, path string) Summary {
	t.Helper()
	x, err := Inspect(path)
	must(t, err)
	defer func() { must(t, x.Close()) }()
	return x.Summary()
}

func checkFormat(t *testing.T, path string, f formatFile) {
	t.Helper()
	x, err := Inspect(path)
	must(t, err)
	defer func() { must(t, x.Close()) }()
	if s := x.Summary(); s.Format != f.format || s.State != StateSealed || s.Ratio < 1.4 {
		t.Errorf("%+v", s)
	}
	var got []string
	for _, tensor := range x.Tensors(0, 100) {
		got = append(got, tensor.Name+" "+tensor.DType)
		if strings.HasSuffix(tensor.DType, "V2") && tensor.Logical > 1<<16 && tensor.Ratio < 1.45 {
			t.Errorf("%+v", tensor)
		}
	}
	if !slices.Equal(got, f.tensors) {
		t.Errorf("%q, want %q", got, f.tensors)
	}
	for i := range x.Summary().Frames {
		must(t, x.Check(i))
	}
}
