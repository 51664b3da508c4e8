package store

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnknownPinsForbidWriting: where the pins can't be looked at, an edit might
// change what one leads to.
func TestUnknownPinsForbidWriting(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	must(t, s.Close())
	for _, cause := range []error{unix.EACCES, unix.EIO} {
		x := &refusing{refuse: func(name string) error {
			if strings.HasPrefix(name, basesDir) {
				return cause
			}
			return nil
		}}
		if s, err := Open(s.Path(), Options{sys: x, still: true}); err == nil {
			f, err := s.Open(context.Background(), "run/ck1", Write)
			must(t, err)
			_, err = f.WriteAt([]byte("edited"), 200_000)
			must(t, err)
			must(t, f.Release(true))
			must(t, s.Close())
		}
		r, err := Open(s.Path(), Options{sys: x, ReadOnly: true})
		must(t, err)
		expect(t, r, map[string][]byte{"run/ck1": files["run/ck1"]})
		must(t, r.Close())
	}
	s, err := Open(s.Path(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	expect(t, s, files)
}

// TestNoBaseAfterFailedSync: what a sync has failed for may not be on the disk, so
// nothing else may come to need it.
func TestNoBaseAfterFailedSync(t *testing.T) {
	x := &faulty{nth: -1}
	s, err := Open(t.TempDir(), Options{sys: x, still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	saves := savesOf(t, 1, 2)
	storeFile(t, s, "a", saves[0])
	storeFile(t, s, "b", saves[1])
	for _, c := range []struct {
		name string
		hold bool
	}{{"still open", true}, {"closed since", false}} {
		t.Run(c.name, func(t *testing.T) {
			f, err := s.Open(context.Background(), "b", Write)
			must(t, err)
			_, err = f.WriteAt(saves[1][:100], 0)
			must(t, err)
			x.mu.Lock()
			x.kind, x.nth, x.err, x.count, x.armed = "fsync", 0, unix.EIO, make(map[string]int), true
			x.mu.Unlock()
			if err := f.Sync(true); !errors.Is(err, unix.EIO) {
				t.Fatalf("its sync: %v", err)
			}
			x.mu.Lock()
			x.armed = false
			x.mu.Unlock()
			var held *File
			if c.hold {
				held, err = s.Open(context.Background(), "b", Read)
				must(t, err)
			}
			_ = f.Release(true)
			if err := recode(t, s, "a", "b"); err == nil {
				t.Error("it is a base")
			}
			if held != nil {
				must(t, held.Release(false))
			}
		})
	}
}
