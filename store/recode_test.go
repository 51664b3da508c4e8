package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// chain is a store with checkpoints ck0 … of one run, each but the last coded
// against the next one.
func chain(t testing.TB, o Options, n int) (*Store, map[string][]byte) {
	t.Helper()
	o.still = true
	s, err := Open(t.TempDir(), o)
	must(t, err)
	files := make(map[string][]byte)
	for i, data := range savesOf(t, 1, n) {
		name := fmt.Sprintf("run/ck%d", i)
		storeFile(t, s, name, data)
		files[name] = data
		if i > 0 {
			must(t, recode(t, s, fmt.Sprintf("run/ck%d", i-1), name))
		}
	}
	return s, files
}

// seen is what clients see of a file.
type seen struct {
	Info
	Dir Info
}

func sight(t testing.TB, s *Store, name string) seen {
	t.Helper()
	i, err := s.Lstat(name)
	must(t, err)
	d, err := s.Lstat(filepath.Dir(name))
	must(t, err)
	i.Stored, i.Blocks, d.Stored, d.Blocks = 0, 0, 0, 0
	return seen{i, d}
}

// TestRecodingIsNotSeen: a member coded anew has the bytes, attributes and links
// that it had, for whoever has it open too, and so have its bases.
func TestRecodingIsNotSeen(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	files := make(map[string][]byte)
	for i, data := range savesOf(t, 1, 3) {
		name := fmt.Sprintf("run/ck%d", i)
		storeFile(t, s, name, data)
		must(t, s.Setxattr(name, Key{}, "user.step", []byte{byte(i)}, 0))
		must(t, s.Chmod(name, Key{}, 0o640))
		files[name] = data
	}
	open, err := s.Open(context.Background(), "run/ck0", Read)
	must(t, err)
	before := make(map[string]seen)
	for name := range files {
		before[name] = sight(t, s, name)
	}
	for _, step := range []struct {
		what  string
		name  string
		bases []string
		full  bool
	}{
		{"against one", "run/ck0", []string{"run/ck1"}, false},
		{"a base against another", "run/ck1", []string{"run/ck2"}, false},
		{"against two", "run/ck0", []string{"run/ck1", "run/ck2"}, false},
		{"full again", "run/ck0", nil, true},
	} {
		was := before[step.name].Number
		must(t, recode(t, s, step.name, step.bases...))
		for name := range files {
			if now := sight(t, s, name); now != before[name] {
				t.Errorf("%s: %s was\n%+v and is\n%+v", step.what, name, before[name], now)
			}
		}
		if was != before[step.name].Number {
			t.Errorf("%s: it has another number", step.what)
		}
		expect(t, s, files)
		b := make([]byte, len(files["run/ck0"]))
		if _, err := open.ReadAt(b, 0); err != nil || string(b) != string(files["run/ck0"]) {
			t.Errorf("%s: who has it open reads something else, %v", step.what, err)
		}
		st, err := os.Stat(filepath.Join(s.Path(), step.name))
		must(t, err)
		if full := st.Size() > int64(len(files[step.name])/2); full != step.full {
			t.Errorf("%s: it takes %d bytes of %d", step.what, st.Size(), len(files[step.name]))
		}
	}
	must(t, open.Release(false))
	s.keeper.tidy()
	if pins := pinsOf(t, s.Path()); len(pins) != 1 {
		t.Errorf("%v are pinned, though ck1 needs ck2 only", pins)
	}
}

// TestRecodingGivesWay: a file that clients have open for writing, change
// meanwhile, or have given a second name, stays as it is.
func TestRecodingGivesWay(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *Store) (undo func())
	}{
		{"open for writing", func(t *testing.T, s *Store) func() {
			f, err := s.Open(context.Background(), "a", Write)
			must(t, err)
			return func() { must(t, f.Release(true)) }
		}},
		{"two names", func(t *testing.T, s *Store) func() {
			must(t, s.Link("a", memberOf(t, s, "a").key, "c"))
			return func() {}
		}},
		{"its base is open for writing", func(t *testing.T, s *Store) func() {
			f, err := s.Open(context.Background(), "b", Write)
			must(t, err)
			return func() { must(t, f.Release(true)) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(t.TempDir(), Options{still: true})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			saves := savesOf(t, 2, 2)
			storeFile(t, s, "a", saves[0])
			storeFile(t, s, "b", saves[1])
			undo := c.do(t, s)
			if err := recode(t, s, "a", "b"); !errors.Is(err, errChanged) {
				t.Errorf("it says %v", err)
			}
			undo()
			if l := logOf(t, s, "a"); len(l.Dependence.Bases) != 0 {
				t.Error("it was coded anew")
			}
			expect(t, s, map[string][]byte{"a": saves[0], "b": saves[1]})
		})
	}
}

// TestNoCircle: a base that needs the file itself can't be one.
func TestNoCircle(t *testing.T) {
	s, files := chain(t, Options{}, 3)
	defer func() { must(t, s.Close()) }()
	for _, base := range []string{"run/ck0", "run/ck1"} {
		if err := recode(t, s, "run/ck2", base); !errors.Is(err, errCircle) {
			t.Errorf("against %s: %v", base, err)
		}
	}
	expect(t, s, files)
}

// TestChangeWhileRecoding: a change in the middle of it cancels it.
func TestChangeWhileRecoding(t *testing.T) {
	saves := savesOf(t, 3, 2)
	for calls := 1; ; calls++ {
		s, err := Open(t.TempDir(), Options{still: true})
		must(t, err)
		storeFile(t, s, "a", saves[0])
		storeFile(t, s, "b", saves[1])
		want := append([]byte(nil), saves[0]...)
		left := calls
		r := s.keeper.recoding()
		r.pace = func() error {
			if left--; left == 0 {
				f, err := s.Open(context.Background(), "a", Write)
				must(t, err)
				_, err = f.WriteAt([]byte("changed"), 300_000)
				must(t, err)
				must(t, f.Release(true))
				copy(want[300_000:], "changed")
			}
			return nil
		}
		_, err = r.recode(memberOf(t, s, "a"), []member{memberOf(t, s, "b")},
			alike(logOf(t, s, "a"), logOf(t, s, "b")), 1<<30)
		if left <= 0 == (err == nil) {
			t.Errorf("changed before piece %d, it says %v", calls, err)
		}
		expect(t, s, map[string][]byte{"a": want, "b": saves[1]})
		must(t, s.Close())
		if left > 0 || t.Failed() {
			break
		}
	}
}

// TestCrashWhileRecoding: wherever the daemon dies, every checkpoint reads as it
// was, and after the next start nothing is left of the attempt.
func TestCrashWhileRecoding(t *testing.T) {
	for _, c := range []struct {
		name  string
		what  string
		bases []string
	}{
		{"the first dependent", "run/ck2", []string{"run/ck3"}},
		{"a base that is pinned", "run/ck1", []string{"run/ck3"}},
		{"back to full", "run/ck0", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for calls := 0; ; calls++ {
				x := &crashing{left: calls}
				s, files := chain(t, Options{sys: x}, 2)
				for i, data := range savesOf(t, 1, 4) {
					if name := fmt.Sprintf("run/ck%d", i); i >= 2 {
						storeFile(t, s, name, data)
						files[name] = data
					}
				}
				coding := toCode(t, s, c.what, c.bases...)
				x.mu.Lock()
				x.armed = true
				x.mu.Unlock()
				err := coding()
				s.keeper.tidy()
				x.mu.Lock()
				done := x.left >= 0
				x.mu.Unlock()
				_ = s.Close()
				checkSeries(t, s.Path(), files)
				if t.Failed() {
					t.Fatalf("it died at call %d: %v", calls, err)
				}
				if done {
					if err != nil {
						t.Error(err)
					}
					t.Logf("%d calls", calls)
					return
				}
				if testing.Short() || raceDetector {
					calls += 3
				}
			}
		})
	}
}

// checkSeries opens the directory anew, compares all files, and looks for what
// should not be there: siblings, and pins of inodes that have no name.
func checkSeries(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	s, err := Open(dir, Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	expect(t, s, files)
	s.keeper.tidy()
	expect(t, s, files)
	for pin, names := range pinsOf(t, dir) {
		if names == 0 {
			t.Errorf("the inode of pin %s has no name", pin)
		}
	}
	leftovers(t, dir, files)
}

// leftovers are whatever is neither a file nor a pin.
func leftovers(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for _, where := range []string{"run", pendingDir, basesDir} {
		entries, err := os.ReadDir(filepath.Join(dir, where))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		for _, e := range entries {
			if _, pin := parsePin(e.Name()); files[filepath.Join(where, e.Name())] == nil && !pin {
				t.Errorf("left in %s: %s", where, e.Name())
			}
		}
	}
}

// TestFramesOfMembers: what is coded against others has frames of the length that
// is best for that, and what is full those of a file that a client writes.
func TestFramesOfMembers(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	r := newRun(t, 5, 4*700_000) // a tensor is longer than a frame of either kind
	files := make(map[string][]byte)
	for _, name := range []string{"a", "b"} {
		files[name] = r.save()
		storeFile(t, s, name, files[name])
		r.step()
	}
	longest := func(name string) (n int64, coded bool) {
		x, err := Inspect(filepath.Join(s.Path(), name))
		must(t, err)
		defer func() { must(t, x.Close()) }()
		for _, f := range x.Frames(0, x.Summary().Frames) {
			n, coded = max(n, f.Logical), coded || f.Bases > 0
		}
		return n, coded
	}
	for _, step := range []struct {
		bases []string
		want  int64
	}{{nil, codec.FrameSize}, {[]string{"b"}, delta.FrameSize}, {nil, codec.FrameSize}} {
		if n, _ := longest("a"); step.bases != nil || n != step.want {
			must(t, recode(t, s, "a", step.bases...))
		}
		if n, coded := longest("a"); n != step.want || coded != (step.bases != nil) {
			t.Errorf("against %v: frames of up to %d bytes, want %d; coded %v", step.bases, n, step.want, coded)
		}
		expect(t, s, files)
	}
}

// TestDependentsWithoutStore: what needs no mount finds the bases too.
func TestDependentsWithoutStore(t *testing.T) {
	s, files := chain(t, Options{}, 3)
	must(t, s.Close())
	to := filepath.Join(t.TempDir(), "unpacked")
	must(t, Unpack(context.Background(), s.Path(), to, nil))
	for name, data := range files {
		got, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s unpacks to something else, %v", name, err)
		}
		x, err := Inspect(filepath.Join(s.Path(), name))
		must(t, err)
		for i := range x.Summary().Frames {
			if err := x.Check(i); err != nil {
				t.Errorf("%s, frame %d: %v", name, i, err)
			}
		}
		if n := len(x.Summary().Bases); (n == 0) != (name == "run/ck2") {
			t.Errorf("%s says that it has %d bases", name, n)
		}
		must(t, x.Close())
	}
	away := filepath.Join(t.TempDir(), "taken away")
	must(t, os.Rename(filepath.Join(s.Path(), "run/ck0"), away))
	if err := Unpack(context.Background(), away, to+"2", nil); !errors.Is(err, container.ErrBase) {
		t.Errorf("without its bases: %v", err)
	}
}

// TestFaultsWhileRecoding lets some calls of each kind, or with -allfaults each
// one, fail once. Every checkpoint
// reads as it was, at once and after the next start, and nothing is left behind.
func TestFaultsWhileRecoding(t *testing.T) {
	kinds := []string{"openat", "openat2", "renameat", "unlinkat", "linkat", "pread", "preadDirect", "pwrite", "truncate", "fdatasync", "fsync"}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			for n := 0; ; n++ {
				x := &faulty{nth: -1, kind: kind, err: unix.EIO, half: true, lose: true}
				s, files := chain(t, Options{sys: x}, 2)
				for i, data := range savesOf(t, 1, 4)[2:] {
					name := fmt.Sprintf("run/ck%d", i+2)
					storeFile(t, s, name, data)
					files[name] = data
				}
				steps := []func() error{
					toCode(t, s, "run/ck2", "run/ck3"), toCode(t, s, "run/ck1", "run/ck3"), toCode(t, s, "run/ck0"),
				}
				x.mu.Lock()
				x.nth, x.count, x.dirty, x.armed = n, make(map[string]int), make(map[uint64][][2]int64), true
				x.mu.Unlock()
				for _, step := range steps {
					if err := step(); err != nil && !x.fired {
						t.Error(err)
					}
				}
				s.keeper.tidy()
				x.mu.Lock()
				x.armed = false
				x.mu.Unlock()
				expect(t, s, files)
				must(t, s.Close())
				checkSeries(t, s.Path(), files)
				if t.Failed() {
					t.Fatalf("call %d failed", n)
				}
				if !x.fired {
					t.Logf("%d calls", n)
					return
				}
				if !*allFaults {
					n += 3
				}
				if !*allFaults && (testing.Short() || raceDetector || kind == "pread" || kind == "preadDirect" || kind == "openat2") {
					n += 8
				}
			}
		})
	}
}
