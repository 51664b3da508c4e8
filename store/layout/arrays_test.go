package layout

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// array is what the libraries themselves say about a fixture.
type array struct {
	Name   string   `json:"name"`
	DType  string   `json:"dtype"`
	Shape  []uint64 `json:"shape"`
	Begin  int64    `json:"begin"`
	Length int64    `json:"length"`
}

func fixtures(t testing.TB) map[string][]array {
	t.Helper()
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]array
	if err := json.Unmarshal(b, &all); err != nil || len(all) < 15 {
		t.Fatal(len(all), err)
	}
	return all
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// elements is what the codec should be told of an array.
func elements(dtype string) codec.DType {
	for d, names := range map[codec.DType][]string{
		codec.F32: {"<f4", "<c8", "F32"}, codec.F64: {"<f8", "F64"}, codec.F16: {"<f2", "F16"}, codec.BF16: {"BF16"},
		codec.I16: {"<i2", "I16"}, codec.I32: {">f4", "<i4", "I32"}, codec.I64: {"<i8", "I64", "<M8[s]"},
	} {
		if slices.Contains(names, dtype) {
			return d
		}
	}
	return codec.Bytes
}

// play asks for regions as a file does that is written: each one when the ones
// before it have arrived, and in pieces of at most most bytes.
func play(t testing.TB, data []byte, size, most int64) (Layout, []Region) {
	t.Helper()
	src := source(data)
	src.arrived, src.size = 0, size
	l := Detect(data[:min(len(data), 1<<20)], src)
	if l == nil {
		return nil, nil
	}
	var regions []Region
	for off := int64(0); off < int64(len(data)); {
		src.arrived = off
		r, err := l.Region(off)
		if errors.Is(err, ErrMore) {
			r, err = Region{off, off + 1<<18, codec.Bytes}, nil
		}
		again, _ := l.Region(off)
		if err != nil || r.Begin < 0 || r.Begin > off || r.End <= off || !r.DType.Valid() {
			t.Fatalf("%s: at %d of %d: %+v %v", l.Format(), off, len(data), r, err)
		}
		if again.End > off && (again.End != r.End || again.DType != r.DType) {
			t.Fatalf("%s: at %d: %+v, then %+v", l.Format(), off, r, again)
		}
		r.Begin, r.End = off, off+min(r.End-off, most, int64(len(data))-off)
		regions = append(regions, r)
		off = r.End
	}
	src.arrived = int64(len(data))
	_, _ = l.Region(src.arrived)
	checkOrder(t, l)
	return l, regions
}

func checkOrder(t testing.TB, l Layout) {
	t.Helper()
	end := int64(0)
	for _, tensor := range l.Tensors() {
		if tensor.Begin < end || tensor.End < tensor.Begin {
			t.Fatalf("%s: %+v after byte %d", l.Format(), tensor, end)
		}
		end = tensor.End
	}
}

func tensorsOf(l Layout) []array {
	var got []array
	for _, t := range l.Tensors() {
		got = append(got, array{t.Name, t.DType, append([]uint64{}, t.Shape...), t.Begin, t.End - t.Begin})
	}
	return got
}

// TestFixtures: files of the real libraries, arriving in all ways.
func TestFixtures(t *testing.T) {
	for name, want := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			data := fixture(t, name)
			for _, most := range []int64{math.MaxInt64, 1 << 18, 4096, 100, 1} {
				for _, size := range []int64{-1, int64(len(data))} {
					l, regions := play(t, data, size, most)
					if l == nil || l.Format() != filepath.Ext(name)[1:] {
						t.Fatalf("recognised as %v", l)
					}
					if got := tensorsOf(l); !reflect.DeepEqual(got, want) {
						t.Fatalf("in pieces of %d:\n%+v, want\n%+v", most, got, want)
					}
					checkCover(t, l, regions, want)
				}
			}
			l := Detect(data, source(data))
			_, _ = l.Region(int64(len(data)))
			if got := tensorsOf(l); !reflect.DeepEqual(got, want) {
				t.Errorf("all at once: %+v, want\n%+v", got, want)
			}
			if l.Problem() != nil {
				t.Error(l.Problem())
			}
		})
	}
}

// checkCover: the regions of an array have its type, from its first byte on.
func checkCover(t *testing.T, l Layout, regions []Region, want []array) {
	t.Helper()
	_, hasHeaders := l.(*pieces)
	for _, a := range want {
		if a.Length == 0 || elements(a.DType) == codec.Bytes || hasHeaders && a.Length < smallArray {
			continue
		}
		starts := false
		for _, r := range regions {
			starts = starts || r.Begin == a.Begin
			if r.Begin < a.Begin+a.Length && r.End > a.Begin && r.DType != elements(a.DType) {
				t.Errorf("%s of %s has %+v", a.Name, a.DType, r)
			}
		}
		if !starts {
			t.Errorf("no region begins with %s, at %d", a.Name, a.Begin)
		}
	}
}

// TestKnownArrays: what is read back from a container's table gives the same
// elements.
func TestKnownArrays(t *testing.T) {
	for name, want := range fixtures(t) {
		data := fixture(t, name)
		l, _ := play(t, data, -1, 1<<18)
		known := Known(l.Format(), l.Tensors())
		if known.Format() != l.Format() {
			t.Errorf("%s has become %s", name, known.Format())
		}
		for _, a := range want {
			if a.Length == 0 {
				continue
			}
			r, err := known.Region(a.Begin + a.Length/2)
			if err != nil || r != (Region{a.Begin, a.Begin + a.Length, elements(a.DType)}) {
				t.Errorf("%s: %s: %+v %v", name, a.Name, r, err)
			}
		}
	}
}

// TestDamagedArrays: cut, joined, shuffled and changed files still have regions
// everywhere.
func TestDamagedArrays(t *testing.T) {
	for name := range fixtures(t) {
		data := fixture(t, name)
		step := max(len(data)/50, 1)
		for n := 0; n < len(data); n += step {
			play(t, data[:n], -1, 1<<18)
			play(t, data[:n], int64(len(data)), 1<<18)
			changed := bytes.Clone(data)
			changed[n] ^= 0xff
			play(t, changed, -1, 1<<18)
			play(t, slices.Concat(data[:n], data[n/2:], data), -1, 1<<18)
		}
		if l, _ := play(t, slices.Concat(data, data), -1, 1<<18); l == nil {
			t.Errorf("%s, twice, is not recognised", name)
		}
	}
}

// TestImpossibleArrays: what can't be is left to the probe, with a reason.
func TestImpossibleArrays(t *testing.T) {
	npy := func(dict string) []byte {
		return append(binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(dict))), dict...)
	}
	good := npy(`{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }`)
	good = append(good, make([]byte, 16)...)
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	gguf := func(values, tensors uint64) []byte {
		return le.AppendUint64(le.AppendUint64([]byte("GGUF\x03\x00\x00\x00"), tensors), values)
	}
	tensor := func(b []byte, name string, kind uint32, offset uint64, shape ...uint64) []byte {
		b = le.AppendUint32(text(b, name), uint32(len(shape)))
		for _, d := range shape {
			b = le.AppendUint64(b, d)
		}
		return le.AppendUint64(le.AppendUint32(b, kind), offset)
	}
	value := func(b []byte, key string, kind uint32, bytes ...byte) []byte {
		return append(le.AppendUint32(text(b, key), kind), bytes...)
	}
	for name, c := range map[string]struct {
		data    []byte
		problem string
	}{
		"npy: not a dict":           {npy(`[1, 2]`), "not recognised"},
		"npy: too long":             {npy(`{'descr': '<f8', 'shape': (4294967296, 4294967296)}`), "not recognised"},
		"npy: objects":              {npy(`{'descr': '|O', 'shape': (3,)}`), "not recognised"},
		"npy: nested for ever":      {npy(strings.Repeat("[", 5000)), "not recognised"},
		"npy: open string":          {npy(`{'descr': '<f4`), "not recognised"},
		"npy: version 9":            {[]byte("\x93NUMPY\x09\x00\x10\x00 a long enough header"), "not recognised"},
		"npy: then something else":  {append(bytes.Clone(good), "something"...), "no array begins here"},
		"gguf: too many tensors":    {gguf(0, 1<<40), "not recognised"},
		"gguf: version 1":           {[]byte("GGUF\x01\x00\x00\x00" + strings.Repeat("\x00", 40)), "not recognised"},
		"gguf: overlap":             {append(tensor(tensor(gguf(0, 2), "a", 0, 0, 8), "b", 0, 16, 8), make([]byte, 99)...), "overlaps"},
		"gguf: rank":                {append(le.AppendUint32(text(gguf(0, 1), "a"), 99), make([]byte, 99)...), "dimensions"},
		"gguf: huge":                {append(tensor(gguf(0, 1), "a", 0, 0, 1<<40, 1<<40), make([]byte, 99)...), "impossible"},
		"gguf: not whole blocks":    {append(tensor(gguf(0, 1), "a", 12, 0, 100), make([]byte, 99)...), "impossible"},
		"gguf: far":                 {append(tensor(gguf(0, 1), "a", 0, 1<<62, 1), make([]byte, 99)...), "too far"},
		"gguf: unknown value":       {append(value(gguf(1, 0), "k", 13), make([]byte, 99)...), "type 13"},
		"gguf: long key":            {append(le.AppendUint64(gguf(1, 0), 1<<30), make([]byte, 99)...), "too long"},
		"gguf: alignment":           {append(value(gguf(1, 0), ggufAlignmentKey, ggufU32, 3, 0, 0, 0), make([]byte, 99)...), "alignment"},
		"gguf: string beyond reach": {append(value(gguf(1, 1), "k", ggufString, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), make([]byte, 99)...), "too many"},
		"gguf: array in array": {append(value(gguf(1, 0), "k", ggufArray),
			bytes.Repeat([]byte{ggufArray, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, 9)...), "impossible"},
		"npz: then something else": {append(fixture(t, "weights.npz")[:183+4800], "something"...), "no part of a zip"},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := play(t, c.data, -1, 1<<18)
			switch {
			case l == nil:
				if c.problem != "not recognised" {
					t.Error("not recognised")
				}
			case l.Problem() == nil || !strings.Contains(l.Problem().Error(), c.problem):
				t.Errorf("%v, want %q", l.Problem(), c.problem)
			case strings.HasPrefix(name, "npy") && len(l.Tensors()) != 1:
				t.Errorf("what came before the problem is lost: %+v", l.Tensors())
			}
		})
	}
}

// TestUnknownTensorType: a type of the future ends where the next tensor begins.
func TestUnknownTensorType(t *testing.T) {
	data := fixture(t, "v3.gguf")
	const name = "blk.0.attn_q.weight" // two dimensions
	at := bytes.Index(data, []byte(name)) + len(name) + 4 + 16
	binary.LittleEndian.PutUint32(data[at:], 99)
	l, _ := play(t, data, -1, 1<<18)
	want := fixtures(t)["v3.gguf"]
	i := slices.IndexFunc(want, func(a array) bool { return a.Name == name })
	want[i].DType = "type 99"
	if got := tensorsOf(l); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%+v", got, want)
	}
}

// TestHugeVocabulary: a header of megabytes is read as it comes, in few steps.
func TestHugeVocabulary(t *testing.T) {
	le := binary.LittleEndian
	const tokens = 200_000
	b := le.AppendUint64(le.AppendUint64([]byte("GGUF\x03\x00\x00\x00"), 1), 1)
	b = append(le.AppendUint64(b, 6), "tokens"...)
	b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, ggufArray), ggufString), tokens)
	for i := range tokens {
		word := strings.Repeat("x", i%13)
		b = append(le.AppendUint64(b, uint64(len(word))), word...)
	}
	b = append(le.AppendUint64(b, 1), 'w')
	b = le.AppendUint64(le.AppendUint32(le.AppendUint64(le.AppendUint32(b, 1), 1<<20), 30), 0)
	b = append(b, make([]byte, -len(b)&31)...)
	start := int64(len(b))
	b = append(b, make([]byte, 2<<20)...)
	l, regions := play(t, b, -1, 1<<18)
	if got := l.Tensors(); len(got) != 1 || got[0].Begin != start || got[0].DType != "BF16" {
		t.Fatalf("%+v", got)
	}
	if !slices.ContainsFunc(regions, func(r Region) bool { return r.Begin == start && r.DType == codec.BF16 }) {
		t.Error("no region begins with the tensor")
	}
	if len(regions) > 100 {
		t.Errorf("%d regions", len(regions))
	}
	g := l.(*gguf)
	if cap(g.window) > 0 {
		t.Error("the header is kept")
	}
}

func TestParseLiteral(t *testing.T) {
	for text, want := range map[string]any{
		`{'a': (1, 2L), "b": [True, False, None], }`: map[string]any{"a": []any{uint64(1), uint64(2)}, "b": []any{true, false, nil}},
		`()`:             []any{},
		`(3,)`:           []any{uint64(3)},
		`(3)`:            uint64(3),
		`'it\'s'`:        `it\'s`,
		" {} \n\x00":     map[string]any{},
		`[('x', '<f4')]`: []any{[]any{"x", "<f4"}},
	} {
		if got, err := parseLiteral(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "{", "{1: 2}", "{'a'}", "(1 2)", "-1", "1.5", "'", "'\\", "nan", "{} {}", "99999999999999999999", strings.Repeat("(", 100)} {
		if got, err := parseLiteral(text); err == nil {
			t.Errorf("%q: %#v", text, got)
		}
	}
}

func TestNPYElement(t *testing.T) {
	for name, want := range map[string]codec.DType{
		"<f2": codec.F16, "<f4": codec.F32, "<f8": codec.F64, "<f16": codec.Bytes, ">f2": codec.I16, ">f8": codec.I64, "<c16": codec.F64,
		">c8": codec.I32, "|i1": codec.Bytes, "|b1": codec.Bytes, "<u2": codec.I16, ">u4": codec.I32, "<u8": codec.I64,
		"<M8[ns]": codec.I64, "<m8[25s]": codec.I64, "|V2": codec.BF16, "<V2": codec.BF16, "|V12": codec.Bytes, "<U8": codec.Bytes,
		"|S4": codec.Bytes, "|O": codec.Bytes, "": codec.Bytes, "f4": codec.Bytes, "BF16": codec.Bytes, "<": codec.Bytes, "<f-4": codec.Bytes,
	} {
		if got := npyElement(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
