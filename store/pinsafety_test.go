package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
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

// TestBasesDirRemoved: where all pins are gone and all bases are there, the store
// finds them by itself.
func TestBasesDirRemoved(t *testing.T) {
	s, files := chain(t, Options{}, 3)
	must(t, s.Close())
	must(t, os.RemoveAll(filepath.Join(s.Path(), privateDir)))
	s, err := Open(s.Path(), Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := readLogical(s, "run/ck0")
		if err == nil && bytes.Equal(got, files["run/ck0"]) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("run/ck0: %v", err)
		}
	}
	expect(t, s, files)
}

// TestDamagedDependentKeepsPins: one that does not tell any more what it needs may
// need anything.
func TestDamagedDependentKeepsPins(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	must(t, s.Unlink("run/ck1"))
	must(t, s.Close())
	name := filepath.Join(s.Path(), "run/ck0")
	whole, err := os.ReadFile(name)
	must(t, err)
	damaged := bytes.Clone(whole)
	damaged[container.HeaderSize+20] ^= 1 // what it depends on
	damaged[len(damaged)-200] ^= 1        // and the index
	must(t, os.WriteFile(name, damaged, 0o600))
	s, err = Open(s.Path(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	s.keeper.tidy()
	must(t, os.WriteFile(name, whole, 0o600)) // somebody repairs it
	expect(t, s, map[string][]byte{"run/ck0": files["run/ck0"]})
}

// TestPinNotGivenAway: a pin that can't be opened just now may be all that is
// whole.
func TestPinNotGivenAway(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	must(t, s.Close())
	for pin := range pinsOf(t, s.Path()) { // the good copy
		name := filepath.Join(s.Path(), basesDir, pin)
		b, err := os.ReadFile(name)
		must(t, err)
		must(t, os.Remove(name))
		must(t, os.WriteFile(name, b, 0o600))
	}
	name := filepath.Join(s.Path(), "run/ck1")
	b, err := os.ReadFile(name)
	must(t, err)
	b[100_000] ^= 1
	must(t, os.WriteFile(name, b, 0o600))
	opened := 0
	x := &refusing{refuse: func(name string) error {
		if strings.HasPrefix(name, basesDir+"/") {
			if opened++; opened > 1 { // the census opens it first
				return unix.EMFILE
			}
		}
		return nil
	}}
	s, err = Open(s.Path(), Options{sys: x, still: true})
	must(t, err)
	s.keeper.tidy()
	must(t, s.Close())
	s, err = Open(s.Path(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	expect(t, s, map[string][]byte{"run/ck0": files["run/ck0"]})
}

// TestMountOverDependents: what is mounted over a directory hides what needs the
// pins.
func TestMountOverDependents(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	defer func() { must(t, s.Close()) }()
	must(t, s.Unlink("run/ck1")) // which run/ck0 needs
	delete(files, "run/ck1")
	over := filepath.Join(s.Path(), "run")
	if err := unix.Mount("tmpfs", over, "tmpfs", 0, ""); err != nil {
		t.Skipf("SKIPPED: nothing can be mounted here: %v", err)
	}
	s.keeper.tidy()
	must(t, unix.Unmount(over, 0))
	expect(t, s, files)
	s.keeper.tidy()
	expect(t, s, files)
}
