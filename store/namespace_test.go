package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOtherInode: whoever means an inode by a name that leads to another one by
// now does nothing to that.
func TestOtherInode(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"meant", "other"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	meant, err := s.Lstat("meant")
	must(t, err)
	before, err := s.Lstat("other")
	must(t, err)
	open := func(mode Mode) error {
		f, err := s.OpenInode(context.Background(), "other", meant.Key, mode)
		if err == nil {
			must(t, f.Release(mode != Read))
		}
		return err
	}
	for what, err := range map[string]error{
		"read": open(Read), "write": open(Write), "empty": open(Truncate),
		"truncate": s.Truncate(context.Background(), "other", meant.Key, 1), "truncate to nothing": s.Truncate(context.Background(), "other", meant.Key, 0),
		"chmod": s.Chmod("other", meant.Key, 0o777), "chown": s.Chown("other", meant.Key, os.Getuid(), -1),
		"utimens":  s.Utimens("other", meant.Key, unix.Timespec{}, unix.Timespec{}),
		"setxattr": s.Setxattr("other", meant.Key, "user.a", nil, 0), "link": s.Link("other", meant.Key, "new"),
	} {
		if !errors.Is(err, unix.ESTALE) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Stat("other", meant.Key); !errors.Is(err, unix.ESTALE) {
		t.Errorf("stat: %v", err)
	}
	if after, err := s.Lstat("other"); err != nil || after != before {
		t.Errorf("%+v, it was %+v, %v", after, before, err)
	}
	if b, err := readLogical(s, "other"); err != nil || string(b) != "other" {
		t.Errorf("%q %v", b, err)
	}
}
