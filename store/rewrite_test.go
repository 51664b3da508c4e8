package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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

// TestAppendingReadsNothing: who appends to a large log and closes it, again and
// again, does not make the store look at its beginning each time.
func TestAppendingReadsNothing(t *testing.T) {
	x := &faulty{nth: -1}
	s, err := Open(t.TempDir(), Options{sys: x})
	must(t, err)
	line := bytes.Repeat([]byte("step 12 loss 2.31\n"), 100)
	appendTo := func(at int64) int64 {
		f, err := s.Open(context.Background(), "log", Write)
		must(t, err)
		x.mu.Lock()
		x.count, x.armed = make(map[string]int), true
		x.mu.Unlock()
		_, err = f.WriteAt(line, at)
		must(t, err)
		must(t, f.Release(true))
		x.mu.Lock()
		defer x.mu.Unlock()
		x.armed = false
		return int64(x.count["pread"])
	}
	f, err := s.Create("log", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat(line, 1000), 0)
	must(t, err)
	must(t, f.Release(true))
	size := int64(1000 * len(line))
	if n := appendTo(size); n > 0 {
		t.Errorf("%d reads", n)
	}
	if n := appendTo(1000); n == 0 {
		t.Error("an edit of its beginning is not looked at")
	}
	must(t, s.Close())
}

// TestAttributesRemovedMeanwhile: an attribute that a client removes while the
// file is being stored anew does not come back.
func TestAttributesRemovedMeanwhile(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	f, err := s.Create("f", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(floats(1, 100_000), 0)
	must(t, err)
	must(t, s.Setxattr("f", f.Key(), "user.a", []byte("value"), 0))
	b, err := s.newSibling("f", f.backing)
	must(t, err)
	c, err := f.copyTo(b.backing, form{container: true}, locked)
	must(t, err)
	must(t, s.Removexattr("f", f.Key(), "user.a"))
	must(t, s.Setxattr("f", f.Key(), "user.b", []byte("value"), 0))
	must(t, f.exchange(b, c, f.version))
	names := make([]byte, 100)
	if n, err := s.Listxattr("f", f.Key(), names); err != nil || string(names[:n]) != "user.b\x00" {
		t.Errorf("%q %v", names[:n], err)
	}
	if _, err := unix.Fgetxattr(f.backing.fd(), markName, nil); err != nil {
		t.Errorf("the mark is gone: %v", err)
	}
	must(t, f.Release(true))
}
