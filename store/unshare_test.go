package store

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEditNeedsDurableCopy: as long as the copy of a base is not durable under its
// name, the base is not edited, however often a client tries.
func TestEditNeedsDurableCopy(t *testing.T) {
	x := &faulty{nth: -1}
	s, files := chain(t, Options{sys: x}, 2)
	defer func() { must(t, s.Close()) }()
	f, err := s.Open(context.Background(), "run/ck1", Write)
	must(t, err)
	for try := range 2 {
		x.mu.Lock()
		x.kind, x.nth, x.err, x.count, x.armed = "fsync", 1-try, unix.EIO, make(map[string]int), true // first, one is the copy's
		x.mu.Unlock()
		if _, err := f.WriteAt([]byte("edited"), 200_000); !errors.Is(err, unix.EIO) {
			t.Errorf("writing: %v", err)
		}
	}
	expect(t, s, files)
	_, err = f.WriteAt(files["run/ck1"][:10], 0)
	must(t, err)
	must(t, f.Release(true))
	expect(t, s, files)
}
