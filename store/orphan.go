package store

import (
	"sync"

	"golang.org/x/sys/unix"
)

// orphans holds directories and special files that lost a name. Clients that
// still know them may ask for their attributes, and go on using them: the kernel
// serves what is open there without telling. A regular file that is open has a
// File.
type orphans struct {
	mu sync.RWMutex
	m  map[Key]int // O_PATH descriptors
}

// maxOrphans bounds the descriptors. Clients that know more inodes without a
// name get ENOENT for the rest.
const maxOrphans = 1024

// reach opens what has the name rel, to be held once it has lost the name. It is
// -1 for what need not be held.
func (s *Store) reach(rel string, st *unix.Statx_t) int {
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return -1
	}
	fd, err := s.root.open(rel, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1 // then clients get ENOENT
	}
	if now, err := statFD(fd); err != nil || keyOf(&now) != keyOf(st) {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}

// hold keeps fd, which reach returned for the inode key, or closes it if its
// name was not lost.
func (o *orphans) hold(key Key, fd int, lost bool) {
	if fd < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, held := o.m[key]; held || !lost || len(o.m) >= maxOrphans {
		_ = unix.Close(fd)
		return
	}
	if o.m == nil {
		o.m = make(map[Key]int)
	}
	o.m[key] = fd
}

// with runs do on the inode's descriptor, if it is held.
func (o *orphans) with(key Key, do func(fd int) error) (held bool, err error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	fd, held := o.m[key]
	if !held {
		return false, nil
	}
	return true, do(fd)
}

func (o *orphans) drop(key Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if fd, held := o.m[key]; held {
		_ = unix.Close(fd)
		delete(o.m, key)
	}
}

func (o *orphans) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, fd := range o.m {
		_ = unix.Close(fd)
		delete(o.m, key)
	}
}

// Forget says that no client knows the inode any more, other than by a name.
func (s *Store) Forget(key Key) { s.orphans.drop(key) }
