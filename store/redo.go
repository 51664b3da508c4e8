package store

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
)

// A file with several names can't be replaced by a sibling: the other names
// would go on leading to the old inode. Where its bytes must become a container
// all the same, that is made in pendingDir, under a name that says which inode it
// is for, and then copied over it. A crash in the middle leaves the copy, which
// recovery completes.

// redoPrefix begins these names. The instance follows, then inode number and
// birth time in hexadecimal, then a random part.
const redoPrefix = ".mithrilfs-redo."

// unfinished ends the name of a redo that is not to be copied yet.
const unfinished = ".part"

type redo struct {
	root    *root
	rel     string
	backing *backing
}

func (s *Store) newRedo(of Key) (*redo, error) {
	if of.Born == 0 {
		return nil, unix.ENOTSUP // recovery could not tell the inode from a later one
	}
	if err := s.root.mkdirs(pendingDir); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s%s.%x.%x.%s", redoPrefix, s.instance, of.Inode, uint64(of.Born), randomName())
	r := &redo{root: s.root, rel: path.Join(pendingDir, name)}
	file, err := s.root.openFile(r.rel+unfinished, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	r.backing = newBacking(file, s.root.sys)
	r.backing.writable = true
	return r, nil
}

// redoOf reads the inode from a name.
func redoOf(name string) (inode uint64, born int64, ok bool) {
	fields := strings.Split(strings.TrimPrefix(name, redoPrefix), ".")
	if len(fields) != 6 { // host, boot, process, inode, birth time, random
		return 0, 0, false
	}
	inode, err := strconv.ParseUint(fields[3], 16, 64)
	if err != nil {
		return 0, 0, false
	}
	b, err := strconv.ParseUint(fields[4], 16, 64)
	return inode, int64(b), err == nil
}

// commit makes the redo what counts from now on.
func (r *redo) commit() error {
	err := r.root.at2("rename", r.rel+unfinished, r.rel, func(fromFD int, from string, toFD int, to string) error {
		return r.root.sys.renameat(fromFD, from, toFD, to, 0)
	})
	if err != nil {
		return err
	}
	dir, err := r.root.openFile(pendingDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(r.root.sys.fsync(dir), dir.Close())
}

// copyOver writes the container over the file to, and makes that durable.
func (r *redo) copyOver(to *backing) error {
	st, err := r.backing.stat()
	if err != nil {
		return err
	}
	size := int64(st.Size)
	to.mark()
	// Space for what were holes: the file must not be left half a container for
	// want of it. A filesystem that can't reserve any does without.
	if err := unix.Fallocate(to.fd(), unix.FALLOC_FL_KEEP_SIZE, 0, size); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	buf := make([]byte, 4*codec.FrameSize)
	for off := int64(0); off < size; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), size-off)]
		if _, err := r.backing.ReadAt(p, off); ignoreEOF(err) != nil {
			return err
		}
		if _, err := to.WriteAt(p, off); err != nil {
			return err
		}
	}
	if err := to.Truncate(size); err != nil {
		return err
	}
	return to.sync(false)
}

// remove removes the redo, finished or not.
func (r *redo) remove() {
	for _, rel := range []string{r.rel, r.rel + unfinished} {
		_ = r.root.at("unlink", rel, func(dirfd int, base string) error {
			return r.root.sys.unlinkat(dirfd, base, 0)
		})
	}
}

// convertInPlace makes the file, which may have several names, a container. The
// caller holds mu.
func (f *File) convertInPlace() error {
	st, err := f.backing.stat()
	if err != nil {
		return err
	}
	r, err := f.store.newRedo(keyOf(&st))
	if err != nil {
		if notAllowed(err) {
			err = errors.Join(ErrMagic, err)
		}
		return err
	}
	c, err := f.checkedCopy(r.backing)
	if err == nil {
		err = r.commit()
	}
	if err != nil {
		if c != nil {
			c.close()
		}
		r.remove()
		return errors.Join(err, r.backing.close())
	}
	f.content.close()
	f.content = c
	var now content
	if err = r.copyOver(f.backing); err == nil {
		now, err = f.load(true)
	}
	if err != nil { // the redo has the file until recovery completes it
		f.lost = err
		f.kept = append(f.kept, r.backing)
		return err
	}
	f.content = now
	c.close()
	r.remove()
	_ = r.backing.close() // copied
	return nil
}

// complete copies the redo over the file rel, as convertInPlace was going to.
func (r *redo) complete(rel string) error {
	from, err := r.root.openFile(r.rel, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	r.backing = newBacking(from, r.root.sys)
	defer func() { _ = r.backing.close() }()
	to, err := r.root.openFile(rel, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := newBacking(to, r.root.sys)
	if err := errors.Join(r.copyOver(b), b.close()); err != nil {
		return &os.PathError{Op: "completing a conversion", Path: r.root.name(rel), Err: err}
	}
	r.remove()
	return nil
}
