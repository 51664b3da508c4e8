package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// containerBytes is a sealed container, as somebody may copy one into a mount.
func containerBytes(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	must(t, os.WriteFile(src, floats(1, 200_000), 0o600))
	must(t, Pack(t.Context(), src, filepath.Join(dir, "packed"), Options{}, nil))
	b, err := os.ReadFile(filepath.Join(dir, "packed"))
	must(t, err)
	return b
}

// conversion is a way in which a plain file comes to look like a container.
type conversion struct {
	name string
	old  []byte
	// prepare does something before the file is opened, meanwhile after that.
	prepare   func(dir string) error
	meanwhile func(s *Store, f *File) error
	edit      func(f *File) error
	want      []byte
	nameless  bool // the file has no name in the end
	at        string
}

func conversions(t testing.TB) []conversion {
	whole := containerBytes(t)
	text := bytes.Repeat([]byte("step 12 loss 2.31\n"), 20_000)
	head := whole[:20]
	write := func(b []byte, off int64) func(*File) error {
		return func(f *File) error {
			_, err := f.WriteAt(b, off)
			return err
		}
	}
	linked := func(dir string) error { return os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "link")) }
	begun := append(bytes.Clone(head), text[len(head):]...)
	return []conversion{
		{name: "its beginning", old: text, edit: write(head, 0), want: begun},
		{name: "in two pieces", old: text, want: begun, edit: func(f *File) error {
			return errors.Join(write(head[10:], 10)(f), write(head[:10], 0)(f))
		}},
		{name: "all of it", old: text[:100], edit: write(whole, 0), want: whole},
		{name: "its end", old: text, edit: write(whole, int64(len(text))), want: append(bytes.Clone(text), whole...)},
		{name: "its end, in pieces", old: text, want: append(bytes.Clone(text), whole...), edit: func(f *File) error {
			n := len(whole) - 3
			return errors.Join(write(whole[:n], int64(len(text)))(f), write(whole[n:], int64(len(text)+n))(f))
		}},
		{name: "its end, cut", old: append(append(bytes.Clone(text), whole...), 1), want: append(bytes.Clone(text), whole...),
			edit: func(f *File) error { return f.Truncate(context.Background(), int64(len(text)+len(whole))) }},
		{name: "a short one grows", old: head[:13], edit: func(f *File) error { return f.Truncate(context.Background(), 1000) },
			want: append(bytes.Clone(head[:13]), make([]byte, 987)...)},
		{name: "a short one is written behind", old: head[:13], edit: write(text[:50], 500),
			want: append(append(bytes.Clone(head[:13]), make([]byte, 487)...), text[:50]...)},
		{name: "a short one gets space", old: head[:13], edit: func(f *File) error { return f.Allocate(context.Background(), 0, 1000, false) },
			want: append(bytes.Clone(head[:13]), make([]byte, 987)...)},
		{name: "several names", old: text, prepare: linked, edit: write(head, 0), want: begun},
		{name: "several names, its end", old: text, prepare: linked, edit: write(whole, int64(len(text))),
			want: append(bytes.Clone(text), whole...)},
		{name: "without a name", old: text, nameless: true, meanwhile: func(s *Store, _ *File) error { return s.Unlink("f") },
			edit: write(head, 0), want: begun},
		{name: "renamed", old: text, at: "d/g", meanwhile: func(s *Store, _ *File) error {
			return errors.Join(s.Rename("f", "e/f", 0), s.Rename("e", "d", 0), os.Rename(filepath.Join(s.Path(), "d/f"), filepath.Join(s.Path(), "d/g")))
		}, edit: write(head, 0), want: begun},
		{name: "being replaced", old: text, want: begun, edit: func(f *File) error {
			f.mu.Lock()
			err := f.empty("f")
			f.mu.Unlock()
			return errors.Join(err, write(text, 0)(f), f.Flush(), write(text[:1<<10], 2<<20)(f), f.Truncate(context.Background(), int64(len(text))), write(head, 0)(f))
		}},
		{name: "synced while it was short", want: begun, edit: func(f *File) error {
			return errors.Join(write(text, 0)(f), f.Sync(true), write(head, 0)(f), f.Sync(true))
		}},
		{name: "synced before it began so", want: append(bytes.Clone(head), text[:100]...), edit: func(f *File) error {
			return errors.Join(write(head[:13], 0)(f), f.Sync(true), write(head[13:], 13)(f), f.Sync(true), write(text[:100], 20)(f))
		}},
	}
}

// begin makes the file and opens it.
func (c *conversion) begin(t testing.TB, sys system) (*Store, *File) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "e"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "f"), c.old, 0o640))
	if c.prepare != nil {
		must(t, c.prepare(dir))
	}
	s, err := Open(dir, Options{Workers: 1, sys: sys})
	must(t, err)
	f, err := s.Open(context.Background(), "f", Write)
	must(t, err)
	if c.meanwhile != nil {
		must(t, c.meanwhile(s, f))
	}
	return s, f
}

// rel is the name that the file has in the end.
func (c *conversion) rel() string {
	if c.at != "" {
		return c.at
	}
	return "f"
}

// TestPlainBecomesContainer, whatever names it has, and clients see one inode.
func TestPlainBecomesContainer(t *testing.T) {
	for _, c := range conversions(t) {
		t.Run(c.name, func(t *testing.T) {
			s, f := c.begin(t, nil)
			before, err := f.Info()
			must(t, err)
			must(t, c.edit(f))
			got := make([]byte, len(c.want)+1)
			n, err := f.ReadAt(got, 0)
			if !bytes.Equal(got[:n], c.want) {
				t.Errorf("%d bytes, or others, %v", n, err)
			}
			after, err := f.Info()
			must(t, err)
			if before.Key != after.Key || before.Number != after.Number || before.Nlink != after.Nlink || before.Mode != after.Mode {
				t.Errorf("clients see %+v, before %+v", after, before)
			}
			must(t, f.Release(true))
			must(t, s.Close())
			c.check(t, s.Path(), false)
		})
	}
}

// check looks at what is there after the store is gone.
func (c *conversion) check(t testing.TB, dir string, oldAllowed bool) {
	t.Helper()
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if left, err := os.ReadDir(filepath.Join(dir, pendingDir)); err == nil && len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if c.nameless {
		return
	}
	names := []string{c.rel()}
	if c.prepare != nil {
		names = append(names, "link")
	}
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		got, err := readLogical(s, name)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case bytes.Equal(got, c.want) && container.Recognize(raw):
		case oldAllowed && c.between(got):
		default:
			t.Errorf("%s has %d bytes that it should not have, in a file of %d", name, len(got), len(raw))
		}
	}
}

// between says whether got may be what a crash left: what was there, with some
// of what was written.
func (c *conversion) between(got []byte) bool {
	if bytes.Equal(got, c.old) || bytes.Equal(got, c.want) {
		return true
	}
	for i, b := range got { // each byte is an old one, a new one, or of what an edit wrote first
		if !(i < len(c.old) && b == c.old[i] || i < len(c.want) && b == c.want[i] || b == "step 12 loss 2.31\n"[i%18] || b == 0) {
			return false
		}
	}
	return len(got) >= min(len(c.old), len(c.want))
}

// crashing is a system of which every call fails from the nth on, as if the
// process had been killed there.
type crashing struct {
	kernel
	mu    sync.Mutex // guards what follows
	left  int
	armed bool
}

var errCrashed = errors.New("crashed")

func (x *crashing) call() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.armed {
		return nil
	}
	if x.left--; x.left < 0 {
		return errCrashed
	}
	return nil
}

func (x *crashing) openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	if err := x.call(); err != nil {
		return -1, err
	}
	return x.kernel.openat(dirfd, name, flags, mode)
}

func (x *crashing) openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	if err := x.call(); err != nil {
		return -1, err
	}
	return x.kernel.openat2(dirfd, name, how)
}

func (x *crashing) renameat(fromFD int, from string, toFD int, to string, flags uint) error {
	return errors.Join(x.call(), x.unless(func() error { return x.kernel.renameat(fromFD, from, toFD, to, flags) }))
}

func (x *crashing) unlinkat(dirfd int, name string, flags int) error {
	return errors.Join(x.call(), x.unless(func() error { return x.kernel.unlinkat(dirfd, name, flags) }))
}

func (x *crashing) linkat(fd, dirfd int, name string) error {
	return errors.Join(x.call(), x.unless(func() error { return x.kernel.linkat(fd, dirfd, name) }))
}

func (x *crashing) pwrite(f *os.File, p []byte, off int64) (n int, err error) {
	if err := x.call(); err != nil {
		return 0, err
	}
	return x.kernel.pwrite(f, p, off)
}

func (x *crashing) truncate(f *os.File, size int64) error {
	return errors.Join(x.call(), x.unless(func() error { return x.kernel.truncate(f, size) }))
}

func (x *crashing) fdatasync(*os.File) error { return x.call() }
func (x *crashing) fsync(*os.File) error     { return x.call() }

func (x *crashing) unless(do func() error) error {
	x.mu.Lock()
	crashed := x.armed && x.left < 0
	x.mu.Unlock()
	if crashed {
		return errCrashed
	}
	return do()
}

// TestCrashWhileConverting: wherever the daemon dies, what is there is what was
// there before, or the container, and nothing is left of the attempt.
func TestCrashWhileConverting(t *testing.T) {
	for _, c := range conversions(t) {
		if c.nameless {
			continue // nobody can look
		}
		t.Run(c.name, func(t *testing.T) {
			for calls := 0; ; calls++ {
				x := &crashing{left: calls}
				s, f := c.begin(t, x)
				x.mu.Lock()
				x.armed = true
				x.mu.Unlock()
				err := c.edit(f)
				_ = f.Release(true)
				_ = s.Close()
				c.check(t, s.Path(), true)
				if t.Failed() {
					t.Fatalf("it died at call %d: %v", calls, err)
				}
				x.mu.Lock()
				done := x.left >= 0
				x.mu.Unlock()
				if done {
					return
				}
				if testing.Short() || raceDetector {
					calls += 4
				}
			}
		})
	}
}

// committed is a faulty system that is armed when a redo is committed, since how
// many writes there are before that depends on how many frames are written at once.
type committed struct{ *faulty }

func (x committed) renameat(fromFD int, from string, toFD int, to string, flags uint) error {
	err := x.faulty.renameat(fromFD, from, toFD, to, flags)
	if strings.HasPrefix(to, redoPrefix) {
		x.mu.Lock()
		x.count, x.armed = make(map[string]int), true
		x.mu.Unlock()
	}
	return err
}

// TestFailedConversion: a file whose redo could not be copied over it is read
// from the redo, tells at fsync, and is whole after the next start.
func TestFailedConversion(t *testing.T) {
	all := conversions(t)
	c := all[9]
	if c.name != "several names" {
		t.Fatal(c.name)
	}
	for n := range 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			x := &faulty{kind: "pwrite", nth: n, err: unix.EIO, half: true}
			s, f := c.begin(t, x)
			x.mu.Lock()
			x.count, x.armed = make(map[string]int), true
			x.mu.Unlock()
			c.fails(t, s, f, x)
		})
	}
	t.Run("copied over the file", func(t *testing.T) {
		x := &faulty{kind: "pwrite", err: unix.EIO, half: true}
		s, f := c.begin(t, committed{x})
		if redos := c.fails(t, s, f, x); redos != 1 {
			t.Errorf("%d redos are left while the file is not whole", redos)
		}
	})
}

// fails edits f, where a write fails. It returns how many redos there were then.
func (c *conversion) fails(t *testing.T, s *Store, f *File, x *faulty) (redos int) {
	t.Helper()
	err := c.edit(f)
	if x.fired == (err == nil) {
		t.Errorf("fired %v, and the edit says %v", x.fired, err)
	}
	got := make([]byte, len(c.old))
	switch n, err := f.ReadAt(got, 0); {
	case errors.Is(err, unix.EIO): // the edit itself failed, and was told of
	case n != len(got) || !c.between(got):
		t.Errorf("it reads %d bytes, or wrong ones, %v", n, err)
	}
	left, err := filepath.Glob(filepath.Join(s.Path(), pendingDir, redoPrefix+"*"))
	must(t, err)
	if len(left) > 0 && f.Sync(true) == nil {
		t.Error("fsync says that the file is durable under its name")
	}
	_ = f.Sync(true)
	_ = f.Release(true)
	x.mu.Lock()
	x.armed = false
	x.mu.Unlock()
	_ = s.Close()
	c.check(t, s.Path(), true)
	return len(left)
}

// TestRecoveryOfRedo finds the file by its inode, wherever it is, and leaves
// alone what another host is doing.
func TestRecoveryOfRedo(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, pendingDir), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	whole := containerBytes(t)
	host, _, _ := strings.Cut(instance(), ".")
	redoFor := func(name, host, suffix string) string {
		must(t, os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("old"), 10), 0o600))
		var st unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, filepath.Join(dir, name), 0, statMask, &st))
		redo := filepath.Join(dir, pendingDir, fmt.Sprintf("%s%s.boot.1.%x.%x.x%s", redoPrefix, host, st.Ino, uint64(nanoseconds(st.Btime)), suffix))
		must(t, os.WriteFile(redo, whole, 0o600))
		return redo
	}
	mine, part := redoFor("a/b/f", host, ""), redoFor("a/g", host, unfinished)
	foreign := redoFor("a/h", "another", "")
	gone := redoFor("a/gone", host, "")
	must(t, os.Remove(filepath.Join(dir, "a/gone")))
	must(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "c")))
	s, err := Open(dir, Options{})
	must(t, err)
	must(t, s.Close())
	for redo, want := range map[string]bool{mine: false, part: false, foreign: true, gone: false} {
		if there(redo) != want {
			t.Errorf("%s: there %v", filepath.Base(redo), !want)
		}
	}
	for name, want := range map[string][]byte{"c/f": whole, "a/g": bytes.Repeat([]byte("old"), 10), "a/h": bytes.Repeat([]byte("old"), 10)} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
}
