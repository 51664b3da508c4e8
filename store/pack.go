package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Progress is told of every piece copied: which file, and how many logical
// bytes of it since the last call.
type Progress func(name string, n int64)

// partName is what a file is called that Pack or Unpack has not finished: it
// gets the name final when it is whole and durable. final may be as long as
// names can be.
func partName(final string) string {
	return filepath.Join(filepath.Dir(final), ".mithrilfs-part."+randomName())
}

// copyBuffer is how much Pack and Unpack read at once: several frames of a
// dependent, which are decoded together.
const copyBuffer = 4 << 20

// Pack copies src, a file or a directory, to dst, in a backing directory: what
// is worth it becomes a container there. dst must not exist. Modes and
// modification times are kept; symbolic links are copied as links. When ctx ends,
// what is not finished is removed, and the error is its cause.
func Pack(ctx context.Context, src, dst string, o Options, progress Progress) error {
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
	s, err := Open(filepath.Clean(dir), o)
	if err != nil {
		return err
	}
	p := &packer{ctx, s, progress}
	if st.IsDir() {
		s.claim()
		err = p.tree(src)
	} else {
		err = p.file(src, base)
	}
	if err != nil {
		s.Hurry()
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
	ctx      context.Context // of the one call of Pack
	store    *Store
	progress Progress
}

// tree copies what is in the directory src. Directories get their modes and
// times last: they may be read-only, and what is put into them changes them.
func (p *packer) tree(src string) error {
	var finish []func() error
	err := filepath.WalkDir(src, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ended(p.ctx)
		}
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
	part := partName(rel)
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
	if _, err := io.CopyBuffer(dst, until{p.ctx, src}, make([]byte, copyBuffer)); err != nil {
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

// until reads from a Reader until its context ends.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := ended(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// ended is why ctx ended, or nil.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
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
