package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// makeTree makes a directory with one of everything that Pack takes.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	weights := testWeights(t)
	must(t, os.MkdirAll(filepath.Join(dir, "checkpoint-1/empty"), 0o700))
	for name, data := range map[string][]byte{
		"checkpoint-1/model.bin": weights[:1<<20],
		"checkpoint-1/config":    []byte("{}"),
		"nothing":                nil,
		"log":                    bytes.Repeat([]byte("step 1\n"), 50_000),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	must(t, os.Symlink("checkpoint-1", filepath.Join(dir, "last")))
	must(t, os.Symlink("/nowhere/at/all", filepath.Join(dir, "dangling")))
	for name, mode := range map[string]os.FileMode{
		"checkpoint-1/model.bin": 0o444, "log": 0o640, "nothing": 0o755, "checkpoint-1/empty": 0o711, "checkpoint-1": 0o555, "": 0o750,
	} {
		when := time.Date(2020, 1, 2, 3, 4, 5, 600_000_000+len(name), time.UTC)
		must(t, os.Chmod(filepath.Join(dir, name), mode))
		must(t, os.Chtimes(filepath.Join(dir, name), when, when))
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "checkpoint-1"), 0o755) })
}

// compareTrees compares names, types, modes, times of modification, links and
// bytes.
func compareTrees(t *testing.T, want, got string) {
	t.Helper()
	names := func(dir string) map[string]fs.FileInfo {
		m := make(map[string]fs.FileInfo)
		must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			must(t, err)
			rel, err := filepath.Rel(dir, name)
			must(t, err)
			m[rel], err = d.Info()
			return err
		}))
		return m
	}
	a, b := names(want), names(got)
	for name, w := range a {
		g := b[name]
		delete(b, name)
		switch {
		case g == nil:
			t.Errorf("%s is missing", name)
		case g.Mode() != w.Mode():
			t.Errorf("%s has mode %v, want %v", name, g.Mode(), w.Mode())
		case w.Mode()&fs.ModeSymlink != 0:
			x, err := os.Readlink(filepath.Join(want, name))
			must(t, err)
			y, err := os.Readlink(filepath.Join(got, name))
			must(t, err)
			if x != y {
				t.Errorf("%s leads to %s, want %s", name, y, x)
			}
		case !g.ModTime().Equal(w.ModTime()):
			t.Errorf("%s has time %v, want %v", name, g.ModTime(), w.ModTime())
		case w.Mode().IsRegular():
			x, err := os.ReadFile(filepath.Join(want, name))
			must(t, err)
			y, err := os.ReadFile(filepath.Join(got, name))
			must(t, err)
			if !bytes.Equal(x, y) {
				t.Errorf("%s: %d bytes, want %d, or others", name, len(y), len(x))
			}
		}
	}
	for name := range b {
		t.Errorf("%s was not there", name)
	}
}

func TestPackAndUnpack(t *testing.T) {
	dir := t.TempDir()
	src, packed, back := filepath.Join(dir, "src"), filepath.Join(dir, "packed"), filepath.Join(dir, "back")
	makeTree(t, src)
	var told int64
	must(t, Pack(t.Context(), src, packed, Options{}, func(_ string, n int64) { told += n }))
	if want := int64(1<<20 + 2 + 350_000); told != want {
		t.Errorf("the progress adds up to %d, want %d", told, want)
	}
	x, err := Inspect(filepath.Join(packed, "checkpoint-1/model.bin"))
	must(t, err)
	if s := x.Summary(); s.State != StateSealed || s.Ratio < 1.4 {
		t.Errorf("%+v", s)
	}
	must(t, x.Close())
	must(t, Unpack(t.Context(), packed, back, nil))
	compareTrees(t, src, back)
	// One file each way.
	one, again := filepath.Join(dir, "one"), filepath.Join(dir, "again")
	must(t, Pack(t.Context(), filepath.Join(src, "checkpoint-1/model.bin"), one, Options{}, nil))
	must(t, Unpack(t.Context(), one, again, nil))
	a, err := os.ReadFile(filepath.Join(src, "checkpoint-1/model.bin"))
	must(t, err)
	b, err := os.ReadFile(again)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Error("a single file differs")
	}
	for _, d := range []string{packed, back} {
		_ = os.Chmod(filepath.Join(d, "checkpoint-1"), 0o755)
	}
}

// TestPackRefuses what it can't do, and leaves no part of a file under its
// name.
func TestPackRefuses(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	must(t, os.Mkdir(src, 0o700))
	must(t, os.WriteFile(filepath.Join(src, "f"), testWeights(t)[:1<<20], 0o600))
	dst := filepath.Join(dir, "dst")
	for _, there := range []func() error{
		func() error { return os.WriteFile(dst, nil, 0o600) },
		func() error { return os.Mkdir(dst, 0o700) },
		func() error { return os.Symlink("nowhere", dst) },
	} {
		must(t, there())
		for what, err := range map[string]error{
			"pack": Pack(t.Context(), src, dst, Options{}, nil), "unpack": Unpack(t.Context(), src, dst, nil),
			"pack a file": Pack(t.Context(), filepath.Join(src, "f"), dst, Options{}, nil),
		} {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s over what is there: %v", what, err)
			}
		}
		must(t, os.RemoveAll(dst))
	}
	if err := Pack(t.Context(), filepath.Join(dir, "none"), dst, Options{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	must(t, unix.Mkfifo(filepath.Join(src, "pipe"), 0o600))
	if err := Pack(t.Context(), src, dst, Options{}, nil); err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("a pipe: %v", err)
	}
	must(t, os.RemoveAll(dst))
	// A damaged or unfinished container is no file to unpack.
	must(t, os.Remove(filepath.Join(src, "pipe")))
	must(t, Pack(t.Context(), src, dst, Options{}, nil))
	b, err := os.ReadFile(filepath.Join(dst, "f"))
	must(t, err)
	out := filepath.Join(dir, "out")
	for what, c := range map[string]struct {
		b    []byte
		want error
	}{
		"cut":     {b[:len(b)-100], ErrUnsealed},
		"damaged": {append(append(bytes.Clone(b[:1000]), b[1000]^1), b[1001:]...), container.ErrDamaged},
		"version": {append(append(bytes.Clone(b[:20]), b[20]^1), b[21:]...), container.ErrDamaged},
	} {
		must(t, os.WriteFile(filepath.Join(dst, "f"), c.b, 0o600))
		if err := Unpack(t.Context(), filepath.Join(dst, "f"), out, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if there(out) || parts(t, dir) > 0 {
			t.Errorf("%s: something is left", what)
			_ = os.Remove(out)
		}
	}
}

// TestInterrupted: what ends early leaves no part of a file, and what it has
// finished is whole.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	src, whole := filepath.Join(dir, "src"), filepath.Join(dir, "whole")
	must(t, os.Mkdir(src, 0o700))
	weights := testWeights(t)[:5<<20]
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.WriteFile(filepath.Join(src, name), weights, 0o600))
	}
	must(t, Pack(t.Context(), src, whole, Options{}, nil))
	reason := errors.New("the reason")
	for what, do := range map[string]func(ctx context.Context, dst string, progress Progress) error{
		"pack": func(ctx context.Context, dst string, progress Progress) error {
			return Pack(ctx, src, dst, Options{}, progress)
		},
		"unpack": func(ctx context.Context, dst string, progress Progress) error {
			return Unpack(ctx, whole, dst, progress)
		},
	} {
		for after := int64(0); after < 3*int64(len(weights)); after += 3 << 20 {
			dst := filepath.Join(dir, "dst")
			ctx, cancel := context.WithCancelCause(t.Context())
			var told int64
			err := do(ctx, dst, func(_ string, n int64) {
				if told += n; told > after {
					cancel(reason)
				}
			})
			if !errors.Is(err, reason) {
				t.Errorf("%s, interrupted after %d bytes: %v", what, told, err)
			}
			if n := parts(t, dir); n > 0 {
				t.Errorf("%s left %d parts", what, n)
			}
			entries, err := os.ReadDir(dst)
			must(t, err)
			for _, e := range entries {
				if e.Name() == privateDir {
					continue
				}
				x, err := Inspect(filepath.Join(dst, e.Name()))
				must(t, err)
				if s := x.Summary(); s.Logical != int64(len(weights)) || s.State == StateUnsealed {
					t.Errorf("%s left %+v", what, s)
				}
				must(t, x.Close())
			}
			must(t, os.RemoveAll(dst))
		}
	}
}

// TestPackLongestName: names may have 255 bytes.
func TestPackLongestName(t *testing.T) {
	dir := t.TempDir()
	src, name := filepath.Join(dir, "src"), strings.Repeat("n", 255)
	must(t, os.Mkdir(src, 0o700))
	must(t, os.WriteFile(filepath.Join(src, name), []byte("content"), 0o600))
	must(t, Pack(t.Context(), src, filepath.Join(dir, "packed"), Options{}, nil))
	must(t, Unpack(t.Context(), filepath.Join(dir, "packed"), filepath.Join(dir, "back"), nil))
	compareTrees(t, src, filepath.Join(dir, "back"))
}

// TestUnpackLeavesLeftovers: what a daemon that died was going to put in the
// place of a file is not a file.
func TestUnpackLeavesLeftovers(t *testing.T) {
	dir := t.TempDir()
	packed, back := filepath.Join(dir, "packed"), filepath.Join(dir, "back")
	must(t, os.Mkdir(packed, 0o700))
	must(t, os.WriteFile(filepath.Join(packed, "f"), []byte("the old content"), 0o600))
	abandon(t, packed, "f", "")
	must(t, Unpack(t.Context(), packed, back, nil))
	entries, err := os.ReadDir(back)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("%v", entries)
	}
}

// TestUnpackSpecialFiles: what can't be unpacked is said, as Pack does.
func TestUnpackSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	packed := filepath.Join(dir, "packed")
	must(t, os.Mkdir(packed, 0o700))
	must(t, unix.Mkfifo(filepath.Join(packed, "pipe"), 0o600))
	if err := Unpack(t.Context(), packed, filepath.Join(dir, "back"), nil); err == nil {
		t.Error("nothing is said")
	}
}

// parts counts files that Pack or Unpack has not finished.
func parts(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	must(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), "mithrilfs-part") {
			n++
		}
		return err
	}))
	return n
}
