package codec

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestFindRun compares with a search for the first run byte by byte.
func TestFindRun(t *testing.T) {
	firstRun := func(b []byte, n int) (from, to int) {
		for from < len(b) {
			for to = from; to < len(b) && b[to] == b[from]; to++ {
			}
			if to-from >= n {
				return from, to
			}
			from = to
		}
		return 0, 0
	}
	r := rand.New(rand.NewPCG(1, 3))
	for range 20000 {
		n := 16 + r.IntN(60)
		var b []byte
		for range r.IntN(8) {
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(3))}, r.IntN(2*n))...)
		}
		from, to := findRun(b, n)
		if wantFrom, wantTo := firstRun(b, n); from != wantFrom || to != wantTo {
			t.Fatalf("runs of %d in %v: %d to %d, not %d to %d", n, b, from, to, wantFrom, wantTo)
		}
	}
}

// TestRuns holds frames with runs against what is left without them.
func TestRuns(t *testing.T) {
	mask := make([]byte, 0, FrameSize) // as F32: 0 below the diagonal, -Inf above
	for row := 700; len(mask) < FrameSize; row++ {
		mask = append(mask, make([]byte, 4*row)...)
		mask = append(mask, repeat([]byte{0, 0, 0x80, 0xff}, 4*(2048-row))...)
	}
	half := append(make([]byte, FrameSize/2), weights(BF16, FrameSize/2)...)
	other, _ := coded(t, weights(BF16, FrameSize/2), BF16)
	for _, c := range []struct {
		name string
		d    DType
		src  []byte
		max  float64 // of the length
	}{
		// Of 4 bytes, 3 are as good as random; half is zero.
		{"rows", F32, everyOther(weights(F32, FrameSize), 4*384), 0.46},
		{"bytes", F8, everyOther(randomBytes(FrameSize, 1), 384), 0.52},
		{"mask", F32, mask[:FrameSize], 0.01},
		{"padding", BF16, half, 1.01 * float64(len(other)) / FrameSize},
	} {
		frame, _ := coded(t, c.src, c.d)
		got := float64(len(frame)) / float64(len(c.src))
		t.Logf("%s: coded to %.4f", c.name, got)
		if got > c.max {
			t.Errorf("%s: coded to %.4f, at most %.4f expected", c.name, got, c.max)
		}
	}
}

// everyOther clears every other row of b.
func everyOther(b []byte, row int) []byte {
	for i := 0; i < len(b); i += 2 * row {
		clear(b[i:min(len(b), i+row)])
	}
	return b
}
