package store

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Caller is on whose behalf a file is made.
type Caller struct {
	UID, GID uint32
	PID      uint32 // for its supplementary groups; 0: none
}

// Create makes a file with its final name and opens it, for reading and
// writing. One that exists is unix.EEXIST.
func (s *Store) Create(rel string, mode uint32, as Caller) (*File, error) {
	if err := s.writable("create", rel); err != nil {
		return nil, err
	}
	var file *os.File
	defer s.root.changingDirOf(rel)()
	err := as.do(func() (err error) {
		file, err = s.root.openFile(rel, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := s.adopt(context.Background(), rel, file, Key{}, Write)
	if err == nil {
		f.noteName(rel)
	}
	return f, err
}

// Mode is what a file is opened for.
type Mode uint8

// The modes. Every file can be read.
const (
	Read     Mode = iota // nothing is written
	Write                // for writing too
	Truncate             // for writing, after everything in it is gone
)

// Open opens a regular file. The error of a container that can't be read
// matches container.ErrDamaged or container.ErrVersion; it can be opened with
// Truncate all the same. It matches unix.EINTR when ctx ended while the disk hung.
func (s *Store) Open(ctx context.Context, rel string, mode Mode) (*File, error) {
	return s.OpenInode(ctx, rel, Key{}, mode)
}

// OpenInode is Open for the inode key. A rel that leads to another one by now is
// unix.ESTALE, and nothing happens to that. The zero Key is any.
func (s *Store) OpenInode(ctx context.Context, rel string, key Key, mode Mode) (*File, error) {
	if s.hidden(rel) {
		return nil, s.root.fail("open", rel, unix.ENOENT)
	}
	flags := unix.O_RDONLY
	if mode != Read {
		if err := s.writable("open", rel); err != nil {
			return nil, err
		}
		flags = unix.O_RDWR
	}
	for try := 0; ; try++ {
		file, err := s.root.openFile(rel, flags|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		f, err := s.adopt(ctx, rel, file, key, mode)
		if errors.Is(err, unix.ESTALE) && try < maxTries {
			continue // it may have been replaced in the middle of it
		}
		if err == nil {
			f.warnFailure()
		}
		if err != nil || try == maxTries || s.leadsTo(ctx, rel, f) {
			return f, err
		}
		if err := f.Release(mode != Read); err != nil { // it was replaced in the middle of it
			return nil, err
		}
	}
}

// leadsTo says whether rel is the name of the inode that f works on.
func (s *Store) leadsTo(ctx context.Context, rel string, f *File) bool {
	if f.mu.RLockContext(ctx) != nil {
		return true // whoever asked has gone
	}
	defer f.mu.RUnlock()
	named, err := s.root.stat(rel)
	own, ownErr := f.backing.stat()
	return err != nil || ownErr != nil || f.replacing != nil || keyOf(&named) == keyOf(&own)
}

// adopt makes file, just opened, the File of its inode or gives it to the one
// that exists. It must be want's. It owns file.
func (s *Store) adopt(ctx context.Context, rel string, file *os.File, want Key, mode Mode) (*File, error) {
	write := mode != Read
	st, err := statFD(int(file.Fd()))
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	key := s.ids.of(keyOf(&st))
	if err == nil && want != (Key{}) && key != want {
		err = unix.ESTALE
	}
	if err != nil {
		_ = file.Close()
		return nil, s.root.fail("open", rel, err)
	}
	s.mu.Lock()
	f := s.files[key]
	if f == nil {
		f = &File{store: s, key: key, name: s.root.name(rel), mu: newRWLock()}
		s.files[key] = f
	}
	f.opens++
	if write {
		f.writers++
	}
	s.mu.Unlock()
	if err := f.prepare(ctx, rel, file, mode); err != nil {
		if write {
			s.mu.Lock()
			f.writers--
			s.mu.Unlock()
		}
		s.drop(f)
		return nil, err
	}
	return f, nil
}

// lookup returns the open File of an inode, held until drop, or nil.
func (s *Store) lookup(key Key) *File {
	s.mu.Lock()
	f := s.files[key]
	if f == nil {
		s.mu.Unlock()
		return nil
	}
	f.opens++
	s.mu.Unlock()
	f.mu.RLock()
	ready := f.content != nil
	f.mu.RUnlock()
	if !ready { // it is being opened, or could not be
		s.drop(f)
		return nil
	}
	return f
}

// drop gives up a hold on f; the last one closes it.
func (s *Store) drop(f *File) {
	s.mu.Lock()
	f.opens--
	last := f.opens == 0
	if last && s.files[f.key] == f {
		delete(s.files, f.key)
	}
	s.mu.Unlock()
	if !last {
		return
	}
	f.close()
}

// prepare gives f a descriptor good for what is wanted, and content. It owns
// file.
func (f *File) prepare(ctx context.Context, rel string, file *os.File, mode Mode) error {
	if err := f.mu.LockContext(ctx); err != nil {
		_ = file.Close() // nothing was written through it
		return f.fail("open", err)
	}
	defer f.mu.Unlock()
	write := mode != Read
	f.at = rel
	switch {
	case f.backing == nil:
		f.backing = newBacking(file, f.store.root.sys)
	case write && !f.backing.writable:
		f.backing.replace(file)
	default:
		_ = file.Close() // nothing was written through it
	}
	f.backing.writable = f.backing.writable || write
	if mode == Truncate {
		return f.fail("truncate", f.empty(rel))
	}
	if f.content != nil && (!write || f.takesWrites()) {
		return nil
	}
	content, err := f.load(write)
	if err != nil {
		return f.fail("open", err)
	}
	if f.content != nil {
		f.content.close()
	}
	f.content = content
	return nil
}

// takesWrites says whether the content is of a kind that was made for writing.
// An empty plain file is not: it may become anything.
func (f *File) takesWrites() bool {
	switch c := f.content.(type) {
	case *sealed:
		return false
	case *plain:
		return c.size() > 0
	}
	return true
}

// load finds out what the backing file is.
func (f *File) load(write bool) (content, error) {
	st, err := f.backing.stat()
	if err != nil {
		return nil, err
	}
	size := int64(st.Size)
	if size == 0 && write {
		f.backing.unmark() // of one that was begun and got no byte
		return &head{backing: f.backing}, nil
	}
	if !write {
		r, err := container.Open(f.backing, size, f.store.cache)
		if errors.Is(err, container.ErrNotContainer) {
			return newPlain(f.backing, size), checkPlain(f.backing.fd(), size)
		}
		if err != nil {
			return nil, err
		}
		f.warnUnsealed(r)
		return &sealed{r}, nil
	}
	w, err := container.OpenWriter(f.backing, size, f.store.cache, f.store.encoders)
	if errors.Is(err, container.ErrNotContainer) {
		return newPlain(f.backing, size), checkPlain(f.backing.fd(), size)
	}
	if err != nil {
		return nil, err
	}
	f.warnUnsealed(w.Reader)
	s := newSaving(w, w.Size())
	if f.store.durability == DurabilityRename {
		s.beforeIndex = func() error { return f.backing.sync(false) }
	}
	s.layout = s.recorded()
	return s, nil
}

// warnFailure tells that what was written last may not be all there.
func (f *File) warnFailure() {
	if failed := f.store.failures.of(f.key); failed != nil {
		f.store.log.Warn("the last close of this file failed: some of what was written last may be missing", "file", f.name, "error", failed)
	}
}

func (f *File) warnUnsealed(r *container.Reader) {
	if st := r.State(); !st.Sealed {
		f.store.log.Warn("this container was never sealed: reading what is whole", "file", f.name,
			"logical_bytes", r.Size(), "log_ends", st.Tail)
	}
}
