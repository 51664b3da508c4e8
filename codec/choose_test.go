package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// coded returns the frame of src, of which it proves that it can be read.
func coded(t *testing.T, src []byte, d DType) ([]byte, Plan) {
	t.Helper()
	frame, plan := NewEncoder().AppendFrame(nil, src, d)
	got := make([]byte, len(src))
	if err := NewDecoder().DecodeFrame(got, frame, plan); err != nil || !bytes.Equal(got, src) {
		t.Fatalf("%v: other bytes, error %v", d, err)
	}
	return frame, plan
}

func TestChoosePlan(t *testing.T) {
	for _, d := range allDTypes {
		src := weights(d, FrameSize)
		want := d.Plan()
		if d == BF16 || d == F32 {
			want = makePlan(d.Size(), narrowRotation)
		}
		if _, plan := coded(t, src, d); plan != want {
			t.Errorf("%v, weights: %v, not %v", d, plan, want)
		}
		if _, plan := coded(t, src[:sampleFrom], d); plan != d.Plan() {
			t.Errorf("%v, few weights: %v", d, plan)
		}
	}
	// Exponents that differ in their highest bits, and mantissas of few values.
	for name, mask := range map[string][2]byte{"exponents": {0xff, 0xff}, "mantissas": {0x01, 0x80}} {
		src := weights(BF16, FrameSize)
		r := randomBytes(len(src), 5)
		for i := 0; i < len(src); i += 2 {
			if name == "exponents" && r[i] < 32 {
				src[i+1] = r[i+1]
			}
			if name == "mantissas" {
				src[i] &= mask[1]
			}
		}
		if _, plan := coded(t, src, BF16); plan != BF16.Plan() {
			t.Errorf("%s: %v", name, plan)
		}
	}
}

// TestRareExponents has a few elements whose plane's field does not fit them.
func TestRareExponents(t *testing.T) {
	src := weights(BF16, FrameSize)
	whole, _ := coded(t, src, BF16)
	copy(src[1000:], []byte{0, 0, 0x80, 0x40}) // 0 and 4
	frame, plan := coded(t, src, BF16)
	if plan.Rotation() != narrowRotation || len(frame) > len(whole)+len(whole)/500 {
		t.Errorf("%v, %d bytes; without rare exponents %d", plan, len(frame), len(whole))
	}
}

// TestWidened holds the promise that bf16 values stored as fp32 become a third.
func TestWidened(t *testing.T) {
	narrow := weights(BF16, FrameSize/2)
	wide := make([]byte, 0, FrameSize)
	for i := 0; i < len(narrow); i += 2 {
		wide = append(wide, 0, 0, narrow[i], narrow[i+1])
	}
	frame, _ := coded(t, wide, F32)
	if ratio := float64(len(wide)) / float64(len(frame)); ratio < 3 {
		t.Errorf("ratio %.4f", ratio)
	}
}

// TestWidenedZeros has few elements whose exponents differ from all others in the
// highest bits, and few bits of mantissa.
func TestWidenedZeros(t *testing.T) {
	src := make([]byte, 0, FrameSize)
	narrow := weights(BF16, FrameSize/2)
	for i := 0; i < len(narrow); i += 2 {
		src = append(src, 0, 0, narrow[i], narrow[i+1])
	}
	same, _ := coded(t, src, F32)
	for _, at := range []int{4, 30000, len(src) - 4} {
		b := bytes.Clone(src)
		clear(b[at : at+4])
		frame, plan := coded(t, b, F32)
		if plan != F32.Plan() || len(frame) > len(same)+len(same)/100 {
			t.Errorf("a zero at %d: %v, %d bytes; without it %d", at, plan, len(frame), len(same))
		}
	}
}

// TestSameHighExponent changes each element in turn.
func TestSameHighExponent(t *testing.T) {
	for _, width := range []int{2, 4} {
		for n := width; n <= 130; n++ {
			src := bytes.Repeat([]byte{0x3f}, n)
			if !sameHighExponent(src, width) {
				t.Fatalf("%d bytes of elements of %d differ", n, width)
			}
			for at := width - 1; at < n && n >= 8; at += width {
				src[at] ^= 0x20
				if sameHighExponent(src, width) {
					t.Fatalf("byte %d of %d, in elements of %d, does not differ", at, n, width)
				}
				src[at] ^= 0x20
			}
		}
	}
}

// TestBytes has bytes of no known structure coded by the better of two ways, or,
// without repeats, by the faster, which is as good.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		name    string
		src     []byte
		general bool // whether a general encoder is asked
		max     float64
	}{
		{"quantized weights", quantized(FrameSize), false, 0.68},
		{"text", repeat([]byte("it was the season of light, "), FrameSize), true, 0.01},
		{"zeros", make([]byte, FrameSize), true, 0.001},
		{"bits", bits10(FrameSize), true, 0.126},
		{"lower triangle", triangle(512), true, 0.01},
	} {
		e := NewEncoder()
		frame, _ := e.AppendFrame(nil, c.src, Bytes)
		if got := float64(len(frame)) / float64(len(c.src)); got > c.max || (e.general != nil) != c.general {
			t.Errorf("%s: coded to %.4f, at most %.4f expected; general encoder used: %v", c.name, got, c.max, e.general != nil)
		}
		if planes := e.appendPlanes(nil, c.src, 1); len(frame) > len(planes) {
			t.Errorf("%s: %d bytes, %d as one plane", c.name, len(frame), len(planes))
		}
		coded(t, c.src, Bytes)
	}
}

// quantized returns weights as integers of one byte.
func quantized(n int) []byte {
	r := rand.New(rand.NewPCG(9, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(int8(max(-127, min(127, r.NormFloat64()*10))))
	}
	return b
}

// bits10 returns zeros and, for one in ten, ones.
func bits10(n int) []byte {
	r := rand.New(rand.NewPCG(9, 2))
	b := make([]byte, n)
	for i := range b {
		if r.IntN(10) == 0 {
			b[i] = 1
		}
	}
	return b
}

// triangle returns a matrix of n rows with ones up to the diagonal.
func triangle(n int) []byte {
	b := make([]byte, n*n)
	for i := range n {
		fill(b[i*n:i*n+i+1], 1)
	}
	return b
}

// TestIncompressible holds the promise that random bytes grow by 0.01 % at most.
func TestIncompressible(t *testing.T) {
	for _, d := range allDTypes {
		frame, plan := coded(t, randomBytes(FrameSize, 1), d)
		if len(frame) > FrameSize+FrameSize/10000 {
			t.Errorf("%v: %d bytes", d, len(frame))
		}
		if plan != 0 {
			t.Errorf("%v: %v", d, plan)
		}
	}
}

// TestRepeats has bytes that look random, but for long repeats.
func TestRepeats(t *testing.T) {
	src := append(randomBytes(150000, 1), randomBytes(100000, 1)...)
	frame, _ := coded(t, src, Bytes)
	if len(frame) > 155000 {
		t.Errorf("%d bytes, 150000 of them differ", len(frame))
	}
	if hasRepeats(randomBytes(FrameSize, 2), denseGrid) {
		t.Error("random bytes have repeats")
	}
}
