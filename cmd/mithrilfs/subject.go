package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// subject is a file that is looked into: in a backing directory, or, through
// the process that serves it, in a live mount.
type subject interface {
	Summary() store.Summary
	// Tensors and Frames return up to n entries from i on; none mean the end.
	Tensors(i, n int) ([]store.TensorReport, error)
	Frames(i, n int) ([]store.FrameReport, error)
	// Check decodes the i-th live frame from the disk.
	Check(i int) error
	Close() error
}

var _ subject = (*fs.Remote)(nil)

// local is a subject in a backing directory.
type local struct{ *store.Inspection }

func (l local) Tensors(i, n int) ([]store.TensorReport, error) {
	return l.Inspection.Tensors(i, n), nil
}

func (l local) Frames(i, n int) ([]store.FrameReport, error) {
	return l.Inspection.Frames(i, n), nil
}

// inspect looks into a regular file, wherever it is.
func inspect(path string) (subject, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	if onFUSE(path) {
		r, err := fs.InspectRemote(path)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, fs.ErrNotMounted) {
			return nil, err
		}
	}
	in, err := store.Inspect(path)
	if err != nil {
		return nil, err
	}
	return local{in}, nil
}

func regular(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s: is a directory: name a file in it", path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s: is not a regular file", path)
	}
	return nil
}

// summarize is the summary of one file.
func summarize(path string) (store.Summary, error) {
	s, err := inspect(path)
	if err != nil {
		return store.Summary{}, err
	}
	return s.Summary(), s.Close()
}

func onFUSE(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

// errIntoMount: a container written through a mount would be stored as a file
// of that content.
var errIntoMount = errors.New("is in a live mithrilfs mount, which does this by itself")

// outsideMount is an error if dst would be made in a live mount.
func outsideMount(dst string) error {
	in, err := fs.InMount(filepath.Dir(filepath.Clean(dst)))
	if err == nil && in {
		err = fmt.Errorf("%s %w", dst, errIntoMount)
	}
	return err
}

// logical is a file opened for its logical bytes.
type logical struct {
	io.ReaderAt
	io.Closer
	summary store.Summary
}

// openLogical opens a file, wherever it is. A container that can't be opened is
// an error; of an unsealed one there is what is whole.
func openLogical(path string) (*logical, error) {
	s, err := inspect(path)
	if err != nil {
		return nil, err
	}
	sum := s.Summary()
	l, isLocal := s.(local)
	switch {
	case sum.State == store.StateDamaged:
		_ = s.Close()
		return nil, problem(path, sum)
	case isLocal && sum.State != store.StatePlain:
		return &logical{l, l, sum}, nil
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	f, err := os.Open(path) // a plain file, or a mount's
	if err != nil {
		return nil, err
	}
	return &logical{f, f, sum}, nil
}

// problem is a summary's problem, as an error that can be told from others
// where the container itself is in reach.
func problem(path string, sum store.Summary) error {
	if err := openError(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s: %s", path, sum.Problem)
}

func openError(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	_, err = container.Summarize(f, st.Size())
	return err
}
