package codec

import (
	"bytes"
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
	if hasRepeats(randomBytes(FrameSize, 2)) {
		t.Error("random bytes have repeats")
	}
}
