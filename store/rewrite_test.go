package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// floats are n numbers of which a container takes less than their size.
func floats(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 0, 2*n)
	for range n {
		b = binary.LittleEndian.AppendUint16(b, 0x3c00+uint16(rnd.IntN(1<<10)))
	}
	return b
}

// TestStoringAnewBesideWriters lets clients come back while a file is being
// stored anew, or while that is being decided: none of them may notice. The race
// detector sees what they share.
func TestStoringAnewBesideWriters(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Workers: 2})
	must(t, err)
	rnd := rand.New(rand.NewPCG(1, 2))
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	f, err := s.Create("f", 0o600, Caller{})
	must(t, err)
	var want []byte
	for round := range rounds {
		switch rnd.IntN(3) {
		case 0: // grows into numbers, or stops being numbers
			want = floats(uint64(round), 300_000)
			must(t, f.Truncate(context.Background(), 0))
		case 1: // much of it is dead afterwards
			want = floats(uint64(round), 400_000)
		case 2:
			want = append(want, floats(uint64(round), 100_000)...)
			for i := range min(len(want), 1<<20) {
				want[i] = byte(i)
			}
		}
		for off := 0; off < len(want); off += 200_000 {
			_, err := f.WriteAt(want[off:min(off+200_000, len(want))], int64(off))
			must(t, err)
		}
		must(t, f.Truncate(context.Background(), int64(len(want))))
		released := make(chan error, 1)
		go func(f *File) { released <- f.Release(true) }(f) // and the background begins
		mode := Write
		if rnd.IntN(4) == 0 {
			mode, want = Truncate, nil
		}
		f, err = s.Open(context.Background(), "f", mode)
		must(t, err)
		extra := floats(uint64(round), 200_000)
		_, err = f.WriteAt(extra, int64(len(want)))
		must(t, err)
		must(t, <-released)
		want = append(want, extra...)
		got := make([]byte, len(want))
		_, err = f.ReadAt(got, 0)
		must(t, ignoreEOF(err))
		if !bytes.Equal(got, want) {
			t.Fatalf("round %d: other bytes", round)
		}
	}
	must(t, f.Release(true))
	must(t, s.Close())
	left, err := filepath.Glob(filepath.Join(s.Path(), siblingPrefix+"*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
