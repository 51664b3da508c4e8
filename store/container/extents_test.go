package container

import (
	"math/rand/v2"
	"testing"
)

// TestExtentsAgainstArray plays random insertions and clips on Extents and on
// an array that says for every byte which frame provides it.
func TestExtentsAgainstArray(t *testing.T) {
	const size = 200
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		var x Extents
		var owner [size]int // 0: none, else 1 + frame number
		var begin [size]int64
		for n := range 40 {
			if r.IntN(6) == 0 {
				at := r.IntN(size)
				x.Clip(int64(at))
				clear(owner[at:])
				continue
			}
			at, length := r.IntN(size-1), 1+r.IntN(40)
			length = min(length, size-at)
			x.Insert(Frame{Offset: int64(at), Length: uint32(length), Number: uint32(n), Position: int64(n)})
			for i := at; i < at+length; i++ {
				owner[i], begin[i] = n+1, int64(at)
			}
			checkExtents(t, round, x, owner[:], begin[:])
		}
	}
}

func checkExtents(t *testing.T, round int, x Extents, owner []int, begin []int64) {
	t.Helper()
	for i := range x {
		if x[i].Length == 0 || i > 0 && x[i].Start < x[i-1].End() {
			t.Fatalf("round %d: extent %d is empty or overlaps: %+v", round, i, x)
		}
	}
	for off := range owner {
		e, next, ok := x.At(int64(off))
		if ok != (owner[off] > 0) {
			t.Fatalf("round %d: byte %d: found %v, owner %d", round, off, ok, owner[off])
		}
		if ok && (int(e.Frame.Number)+1 != owner[off] || e.Start-int64(e.Skip) != begin[off]) {
			t.Fatalf("round %d: byte %d: frame %d skip %d, want frame %d from %d", round, off, e.Frame.Number, e.Skip, owner[off]-1, begin[off])
		}
		if !ok {
			want := int64(-1)
			for i := off; i < len(owner); i++ {
				if owner[i] > 0 {
					want = int64(i)
					break
				}
			}
			if next != want {
				t.Fatalf("round %d: hole at %d ends at %d, want %d", round, off, next, want)
			}
		}
	}
}

func TestExtentsWithin(t *testing.T) {
	var x Extents
	for _, at := range []int64{0, 10, 30} {
		x.Insert(Frame{Offset: at, Length: 10})
	}
	for _, c := range []struct {
		begin, end int64
		n          int
	}{{0, 5, 1}, {0, 11, 2}, {5, 31, 3}, {20, 30, 0}, {39, 100, 1}, {40, 50, 0}, {5, 5, 0}} {
		if got := len(x.Within(c.begin, c.end)); got != c.n {
			t.Errorf("Within(%d, %d) has %d extents, want %d", c.begin, c.end, got, c.n)
		}
	}
}
