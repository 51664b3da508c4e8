package store

import (
	"errors"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// replacement is a file that was emptied by O_TRUNC: what is written to it goes
// to a sibling, and the name leads to the old inode until publish. So a crash in
// the middle of saving a checkpoint over an old one leaves the old one.
type replacement struct {
	*sibling
	old *backing
}

// empty makes the file empty and new, as O_TRUNC does, beside what is there
// where that can be.
func (f *File) empty(rel string) error {
	if f.replacing != nil || !f.replaceable() {
		return f.restart()
	}
	if err := f.decideEnough(); err != nil {
		return err
	}
	b, err := f.store.newSibling(rel, f.backing)
	if err != nil {
		if !notAllowed(err) {
			return err // the old file stays; to have its space, remove it
		}
		f.store.log.Debug("emptying in place: no file can be made beside it", "file", f.name, "error", err)
		return f.restart()
	}
	if f.content != nil {
		if err := f.content.settle(true); err != nil { // it must be whole if it is to survive
			f.store.log.Warn("the old file lacks what was written last", "file", f.name, "error", err)
		}
		f.content.close()
	}
	f.replacing = &replacement{b, f.backing}
	f.backing = b.backing
	f.content = &head{backing: f.backing}
	f.synced, f.lost, f.broken = false, nil, nil
	f.touch()
	return nil
}

// notAllowed says whether err means that no file can ever be made there, rather
// than that there is no room for one now.
func notAllowed(err error) bool {
	for _, e := range []syscall.Errno{unix.EACCES, unix.EPERM, unix.ENOTSUP, unix.ENOENT, unix.ENAMETOOLONG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// replaceable says whether the file has something to lose, and one name only.
func (f *File) replaceable() bool {
	st, err := f.store.statVisible(f.backing)
	return err == nil && st.Size > 0 && st.Nlink == 1
}

// publish lets the name lead to what was written. The caller holds mu.
func (f *File) publish() error {
	r := f.replacing
	if r == nil {
		return nil
	}
	if f.broken != nil || f.lost != nil { // the old file is worth more than a piece of the new one
		return errors.Join(f.broken, f.lost)
	}
	st, err := r.old.stat()
	if err != nil {
		return err
	}
	if f.store.durability == DurabilityRename {
		if err := f.syncBacking(false); err != nil {
			return err
		}
	}
	f.store.names.Lock()
	defer f.store.names.Unlock()
	dir := r.openDir()
	replaced, err := f.letTake(r.sibling, keyOf(&st))
	if err != nil || !replaced {
		closeDir(dir)
	}
	if err != nil {
		return err
	}
	f.replacing = nil
	if !replaced {
		f.kept = append(f.kept, r.old)
		return nil
	}
	f.setDir(dir)
	return r.old.close()
}

// letTake puts the sibling in the place of the backing inode old, under the
// identity of the file.
func (f *File) letTake(b *sibling, old Key) (replaced bool, err error) {
	ids := &f.store.ids
	ids.announce(f.key, b.key)
	replaced, err = b.publish(old)
	if err != nil || !replaced {
		ids.retract(b.key)
		return replaced, err
	}
	ids.handOver(f.key, b.key)
	f.store.lostInode(old)
	return true, nil
}

// openDir returns the sibling's directory once more, or nil.
func (b *sibling) openDir() *os.File {
	fd, err := unix.FcntlInt(uintptr(b.dirfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), b.root.name(b.dir))
}

// setDir makes dir the directory that an fsync must make durable.
func (f *File) setDir(dir *os.File) {
	f.forgetDir()
	f.dir = dir
}

// lostName notes that a name of the file is gone: what was going to replace it
// has no place to go.
func (f *File) lostName(really bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.replacing; really && r != nil {
		r.discard()
		f.replacing = nil
		f.kept = append(f.kept, r.old)
	}
}

// noteName remembers the directory that an fsync must make durable for the
// name rel.
func (f *File) noteName(rel string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = rel
	dir, _ := path.Split(rel)
	d, err := f.store.root.openFile(strings.TrimSuffix(dir, "/"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		f.store.log.Debug("can't remember the directory", "file", f.name, "error", err)
		return
	}
	f.setDir(d)
}

func (f *File) forgetDir() {
	closeDir(f.dir)
	f.dir = nil
}

func closeDir(d *os.File) {
	if d != nil {
		_ = d.Close() // opened for reading
	}
}

// syncName makes the name durable. The caller holds mu.
func (f *File) syncName() error {
	if f.dir == nil {
		return nil
	}
	if err := f.store.root.sys.fsync(f.dir); err != nil && !errors.Is(err, unix.EINVAL) {
		return err // EINVAL: a filesystem that has nothing to sync there
	}
	f.forgetDir()
	return nil
}

// onBacking runs a system call on the descriptor of the inode that has, or will
// have, the name.
func (f *File) onBacking(op string, do func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.fail(op, do(f.backing.fd()))
}

// close gives up what the file holds. Nobody has it open.
func (f *File) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.content != nil {
		f.content.close()
	}
	f.forgetDir()
	if r := f.replacing; r != nil { // it could not be published
		r.discard()
		f.kept = append(f.kept, r.old)
	}
	for _, b := range f.kept {
		f.forgetUnnamed(b)
		_ = b.close() // nothing was written through it
	}
	if f.backing == nil {
		return
	}
	f.forgetUnnamed(f.backing)
	if err := f.backing.close(); err != nil {
		f.store.log.Error("closing", "file", f.name, "error", err)
	}
}

// forgetUnnamed ends the file's identity if b is what it is kept in and has no
// name. Whoever opened the name right before another inode took it has a file
// without a name too, but the identity lives on.
func (f *File) forgetUnnamed(b *backing) {
	st, err := f.store.statVisible(b)
	if err == nil && st.Nlink == 0 {
		f.store.lostInode(keyOf(&st))
	}
	if err == nil && st.Nlink == 0 && f.store.ids.keptIn(f.key, keyOf(&st)) {
		f.store.ids.forget(f.key)
	}
}
