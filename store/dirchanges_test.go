package store

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestDirectoryKeepsItsTime: what the store does on its own leaves a directory's
// time, at every moment that clients look, whatever clients do to others, and whatever else it does in the same one;
// a client's change is not lost.
func TestDirectoryKeepsItsTime(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	for _, name := range []string{"kept", "busy"} {
		must(t, s.Mkdir(name, 0o700, Caller{}))
	}
	f, err := s.Create("kept/f", 0o600, Caller{})
	must(t, err)
	defer func() { must(t, f.Release(true)) }()
	old := time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "kept"), old, old))
	const rounds = 100
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for range rounds {
				b, err := s.newSibling("kept/f", f.backing)
				if err != nil {
					t.Error(err)
					return
				}
				b.discard()
				_ = b.backing.close()
			}
		})
	}
	all.Go(func() {
		for range rounds {
			if err := s.Mkdir("busy/d", 0o700, Caller{}); err != nil {
				t.Error(err)
			}
			if err := s.Rmdir("busy/d"); err != nil {
				t.Error(err)
			}
		}
	})
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for range 1_000_000 {
			i, err := s.Lstat("kept")
			if err != nil || nanoseconds(i.Mtime) != old.UnixNano() {
				t.Errorf("a client sees %v, %v", time.Unix(0, nanoseconds(i.Mtime)), err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	all.Wait()
	close(done)
	looking.Wait()
	st, err := os.Stat(filepath.Join(dir, "kept"))
	must(t, err)
	if !st.ModTime().Equal(old) {
		t.Errorf("it has become %v", st.ModTime())
	}
	begin := time.Now().Add(-time.Second)
	must(t, s.root.keepTime(s.root.fd, func() error { return s.Mkdir("by a client", 0o700, Caller{}) }))
	st, err = os.Stat(dir)
	must(t, err)
	if st.ModTime().Before(begin) {
		t.Errorf("a client's change is lost: %v", st.ModTime())
	}
	if n := len(s.root.changes.dirs); n != 0 {
		t.Errorf("%d directories are still held", n)
	}
}

// TestRmdirSeesWhatClientsSee: a directory whose last file is gone can be
// removed, though a sibling of that file is still being written.
func TestRmdirSeesWhatClientsSee(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	must(t, s.Mkdir("d", 0o700, Caller{}))
	f, err := s.Create("d/f", 0o600, Caller{})
	must(t, err)
	b, err := s.newSibling("d/f", f.backing)
	must(t, err)
	if err := s.Rmdir("d"); err == nil {
		t.Error("a directory with a file can be removed")
	}
	must(t, s.Unlink("d/f"))
	must(t, s.Rmdir("d"))
	must(t, f.Release(true))
	st, err := b.backing.stat()
	must(t, err)
	if replaced, err := b.publish(Key{}); replaced || err != nil {
		t.Errorf("it has replaced something: %v", err)
	}
	if st.Nlink != 0 {
		t.Errorf("the sibling has %d names", st.Nlink)
	}
	must(t, b.backing.close())
}
