package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// TestLivesOfBases does to a base whatever clients may do to a file, and expects
// that the base is what it then should be, and its dependents what they were.
func TestLivesOfBases(t *testing.T) {
	edited := func(data []byte, off int, by string) []byte {
		data = append([]byte(nil), data...)
		copy(data[off:], by)
		return data
	}
	const base, dependent = "run/ck1", "run/ck0"
	write := func(t *testing.T, s *Store, mode Mode, data string, off int64) {
		f, err := s.Open(context.Background(), base, mode)
		must(t, err)
		_, err = f.WriteAt([]byte(data), off)
		must(t, err)
		must(t, f.Release(true))
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *Store, files map[string][]byte)
	}{
		{"edit", func(t *testing.T, s *Store, files map[string][]byte) {
			write(t, s, Write, "edited", 200_000)
			files[base] = edited(files[base], 200_000, "edited")
		}},
		{"append", func(t *testing.T, s *Store, files map[string][]byte) {
			write(t, s, Write, "appended", int64(len(files[base])))
			files[base] = append(bytes.Clone(files[base]), "appended"...)
		}},
		{"truncate", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Truncate(context.Background(), base, Key{}, 100_000))
			files[base] = files[base][:100_000]
		}},
		{"truncate to nothing, open", func(t *testing.T, s *Store, files map[string][]byte) {
			f, err := s.Open(context.Background(), base, Write)
			must(t, err)
			must(t, f.Truncate(context.Background(), 0))
			must(t, f.Release(true))
			files[base] = nil
		}},
		{"allocate", func(t *testing.T, s *Store, files map[string][]byte) {
			f, err := s.Open(context.Background(), base, Write)
			must(t, err)
			must(t, f.Allocate(context.Background(), 0, int64(len(files[base])+1000), false))
			must(t, f.Release(true))
			files[base] = append(bytes.Clone(files[base]), make([]byte, 1000)...)
		}},
		{"O_TRUNC", func(t *testing.T, s *Store, files map[string][]byte) {
			write(t, s, Truncate, "new", 0)
			files[base] = []byte("new")
		}},
		{"unlink", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Unlink(base))
			delete(files, base)
		}},
		{"rename", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Mkdir("else", 0o700, Caller{}))
			must(t, s.Rename(base, "else/where", 0))
			files["else/where"] = files[base]
			delete(files, base)
		}},
		{"rename of the directory", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Rename("run", "ran", 0))
			for name, data := range files {
				delete(files, name)
				files[strings.Replace(name, "run", "ran", 1)] = data
			}
		}},
		{"rename over it", func(t *testing.T, s *Store, files map[string][]byte) {
			storeFile(t, s, "other", files[base][:90_000])
			must(t, s.Rename("other", base, 0))
			files[base] = files[base][:90_000]
		}},
		{"hard link, then edit", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Link(base, sight(t, s, base).Key, "linked"))
			if n := sight(t, s, base).Nlink; n != 2 {
				t.Errorf("it has %d links", n)
			}
			write(t, s, Write, "edited", 200_000)
			files[base] = edited(files[base], 200_000, "edited")
			files["linked"] = files[base]
			if a, b := sight(t, s, base), sight(t, s, "linked"); a.Info != b.Info {
				t.Errorf("the two names lead to\n%+v and\n%+v", a.Info, b.Info)
			}
		}},
		{"hard link, then O_TRUNC", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Link(base, sight(t, s, base).Key, "linked"))
			write(t, s, Truncate, "new", 0)
			files[base], files["linked"] = []byte("new"), []byte("new")
		}},
		{"unlinked while open, then edited", func(t *testing.T, s *Store, files map[string][]byte) {
			f, err := s.Open(context.Background(), base, Write)
			must(t, err)
			must(t, s.Unlink(base))
			if i, err := f.Info(); err != nil || i.Nlink != 0 {
				t.Errorf("it has %d links, %v", i.Nlink, err)
			}
			_, err = f.WriteAt([]byte("edited"), 5)
			must(t, err)
			must(t, f.Release(true))
			delete(files, base)
		}},
		{"all dependents deleted", func(t *testing.T, s *Store, files map[string][]byte) {
			must(t, s.Unlink(dependent))
			delete(files, dependent)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, files := chain(t, Options{}, 3)
			held, err := s.Open(context.Background(), dependent, Read)
			must(t, err)
			want := files[dependent]
			number := sight(t, s, base).Number
			c.do(t, s, files)
			if i, err := s.Lstat(base); err == nil && i.Number != number && c.name != "rename over it" {
				t.Error("the base has another number")
			}
			check := func() {
				t.Helper()
				expect(t, s, files)
				b := make([]byte, len(want))
				if _, err := held.ReadAt(b, 0); err != nil || !bytes.Equal(b, want) {
					t.Errorf("who has the dependent open reads something else, %v", err)
				}
			}
			check()
			s.keeper.tidy()
			check()
			must(t, held.Release(false))
			must(t, s.Close())
			s, err = Open(s.Path(), Options{still: true})
			must(t, err)
			expect(t, s, files)
			s.keeper.tidy()
			expect(t, s, files)
			for name := range files {
				must(t, s.Unlink(name))
				s.keeper.tidy()
				delete(files, name)
				expect(t, s, files)
			}
			if pins := pinsOf(t, s.Path()); len(pins) > 0 {
				t.Errorf("all is deleted, and %v are pinned", pins)
			}
			must(t, s.Close())
		})
	}
}

// TestPinsGoAtOnce: where the last dependent goes, so does the space of a base
// that was deleted before.
func TestPinsGoAtOnce(t *testing.T) {
	s, files := chain(t, Options{}, 3)
	must(t, s.Close())
	s, err := Open(s.Path(), Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	must(t, s.Unlink("run/ck1"))
	must(t, s.Unlink("run/ck2"))
	delete(files, "run/ck1")
	delete(files, "run/ck2")
	expect(t, s, files)
	f, err := s.Open(context.Background(), "run/ck0", Read)
	must(t, err)
	must(t, s.Unlink("run/ck0"))
	b := make([]byte, len(files["run/ck0"]))
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, files["run/ck0"]) {
		t.Errorf("an open file without a name: %v", err)
	}
	must(t, f.Release(false))
	eventually(t, func() bool { return len(pinsOf(t, s.Path())) == 0 })
}

// TestDoubtKeepsPins: as long as a directory can't be read, or a file is too
// damaged to tell what it needs, no pin goes.
func TestDoubtKeepsPins(t *testing.T) {
	for _, c := range []struct {
		name     string
		doubtful func(t *testing.T, s *Store) (undo func())
	}{
		{"a damaged file", func(t *testing.T, s *Store) func() {
			name := filepath.Join(s.Path(), "run/ck2")
			b, err := os.ReadFile(name)
			must(t, err)
			damaged := bytes.Clone(b)
			clear(damaged[20:40])
			must(t, os.WriteFile(filepath.Join(s.Path(), "damaged"), damaged, 0o600))
			return func() { must(t, os.Remove(filepath.Join(s.Path(), "damaged"))) }
		}},
		{"a directory", func(t *testing.T, s *Store) func() {
			x := s.root.sys.(*faulty)
			x.kind, x.nth, x.err, x.armed = "openat2", 1, unix.EIO, true
			x.count = make(map[string]int)
			return func() { x.armed = false }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, files := chain(t, Options{sys: &faulty{nth: -1}}, 3)
			defer func() { must(t, s.Close()) }()
			before := pinsOf(t, s.Path())
			must(t, s.Unlink("run/ck0"))
			delete(files, "run/ck0")
			undo := c.doubtful(t, s)
			s.keeper.tidy()
			if now := pinsOf(t, s.Path()); len(now) != len(before) {
				t.Errorf("there were %d pins, and are %d", len(before), len(now))
			}
			undo()
			s.keeper.tidy()
			if now := pinsOf(t, s.Path()); len(now) != 1 {
				t.Errorf("there are %d pins", len(now))
			}
			expect(t, s, files)
		})
	}
}

// TestMovesKeepPins: a dependent that is moved while a census is under way, to
// where that has been already, must not lose its base.
func TestMovesKeepPins(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	defer func() { must(t, s.Close()) }()
	c := s.takeCensus(context.Background(), nil)
	c.files = nil // as if ck0 had been where the census was not yet
	must(t, s.Rename("run/ck0", "moved", 0))
	files["moved"] = files["run/ck0"]
	delete(files, "run/ck0")
	need, err := c.needed()
	must(t, err)
	if s.keeper.release(c, need) {
		t.Error("it believes the census")
	}
	expect(t, s, files)
}

// TestPinRemovedByHand: what needs a base that somebody removed says which, once;
// the rest of the file can be read; and a file with the base's content mends it.
func TestPinRemovedByHand(t *testing.T) {
	var log bytes.Buffer
	s, files := chain(t, Options{}, 2)
	must(t, s.Close())
	var pin string
	for pin = range pinsOf(t, s.Path()) {
		must(t, os.Remove(filepath.Join(s.Path(), basesDir, pin)))
	}
	must(t, os.Rename(filepath.Join(s.Path(), "run/ck1"), filepath.Join(t.TempDir(), "away")))
	s, err := Open(s.Path(), Options{still: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	f, err := s.Open(context.Background(), "run/ck0", Read)
	must(t, err)
	b := make([]byte, 100)
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, files["run/ck0"][:100]) {
		t.Errorf("its header needs no base: %v", err)
	}
	for range 2 {
		if _, err := f.ReadAt(b, 200_000); !errors.Is(err, container.ErrBase) || !strings.Contains(err.Error(), "run/ck0") {
			t.Errorf("reading what needs the base: %v", err)
		}
	}
	must(t, f.Release(false))
	if n := strings.Count(log.String(), "msg="); n != 1 || !strings.Contains(log.String(), pin) {
		t.Errorf("the log names the pin %d times:\n%s", n, &log)
	}
}

// TestMending: pins that lead astray, as crashes and copies leave them, lead to
// the files with their content afterwards, and take no space.
func TestMending(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir, pin string)
	}{
		{"removed", func(t *testing.T, dir, pin string) { must(t, os.Remove(filepath.Join(dir, basesDir, pin))) }},
		{"a copy", func(t *testing.T, dir, pin string) {
			name := filepath.Join(dir, basesDir, pin)
			b, err := os.ReadFile(name)
			must(t, err)
			must(t, os.Remove(name))
			must(t, os.WriteFile(name, b, 0o600))
		}},
		{"useless", func(t *testing.T, dir, pin string) {
			name := filepath.Join(dir, basesDir, pin)
			must(t, os.Remove(name))
			must(t, os.WriteFile(name, []byte("something else"), 0o600))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, files := chain(t, Options{}, 3)
			must(t, s.Close())
			for pin := range pinsOf(t, s.Path()) {
				c.do(t, s.Path(), pin)
			}
			s, err := Open(s.Path(), Options{still: true})
			must(t, err)
			s.keeper.tidy()
			expect(t, s, files)
			pins := pinsOf(t, s.Path())
			for pin, names := range pins {
				if names != 1 {
					t.Errorf("%d names lead to the inode of %s", names, pin)
				}
			}
			if len(pins) != 2 {
				t.Errorf("there are %d pins", len(pins))
			}
			must(t, s.Close())
		})
	}
}

// TestNoHardLinks: where they are impossible nothing is coded anew.
func TestNoHardLinks(t *testing.T) {
	for _, cause := range []error{unix.EPERM, unix.EMLINK, unix.ENOTSUP} {
		x := &faulty{nth: -1}
		s, err := Open(t.TempDir(), Options{sys: x, still: true})
		must(t, err)
		saves := savesOf(t, 1, 2)
		storeFile(t, s, "a", saves[0])
		storeFile(t, s, "b", saves[1])
		x.kind, x.nth, x.err, x.count, x.armed = "linkat", 0, cause, make(map[string]int), true
		if err := recode(t, s, "a", "b"); !errors.Is(err, cause) || !errors.Is(err, errUnpinnable) {
			t.Errorf("%v: %v", cause, err)
		}
		expect(t, s, map[string][]byte{"a": saves[0], "b": saves[1]})
		must(t, s.Close())
	}
}

// TestCrashWhileEditingBase: wherever the daemon dies, the dependent reads as it
// was, and the base has the edit or has it not.
func TestCrashWhileEditingBase(t *testing.T) {
	for calls := 0; ; calls++ {
		x := &crashing{left: calls}
		s, files := chain(t, Options{sys: x}, 2)
		x.mu.Lock()
		x.armed = true
		x.mu.Unlock()
		if f, err := s.Open(context.Background(), "run/ck1", Write); err == nil {
			_, _ = f.WriteAt([]byte("edited"), 200_000)
			_ = f.Release(true)
		}
		x.mu.Lock()
		done := x.left >= 0
		x.mu.Unlock()
		_ = s.Close()
		s, err := Open(s.Path(), Options{still: true})
		must(t, err)
		expect(t, s, map[string][]byte{"run/ck0": files["run/ck0"]})
		got, err := readLogical(s, "run/ck1")
		if err == nil && string(got[200_000:200_006]) == "edited" {
			copy(got[200_000:], files["run/ck1"][200_000:200_006])
		}
		if err != nil || !bytes.Equal(got, files["run/ck1"]) {
			t.Errorf("it died at call %d: the base has %d bytes, or others, %v", calls, len(got), err)
		}
		must(t, s.Close())
		leftovers(t, s.Path(), files)
		if done || t.Failed() {
			return
		}
	}
}
