package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// file is a Source of which the first arrived bytes are there.
type file struct {
	*bytes.Reader
	arrived int64
	size    int64
}

func (f *file) Arrived() int64 { return f.arrived }
func (f *file) Size() int64    { return f.size }

func source(b []byte) *file { return &file{bytes.NewReader(b), int64(len(b)), int64(len(b))} }

func header(json string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(json))), json...)
}

func TestSafetensorsRegions(t *testing.T) {
	h := header(`{"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]},"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"e":{"dtype":"I64","shape":[0],"data_offsets":[16,16]}}`)
	n := int64(len(h))
	src := source(append(h, make([]byte, 16)...))
	l := Detect(h, src)
	if l == nil || l.Format() != FormatSafetensors {
		t.Fatal("not recognised")
	}
	for _, c := range []struct {
		off  int64
		want Region
	}{
		{0, Region{0, n, codec.Bytes}},
		{n - 1, Region{0, n, codec.Bytes}},
		{n, Region{n, n + 4, codec.BF16}},
		{n + 3, Region{n, n + 4, codec.BF16}},
		{n + 4, Region{n + 4, n + 16, codec.F32}},
		{n + 16, Region{n + 16, math.MaxInt64, codec.Bytes}},
	} {
		if got, err := l.Region(c.off); err != nil || got != c.want {
			t.Errorf("at %d: %+v, %v; want %+v", c.off, got, err, c.want)
		}
	}
	if ts := l.Tensors(); len(ts) != 3 || ts[0].Name != "a" || ts[1].Name != "b" {
		t.Errorf("%+v", ts)
	}
	known := Known(l.Format(), l.Tensors())
	for off := n; off < n+20; off++ {
		a, _ := l.Region(off)
		b, _ := known.Region(off)
		if a != b {
			t.Errorf("at %d: %+v when written, %+v when read", off, a, b)
		}
	}
}

func TestSafetensorsHeaderStillArriving(t *testing.T) {
	h := header(`{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`)
	src := source(append(h, 0, 0, 0, 0))
	src.arrived = 20
	l := Detect(h[:20], src)
	if _, err := l.Region(int64(len(h))); !errors.Is(err, ErrMore) {
		t.Errorf("%v", err)
	}
	if r, err := l.Region(5); err != nil || r.End != int64(len(h)) {
		t.Errorf("%+v %v", r, err)
	}
	src.arrived = int64(len(h))
	if r, err := l.Region(int64(len(h))); err != nil || r.DType != codec.BF16 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestBrokenHeaderIsBytes: a header that breaks a rule costs ratio only, and
// the reason is kept.
func TestBrokenHeaderIsBytes(t *testing.T) {
	h := header(`{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,4]}}`)
	l := Detect(h, source(append(h, 0, 0, 0, 0)))
	r, err := l.Region(int64(len(h)))
	if err != nil || r.DType != codec.Bytes || l.Problem() == nil {
		t.Errorf("%+v %v %v", r, err, l.Problem())
	}
}

// TestBrokenHeaderOfNumbers: what follows a header that breaks a rule is probed.
func TestBrokenHeaderOfNumbers(t *testing.T) {
	h := header(`{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,4]}}`)
	src := source(append(h, realWeights(t)[:1<<20]...))
	src.arrived = int64(len(h))
	l := Detect(h, src)
	for off := int64(len(h)); off < 1<<20; {
		src.arrived = off
		r, err := l.Region(off)
		if err != nil || r.End <= off {
			t.Fatalf("at %d: %+v %v", off, r, err)
		}
		if off > 1<<19 && r.DType != codec.BF16 {
			t.Errorf("at %d: %+v", off, r)
		}
		off = r.End
	}
}

func numbersOf(n int, put func([]byte, float64) []byte) []byte {
	r := rand.New(rand.NewPCG(1, 1))
	var b []byte
	for range n {
		b = put(b, r.NormFloat64()*0.02)
	}
	return b
}

func TestDetectNumbers(t *testing.T) {
	le := binary.LittleEndian
	bf16, err := os.ReadFile("../../testdata/checkpoints/small_model.bin")
	if err != nil {
		t.Fatal(err)
	}
	f32 := numbersOf(1<<18, func(b []byte, v float64) []byte { return le.AppendUint32(b, math.Float32bits(float32(v))) })
	f64 := numbersOf(1<<17, func(b []byte, v float64) []byte { return le.AppendUint64(b, math.Float64bits(v)) })
	i64 := numbersOf(1<<17, func(b []byte, v float64) []byte { return le.AppendUint64(b, uint64(int64(v*1e6))) })
	random := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random) // never fails
	text, err := os.ReadFile("numbers.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		data  []byte
		dtype codec.DType
		phase int64
	}{
		{"bf16 weights", bf16[:1<<20], codec.BF16, 0},
		{"bf16 weights, out of step", bf16[1 : 1<<20], codec.BF16, 1},
		{"fp32", f32, codec.F32, 0},
		{"fp32 after 3 bytes", append([]byte{1, 2, 3}, f32...), codec.F32, 3},
		{"fp64", f64, codec.F64, 0},
		{"int64", i64, codec.I64, 0},
		{"random", random, codec.Bytes, 0},
		{"zeros", make([]byte, 1<<20), codec.Bytes, 0},
		{"text", bytes.Repeat(text, 20), codec.Bytes, 0},
		{"equal lines", bytes.Repeat([]byte(`{"loss": 2.31, "epoch": 1},`+"\n"), 10000), codec.Bytes, 0},
		{"SQLite", append([]byte("SQLite format 3\x00"), f32...), codec.Bytes, 0},
		{"too short", f32[:1000], codec.Bytes, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := Detect(c.data, source(c.data))
			if l == nil {
				if c.dtype != codec.Bytes {
					t.Error("not recognised")
				}
				return
			}
			r, err := l.Region(1000)
			if err != nil || c.dtype == codec.Bytes {
				t.Fatalf("%+v %v, want %v", r, err, c.dtype)
			}
			// Another type or phase will do where it separates the bits as well.
			sample := newProbe(source(c.data), 0).sample(0, int64(len(c.data)), pieceSize)
			want := planeCost(sample, c.dtype.Size(), c.dtype.Plan().Rotation(), int(c.phase))
			got := planeCost(sample, r.DType.Size(), r.DType.Plan().Rotation(), int(r.Begin))
			if r.DType.Size() != c.dtype.Size() || got > want+0.001 {
				t.Errorf("%+v costs %.4f bits a byte, %v at phase %d %.4f", r, got, c.dtype, c.phase, want)
			}
		})
	}
}
