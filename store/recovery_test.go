package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostLabel: whatever a host is called, its label is one component of a
// name, and the dots around it can be told.
func TestHostLabel(t *testing.T) {
	for host, want := range map[string]string{
		"gpu-7":                  "gpu-7",
		"gpu-7.cluster.example":  "gpu-7-cluster-example",
		"":                       "",
		"a/b c\n":                "a-b-c-",
		"rechner-größe":          "rechner-gr--e",
		strings.Repeat("x", 300): strings.Repeat("x", 64),
	} {
		if got := hostLabel(host); got != want {
			t.Errorf("%q becomes %q, want %q", host, got, want)
		}
	}
	for _, host := range []string{strings.Repeat("ä", 60), "x" + strings.Repeat("€", 40), "\xff\xfe\x00\x01"} {
		got := hostLabel(host)
		if len(got) > 64 || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' || r == '/' }) {
			t.Errorf("%q becomes %q", host, got)
		}
	}
}

// abandon leaves an unfinished replacement of rel, as a daemon that is killed
// does, and renames it to be another instance's if owner is not "".
func abandon(t *testing.T, dir, rel, owner string) (sibling, note string) {
	t.Helper()
	s, err := Open(dir, Options{})
	must(t, err)
	f, err := s.Open(context.Background(), rel, Truncate)
	must(t, err)
	_, err = f.WriteAt([]byte("the new content"), 0)
	must(t, err)
	must(t, f.Flush())
	if f.replacing == nil {
		t.Fatal("it is not being replaced")
	}
	name := f.replacing.name
	must(t, s.root.close()) // and with it the lock
	parent := filepath.Join(dir, filepath.Dir(rel))
	sibling, note = filepath.Join(parent, name), filepath.Join(dir, pendingDir, name)
	if owner == "" {
		return sibling, note
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(name, siblingPrefix), ".")
	other := siblingPrefix + owner + "." + rest
	must(t, os.Rename(sibling, filepath.Join(parent, other)))
	must(t, os.Rename(note, filepath.Join(dir, pendingDir, other)))
	return filepath.Join(parent, other), filepath.Join(dir, pendingDir, other)
}

func there(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// TestRecoveryRemovesOwnLeftovers, and those of nobody else.
func TestRecoveryRemovesOwnLeftovers(t *testing.T) {
	for _, rel := range []string{"f", "a/b/f"} {
		t.Run(rel, func(t *testing.T) { recoverOwn(t, rel) })
	}
}

func recoverOwn(t *testing.T, rel string) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	old := []byte("the old content")
	for _, rel := range []string{"f", "a/b/f", "other", "a/other"} {
		must(t, os.WriteFile(filepath.Join(dir, rel), old, 0o600))
	}
	host, _, _ := strings.Cut(instance(), ".")
	var mine, foreign []string
	for rel, owner := range map[string]string{"other": "another-" + host, "a/other": host + "x"} {
		s, n := abandon(t, dir, rel, owner)
		foreign = append(foreign, s, n)
	}
	s, n := abandon(t, dir, rel, "")
	mine = append(mine, s, n)
	// Names that only look like ours.
	for _, name := range []string{".mithrilfs-new", ".mithrilfs-new.", ".mithrilfs-new." + host, "note"} {
		must(t, os.WriteFile(filepath.Join(dir, pendingDir, name), []byte("a/b"), 0o600))
	}
	reader, err := Open(dir, Options{ReadOnly: true})
	must(t, err)
	for _, name := range append(mine, foreign...) {
		if !there(name) {
			t.Errorf("opened for reading, it removed %s", name)
		}
	}
	must(t, reader.Close())
	st, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, st.Close()) }()
	for _, name := range mine {
		if there(name) {
			t.Errorf("it left %s", name)
		}
	}
	for _, name := range foreign {
		if !there(name) {
			t.Errorf("it removed another host's %s", name)
		}
	}
	for _, rel := range []string{"f", "a/b/f", "other", "a/other"} {
		if got, err := readLogical(st, rel); err != nil || !bytes.Equal(got, old) {
			t.Errorf("%s: %q, %v", rel, got, err)
		}
	}
	// A sibling without a note, as of a host that shares the directory, is no
	// file of a client's.
	for _, name := range foreign {
		rel, err := filepath.Rel(dir, name)
		must(t, err)
		if _, err := st.Lstat(rel); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a client sees %s: %v", rel, err)
		}
	}
}

// TestRecoveryAfterMove: a directory that was renamed, or worse, while a file in
// it was being replaced.
func TestRecoveryAfterMove(t *testing.T) {
	for _, c := range []struct {
		name string
		move func(dir string) error
		now  string // where the directory is
	}{
		{"renamed", func(dir string) error {
			return os.Rename(filepath.Join(dir, "tmp-checkpoint"), filepath.Join(dir, "checkpoint-1"))
		}, "checkpoint-1"},
		{"renamed, and another has its name", func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "tmp-checkpoint"), filepath.Join(dir, "checkpoint-1")),
				os.Mkdir(filepath.Join(dir, "tmp-checkpoint"), 0o700))
		}, "checkpoint-1"},
		{"moved far", func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700),
				os.Rename(filepath.Join(dir, "tmp-checkpoint"), filepath.Join(dir, "a/b/c/d")))
		}, "a/b/c/d"},
		{"a file has its name", func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "tmp-checkpoint"), filepath.Join(dir, "checkpoint-1")),
				os.WriteFile(filepath.Join(dir, "tmp-checkpoint"), nil, 0o600))
		}, "checkpoint-1"},
		{"removed", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "tmp-checkpoint")) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(dir, "tmp-checkpoint"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "tmp-checkpoint/f"), []byte("the old content"), 0o600))
			sibling, note := abandon(t, dir, "tmp-checkpoint/f", "")
			must(t, c.move(dir))
			s, err := Open(dir, Options{})
			must(t, err)
			must(t, s.Close())
			if there(filepath.Join(dir, c.now, filepath.Base(sibling))) || there(note) {
				t.Error("it is left behind")
			}
			if c.now == "" {
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, c.now, "f")); err != nil || string(b) != "the old content" {
				t.Errorf("%q %v", b, err)
			}
		})
	}
}

// TestLongestName: a name of 255 bytes can be replaced, renamed and unlinked.
func TestLongestName(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	name, other := "d/"+strings.Repeat("n", 255), "d/"+strings.Repeat("m", 255)
	f, err := s.Create(name, 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt([]byte("old"), 0)
	must(t, err)
	must(t, f.Release(true))
	f, err = s.Open(context.Background(), name, Truncate)
	must(t, err)
	if f.replacing == nil {
		t.Error("it is emptied in place")
	}
	weights := testWeights(t)[:1<<20]
	_, err = f.WriteAt(weights, 0)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "old" {
		t.Errorf("%q %v", b, err)
	}
	must(t, f.Release(true))
	must(t, s.Rename(name, other, 0))
	if got, err := readLogical(s, other); err != nil || !bytes.Equal(got, weights) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	must(t, s.Unlink(other))
	if _, err := s.Create(name+"n", 0o600, Caller{}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("%v", err)
	}
}

// TestIdentities: numbers that clients see stay, no two files have one, and
// where a number in a directory does not tell, own says so.
func TestIdentities(t *testing.T) {
	var x identities
	a, b, c := Key{1, 10, 1}, Key{1, 11, 2}, Key{1, 10, 3}
	if x.of(a) != a || x.number(a) != 10 || !x.own(10) {
		t.Error("a file that was never replaced has its own number")
	}
	x.announce(a, b)
	if x.of(a) != a || x.of(b) != a || x.own(11) {
		t.Error("the next backing inode is not expected")
	}
	x.retract(b)
	if x.of(b) != b {
		t.Error("it is still expected")
	}
	x.announce(a, b)
	x.handOver(a, b) // the file known as a is kept in b now, and number 10 is free
	if x.of(b) != a || x.number(a) != 10 || x.own(11) || x.own(10) || !x.own(12) {
		t.Errorf("%v %d %v %v %v", x.of(b), x.number(a), x.own(11), x.own(10), x.own(12))
	}
	// A new file gets the number that clients know a by.
	n := x.number(c)
	if n == 10 || n == 11 || x.number(c) != n {
		t.Errorf("%d", n)
	}
	d := Key{1, 12, 4}
	x.handOver(a, d)
	if x.of(b) != b || x.of(d) != a || x.own(12) || x.own(11) {
		t.Error("replaced again: a listing from before has 11 for it")
	}
	// The new file is replaced too, and leaves its number to the next inode that
	// replaces a.
	e, again := Key{1, 13, 5}, Key{1, 10, 6}
	x.handOver(c, e)
	x.handOver(a, again)
	if x.number(x.of(e)) != n || x.number(x.of(again)) != 10 {
		t.Errorf("%d %d", x.number(x.of(e)), x.number(x.of(again)))
	}
	x.forget(c)
	if x.number(x.of(again)) != 10 {
		t.Error("forgotten, a file took the number of another along")
	}
	x.forget(a)
	if x.of(again) != again || x.number(Key{1, 10, 7}) != 10 || len(x.known)+len(x.backing)+len(x.held)+len(x.given) > 0 {
		t.Errorf("forgotten files still hold numbers: %+v", x.held)
	}
	for i := range uint64(maxTouched + 2) {
		x.announce(a, Key{1, 1000 + i, 1})
	}
	if x.own(1) || x.touched != nil {
		t.Error("it holds numbers without bound")
	}
}
