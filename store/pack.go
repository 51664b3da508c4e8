package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Progress is told of every piece copied: which file, and how many logical
// bytes of it since the last call.
type Progress func(name string, n int64)

// partSuffix marks a file that Pack or Unpack has not finished. It gets its
// name when it is whole and durable.
const partSuffix = ".mithrilfs-part"

// copyBuffer is how much Pack and Unpack read at once.
const copyBuffer = 1 << 20

// Pack copies src, a file or a directory, to dst, in a backing directory: what
// is worth it becomes a container there. dst must not exist. Modes and
// modification times are kept; symbolic links are copied as links.
func Pack(src, dst string, o Options, progress Progress) error {
	if err := absent(dst); err != nil {
		return err
	}
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	dir, base := filepath.Split(filepath.Clean(dst))
	if st.IsDir() {
		if err := os.Mkdir(dst, st.Mode().Perm()|0o700); err != nil {
			return err
		}
		dir, base = dst, ""
	}
	if dir == "" {
		dir = "."
	}
	s, err := Open(dir, o)
	if err != nil {
		return err
	}
	p := &packer{s, progress}
	if st.IsDir() {
		err = p.tree(src)
	} else {
		err = p.file(src, base)
	}
	return errors.Join(err, s.Close())
}

func absent(dst string) error {
	_, err := os.Lstat(dst)
	if err == nil {
		return &os.PathError{Op: "create", Path: dst, Err: unix.EEXIST}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

type packer struct {
	store    *Store
	progress Progress
}

// tree copies what is in the directory src. Directories get their modes and
// times last: they may be read-only, and what is put into them changes them.
func (p *packer) tree(src string) error {
	var finish []func() error
	err := filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, name)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = ""
		}
		if d.IsDir() {
			finish = append(finish, func() error { return p.attributes(name, rel, Key{}) })
		}
		return p.entry(name, rel, d)
	})
	for i := len(finish) - 1; i >= 0 && err == nil; i-- {
		err = finish[i]()
	}
	return err
}

func (p *packer) entry(name, rel string, d fs.DirEntry) error {
	switch {
	case rel == "":
		return nil
	case d.IsDir():
		return p.store.Mkdir(rel, 0o700, Caller{})
	case d.Type() == fs.ModeSymlink:
		target, err := os.Readlink(name)
		if err != nil {
			return err
		}
		return p.store.Symlink(target, rel, Caller{})
	case d.Type().IsRegular():
		return p.file(name, rel)
	}
	return fmt.Errorf("%s: neither a file, a directory nor a symbolic link: remove it or pack the rest by name", name)
}

// attributes gives rel the mode and time of the file name. key is rel's when it
// is open.
func (p *packer) attributes(name, rel string, key Key) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if err := p.store.Chmod(rel, key, uint32(st.Mode().Perm())); err != nil {
		return err
	}
	return p.store.Utimens(rel, key, unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(st.ModTime().UnixNano()))
}

func (p *packer) file(name, rel string) (err error) {
	src, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	part := rel + partSuffix
	f, err := p.store.Create(part, 0o600, Caller{})
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Release(true); err == nil {
			err = e
		}
		if err != nil {
			err = errors.Join(err, ignoreAbsent(p.store.Unlink(part)))
		}
	}()
	dst := &counted{Writer: io.NewOffsetWriter(f, 0), name: rel, progress: p.progress}
	if _, err := io.CopyBuffer(dst, struct{ io.Reader }{src}, make([]byte, copyBuffer)); err != nil {
		return err
	}
	if err := f.Seal(); err != nil {
		return err
	}
	if err := p.attributes(name, part, f.Key()); err != nil {
		return err
	}
	if err := f.Sync(true); err != nil {
		return err
	}
	return p.store.Rename(part, rel, unix.RENAME_NOREPLACE)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// counted tells progress of what is written.
type counted struct {
	io.Writer
	name     string
	progress Progress
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	if c.progress != nil {
		c.progress(c.name, int64(n))
	}
	return n, err
}

// Unpack copies src, a file or a directory in a backing directory, to dst as
// plain files. dst must not exist. Every byte from a container is checked; the
// first damaged frame ends it with an error that names it.
func Unpack(src, dst string, progress Progress) error {
	if err := absent(dst); err != nil {
		return err
	}
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return unpackFile(src, dst, st, progress)
	}
	var finish []func() error
	err = filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
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
			return unpackFile(name, to, st, progress)
		}
		return nil
	})
	for i := len(finish) - 1; i >= 0 && err == nil; i-- {
		err = finish[i]()
	}
	return err
}

func unpackFile(src, dst string, st fs.FileInfo, progress Progress) (err error) {
	r, size, closeSrc, err := openLogical(src)
	if err != nil {
		return err
	}
	defer func() { _ = closeSrc() }()
	part := dst + partSuffix
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
	if _, err := io.CopyBuffer(to, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, make([]byte, copyBuffer)); err != nil {
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
	r, err := container.Open(f, st.Size(), container.NewCache(inspectCache))
	switch {
	case errors.Is(err, container.ErrNotContainer):
		return f, st.Size(), f.Close, nil
	case err != nil:
		_ = f.Close()
		return nil, 0, nil, fmt.Errorf("%s: %w", name, err)
	case !r.State().Sealed:
		_ = f.Close()
		return nil, 0, nil, fmt.Errorf("%s: %w: its first %d bytes are whole, get them with: mithrilfs cat",
			name, ErrUnsealed, r.Size())
	}
	return r, r.Size(), f.Close, nil
}
