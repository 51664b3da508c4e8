package layout

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// section is a part of a file with elements of one width, 0 where any will do.
type section struct {
	name  string
	data  []byte
	width int
}

func realWeights(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../testdata/checkpoints/small_model.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// sections is a file of an engine that nobody knows: it changes type, phase and
// character again and again.
func sections(t testing.TB) []section {
	le := binary.LittleEndian
	weights := realWeights(t)
	f32 := numbersOf(1<<19, func(b []byte, v float64) []byte { return le.AppendUint32(b, math.Float32bits(float32(v))) })
	f64 := numbersOf(1<<18, func(b []byte, v float64) []byte { return le.AppendUint64(b, math.Float64bits(v)) })
	i64 := numbersOf(1<<18, func(b []byte, v float64) []byte { return le.AppendUint64(b, uint64(int64(v*1e6))) })
	return []section{
		{"bf16", weights[:3<<20], 2},
		{"name", []byte("xyz"), 0},
		{"fp32, out of step", f32, 4},
		{"zeros", make([]byte, 1<<20), 0},
		{"fp32 after zeros", f32, 4},
		{"text", bytes.Repeat([]byte("{\"step\": 12, \"loss\": 2.31}\n"), 1<<16), 1},
		{"bf16 after text", weights[:3<<20], 2},
		{"noise", noise(3 << 20), 1},
		{"another name", []byte("xyzzy"), 0},
		{"int64", i64, 8},
		{"fp64", f64, 8},
		{"bf16 at the end", weights[:2<<20], 2},
	}
}

// TestProbeFollowsChanges: most of each section has the right width, also when
// only what came before is known.
func TestProbeFollowsChanges(t *testing.T) {
	var data []byte
	all := sections(t)
	for _, s := range all {
		data = append(data, s.data...)
	}
	for _, c := range []struct {
		name    string
		settled bool
		least   float64
	}{{"arriving", false, 0.75}, {"settled", true, 0.90}} {
		t.Run(c.name, func(t *testing.T) {
			src := source(data)
			if !c.settled {
				src.arrived = 0
			}
			l := Detect(data[:1<<20], src)
			width := make([]byte, len(data)) // as told, for each byte
			for off := int64(0); off < int64(len(data)); {
				src.arrived = max(src.arrived, off)
				r, err := l.Region(off)
				if err != nil || r.Begin > off || r.End <= off {
					t.Fatalf("at %d: %+v %v", off, r, err)
				}
				for end := min(r.End, int64(len(data))); off < end; off++ {
					width[off] = byte(r.DType.Size())
				}
			}
			at := 0
			for _, s := range all {
				right := bytes.Count(width[at:at+len(s.data)], []byte{byte(s.width)})
				if part := float64(right) / float64(len(s.data)); s.width > 0 && part < c.least {
					t.Errorf("%s: %.0f %% has width %d", s.name, part*100, s.width)
				}
				at += len(s.data)
			}
		})
	}
}

// TestProbeIsSteady: data that go on as before are one run.
func TestProbeIsSteady(t *testing.T) {
	data := realWeights(t)
	src := source(data)
	src.arrived = 0
	l := Detect(data[:1<<20], src).(*probe)
	for off := int64(0); off < int64(len(data)); {
		src.arrived = off
		r, _ := l.Region(off)
		off = r.End
	}
	if len(l.runs) != 1 {
		t.Errorf("%+v", l.runs)
	}
}

// counted counts the bytes that are read.
type counted struct {
	*file
	read int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.read += len(p)
	return c.file.ReadAt(p, off)
}

// TestProbeCost: data that change all the time cost no more than a tenth of
// them is read; steady data far less.
func TestProbeCost(t *testing.T) {
	weights := realWeights(t)
	random := noise(1 << 16)
	var restless []byte
	for i := range 64 {
		restless = append(restless, weights[i<<16:][:1<<16]...)
		restless = append(restless, random[i:]...)
	}
	for name, c := range map[string]struct {
		data []byte
		most float64
	}{"restless": {restless, 0.12}, "steady": {weights, 0.03}, "noise": {noise(8 << 20), 0.03}} {
		src := &counted{file: source(c.data)}
		src.arrived = 0
		p := newProbe(src, 0)
		for off := int64(0); off < int64(len(c.data)); {
			src.arrived = off
			r, _ := p.Region(off)
			off = r.End
		}
		if part := float64(src.read) / float64(len(c.data)); part > c.most {
			t.Errorf("%s: %.1f %% was read", name, part*100)
		}
	}
}

// TestProbeOutOfOrder: a write far away costs one look, and the bytes that were
// passed over are looked at when they are asked for.
func TestProbeOutOfOrder(t *testing.T) {
	weights := realWeights(t)
	src := &counted{file: source(weights)}
	p := newProbe(src, 0)
	for _, off := range []int64{9 << 20, 100, 5 << 20, 5<<20 + 8, 1<<40 + 4, 9<<20 + 1<<16, 1 << 30} {
		before := src.read
		r, err := p.Region(off)
		if err != nil || r.Begin > off || r.End <= off || off < int64(len(weights)) && r.DType != codec.BF16 {
			t.Errorf("at %d: %+v %v", off, r, err)
		}
		if read := src.read - before; read > 32<<10 {
			t.Errorf("at %d: %d bytes were read", off, read)
		}
	}
}

// TestProbeAtTheEndOfOffsets: the last offsets that a file can have do not wrap.
func TestProbeAtTheEndOfOffsets(t *testing.T) {
	p := newProbe(source(realWeights(t)), 3)
	_, _ = p.Region(100)
	for _, off := range []int64{1 << 62, math.MaxInt64 - 1<<17, math.MaxInt64 - 1, math.MaxInt64 - 70_000, math.MaxInt64 - 9, 1<<62 + 5} {
		if r, err := p.Region(off); err != nil || r.Begin > off || r.End <= off {
			t.Errorf("at %d: %+v %v", off, r, err)
		}
	}
}

// TestProbeForgets: however often data change, the runs that are remembered are
// bounded, and all offsets keep a region.
func TestProbeForgets(t *testing.T) {
	p := newProbe(source(nil), 0)
	for i := range int64(3 * maxRuns) {
		p.push(run{i * 100, i*100 + 100, codec.DType(i % 2 * int64(codec.BF16)), false})
	}
	if len(p.runs) > maxRuns {
		t.Errorf("%d runs", len(p.runs))
	}
	end := int64(0)
	for _, r := range p.runs {
		if r.begin != end {
			t.Fatalf("%+v after %d", r, end)
		}
		end = r.end
	}
	for off := int64(0); off < end; off += 99 {
		if r, err := p.Region(off); err != nil || r.Begin > off || r.End <= off {
			t.Fatalf("at %d: %+v %v", off, r, err)
		}
	}
}

// TestNumbersFurtherOn: a long header of text does not hide numbers once the
// file is all there.
func TestNumbersFurtherOn(t *testing.T) {
	text := bytes.Repeat([]byte("a header of an engine that nobody knows\n"), 40_000)
	data := slices.Concat(text, realWeights(t)[:6<<20])
	src := source(data)
	if l := Detect(data[:1<<20], src); l == nil {
		t.Error("not recognised once it is all there")
	}
	src.arrived = 0
	if l := Detect(data[:1<<20], src); l != nil {
		t.Error("text is recognised as numbers")
	}
	if l := Detect(text[:1<<20], source(text)); l != nil {
		t.Error("nothing but text is recognised as numbers")
	}
}

// TestReopenedNumbers: what is written to a container of numbers later has its
// type again.
func TestReopenedNumbers(t *testing.T) {
	weights := realWeights(t)
	l := Numbers(source(weights))
	for _, off := range []int64{0, 6 << 20, int64(len(weights))} {
		if r, err := l.Region(off); err != nil || r.DType != codec.BF16 || r.Begin > off || r.End <= off {
			t.Errorf("at %d: %+v %v", off, r, err)
		}
	}
}

// FuzzNumbers: regions cover everything, in whatever order they are asked for,
// and never shrink.
func FuzzNumbers(f *testing.F) {
	weights := realWeights(f)
	f.Add(weights[:9000], uint64(1), false)
	f.Add(slices.Concat(weights[:3000], noise(3000), []byte("some text to repeat")), uint64(2), true)
	f.Add(make([]byte, 10), uint64(3), false)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, settled bool) {
		if len(data) == 0 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		size := int64(1<<16 + rng.IntN(1<<19))
		data = bytes.Repeat(data, int(size)/len(data)+1)[:size]
		src := source(data)
		p := newProbe(src, rng.Int64N(1<<16))
		if !settled {
			src.arrived = 0
		}
		told := make(map[int64]Region)
		for off := int64(0); off < size; {
			src.arrived = max(src.arrived, off)
			r, err := p.Region(off)
			if err != nil || r.Begin > off || r.End <= off || !r.DType.Valid() {
				t.Fatalf("at %d: %+v %v", off, r, err)
			}
			told[off] = r
			if rng.IntN(8) == 0 {
				far := rng.Int64N(1 << 40)
				if r, err := p.Region(far); err != nil || r.Begin > far || r.End <= far {
					t.Fatalf("at %d: %+v %v", far, r, err)
				}
			}
			off = min(r.End, off+1+rng.Int64N(codec.FrameSize))
		}
		for off, r := range told {
			again, err := p.Region(off)
			same := again.Begin == r.Begin && again.DType == r.DType && again.End >= r.End
			if err != nil || !same && !unknown(p, off) {
				t.Fatalf("at %d: %+v, then %+v %v", off, r, again, err)
			}
		}
	})
}

func unknown(p *probe, off int64) bool {
	return slices.ContainsFunc(p.runs, func(r run) bool { return r.unknown && off >= r.begin && off < r.end })
}
