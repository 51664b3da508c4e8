package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Unpack copies src, a file or a directory in a backing directory, to dst as
// plain files. dst must not exist. Every byte from a container is checked; the
// first damaged frame ends it with an error that names it. When ctx ends, what is
// not finished is removed, and the error is its cause.
func Unpack(ctx context.Context, src, dst string, progress Progress) error {
	if err := absent(dst); err != nil {
		return err
	}
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return unpackFile(ctx, src, dst, st, progress)
	}
	var finish []func() error
	err = filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ended(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, name)
		if err != nil {
			return err
		}
		if rel == privateDir {
			return fs.SkipDir
		}
		if strings.HasPrefix(d.Name(), siblingPrefix) {
			return nil // what a daemon that died was going to put in another file's place
		}
		to := filepath.Join(dst, rel)
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			finish = append(finish, func() error { return copyAttributes(to, st) })
			return os.Mkdir(to, 0o700)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case d.Type().IsRegular():
			return unpackFile(ctx, name, to, st, progress)
		}
		return fmt.Errorf("%s: neither a file, a directory nor a symbolic link: remove it or unpack the rest by name", name)
	})
	for i := len(finish) - 1; i >= 0 && err == nil; i-- {
		err = finish[i]()
	}
	return err
}

func unpackFile(ctx context.Context, src, dst string, st fs.FileInfo, progress Progress) (err error) {
	r, size, closeSrc, err := openLogical(src)
	if err != nil {
		return err
	}
	defer func() { _ = closeSrc() }()
	part := partName(dst)
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			err = errors.Join(err, ignoreAbsent(os.Remove(part)))
		}
	}()
	to := &counted{Writer: f, name: path.Base(src), progress: progress}
	if _, err := io.CopyBuffer(to, until{ctx, io.NewSectionReader(r, 0, size)}, make([]byte, copyBuffer)); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := copyAttributes(part, st); err != nil {
		return err
	}
	return os.Rename(part, dst)
}

func copyAttributes(to string, st fs.FileInfo) error {
	if err := os.Chmod(to, st.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, st.ModTime(), st.ModTime())
}

// openLogical opens the logical bytes of a backing file. An unsealed container
// is an error: what is missing would go unnoticed.
func openLogical(name string) (io.ReaderAt, int64, func() error, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, nil, err
	}
	r, err := container.Open(f, st.Size(), cacheFor(name))
	switch {
	case errors.Is(err, container.ErrNotContainer):
		if err := checkPlain(int(f.Fd()), st.Size()); err != nil {
			_ = f.Close()
			return nil, 0, nil, fmt.Errorf("%s: %w", name, err)
		}
		return f, st.Size(), f.Close, nil
	case err != nil:
		_ = f.Close()
		return nil, 0, nil, fmt.Errorf("%s: %w", name, err)
	case !r.State().Sealed:
		r.Close()
		_ = f.Close()
		return nil, 0, nil, fmt.Errorf("%s: %w: its first %d bytes are whole, get them with: mithrilfs cat",
			name, ErrUnsealed, r.Size())
	}
	return r, r.Size(), func() error { r.Close(); return f.Close() }, nil
}
