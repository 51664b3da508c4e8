package store

import (
	"context"
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows changes or reads the metadata of rel, which is the backing
// inode's. key is the inode that the caller means: when it is open, or is known
// without a name, it is reached even if rel leads nowhere.

// place is a way to an inode: a descriptor of it, perhaps O_PATH, or a name in
// the directory of which fd is.
type place struct {
	fd   int
	base string // "": the inode of fd itself
}

// path leads to the inode whatever is mounted over the directory. Some system
// calls take no O_PATH descriptor, and a link can't be opened otherwise.
func (p place) path() string {
	path := descriptorPath(p.fd)
	if p.base != "" {
		path += "/" + p.base
	}
	return path
}

// flags are for the system calls that take fd and base.
func (p place) flags() int {
	if p.base == "" {
		return unix.AT_EMPTY_PATH
	}
	return unix.AT_SYMLINK_NOFOLLOW
}

// onInode runs do on the inode: the open file's, or the one that lost its name,
// or else the one that rel leads to.
func (s *Store) onInode(op, rel string, key Key, do func(place) error) error {
	if f := s.lookup(key); f != nil {
		defer s.drop(f)
		return f.onBacking(op, func(fd int) error { return do(place{fd: fd}) })
	}
	held, err := s.orphans.with(key, func(fd int) error { return do(place{fd: fd}) })
	if held {
		return s.root.fail(op, rel, err)
	}
	return s.root.at(op, rel, func(dirfd int, base string) error {
		if err := s.check(dirfd, base, key); err != nil {
			return err
		}
		return do(place{dirfd, base})
	})
}

// check is an error for a name that leads to another inode than key: whoever asks
// has a name that was given to another. The zero Key is any.
func (s *Store) check(dirfd int, base string, key Key) error {
	if key == (Key{}) {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(dirfd, base, unix.AT_SYMLINK_NOFOLLOW, statMask, &st)
	if err == nil && s.ids.of(keyOf(&st)) != key {
		err = unix.ESTALE
	}
	return err
}

// change is onInode for what changes something.
func (s *Store) change(op, rel string, key Key, do func(place) error) error {
	if err := s.writable(op, rel); err != nil {
		return err
	}
	return s.onInode(op, rel, key, do)
}

// Chmod sets permissions.
func (s *Store) Chmod(rel string, key Key, mode uint32) error {
	return s.change("chmod", rel, key, func(p place) error {
		if p.base != "" {
			return unix.Fchmodat(p.fd, p.base, mode, 0) // the kernel resolved symbolic links
		}
		err := unix.Fchmod(p.fd, mode)
		if errors.Is(err, unix.EBADF) { // O_PATH
			err = unix.Fchmodat(unix.AT_FDCWD, p.path(), mode, 0)
		}
		return err
	})
}

// Chown sets owner and group; -1 leaves one as it is.
func (s *Store) Chown(rel string, key Key, uid, gid int) error {
	return s.change("chown", rel, key, func(p place) error {
		return unix.Fchownat(p.fd, p.base, uid, gid, p.flags())
	})
}

// Utimens sets access and modification time, with unix.UTIME_NOW and
// unix.UTIME_OMIT. What clients wrote before goes to the backing file first, so
// that it does not change the time afterwards.
func (s *Store) Utimens(rel string, key Key, atime, mtime unix.Timespec) error {
	if f := s.lookup(key); f != nil {
		defer s.drop(f)
		return f.utimens(atime, mtime)
	}
	return s.change("utimens", rel, key, func(p place) error {
		return unix.UtimesNanoAt(p.fd, p.base, []unix.Timespec{atime, mtime}, p.flags())
	})
}

func (f *File) utimens(atime, mtime unix.Timespec) error {
	if err := f.Flush(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := futimens(f.backing.fd(), atime, mtime); err != nil {
		return f.fail("utimens", err)
	}
	if mtime.Nsec == unix.UTIME_OMIT {
		return nil
	}
	st, err := f.backing.stat()
	if err != nil {
		return f.fail("stat", err)
	}
	f.mtime = unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)}
	return nil
}

// setTimes is utimensat(2) on a descriptor that may be O_PATH.
func setTimes(fd int, atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{atime, mtime}, unix.AT_EMPTY_PATH)
}

// futimens is futimens(3): utimensat(2) on a descriptor.
func futimens(fd int, atime, mtime unix.Timespec) error {
	ts := [2]unix.Timespec{atime, mtime}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	runtime.KeepAlive(&ts)
	if errno != 0 {
		return errno
	}
	return nil
}

// Truncate is truncate(2): it sets the logical size of the file rel, which must be
// key.
func (s *Store) Truncate(ctx context.Context, rel string, key Key, size int64) error {
	mode := Write
	if size == 0 {
		mode = Truncate
	}
	f, err := s.OpenInode(ctx, rel, key, mode)
	if err != nil {
		return err
	}
	if size > 0 {
		err = f.Truncate(ctx, size)
	}
	if err == nil {
		err = f.Seal() // there is no descriptor whose close would do it
	}
	if e := f.Release(true); err == nil {
		err = e
	}
	return err
}

// Getxattr, Setxattr, Listxattr and Removexattr work on the inode itself, never
// on what a symbolic link points to. They return what the system calls of the
// same names return.

// Getxattr reads one extended attribute into dest.
func (s *Store) Getxattr(rel string, key Key, attr string, dest []byte) (n int, err error) {
	if err := clientXattr(attr); err != nil {
		return 0, s.root.fail("getxattr", rel, err)
	}
	err = s.read("getxattr", rel, key, func(p place) (err error) {
		n, err = pick(p, unix.Getxattr, unix.Lgetxattr)(p.path(), attr, dest)
		return err
	})
	return n, err
}

// xattrListMax is the kernel's XATTR_LIST_MAX.
const xattrListMax = 64 << 10

// Listxattr reads the names of all extended attributes into dest.
func (s *Store) Listxattr(rel string, key Key, dest []byte) (n int, err error) {
	err = s.read("listxattr", rel, key, func(p place) error {
		all := make([]byte, xattrListMax)
		size, err := pick(p, unix.Listxattr, unix.Llistxattr)(p.path(), all)
		if err != nil {
			return err
		}
		names := visibleXattrs(all[:size])
		n = len(names)
		if len(dest) == 0 {
			return nil // only the size was asked for
		}
		if n > len(dest) {
			return unix.ERANGE
		}
		copy(dest, names)
		return nil
	})
	return n, err
}

// Setxattr sets an extended attribute.
func (s *Store) Setxattr(rel string, key Key, attr string, value []byte, flags int) error {
	return s.change("setxattr", rel, key, func(p place) error {
		if clientXattr(attr) != nil {
			return unix.EPERM
		}
		return pick(p, unix.Setxattr, unix.Lsetxattr)(p.path(), attr, value, flags)
	})
}

// Removexattr removes an extended attribute.
func (s *Store) Removexattr(rel string, key Key, attr string) error {
	return s.change("removexattr", rel, key, func(p place) error {
		if err := clientXattr(attr); err != nil {
			return err
		}
		return pick(p, unix.Removexattr, unix.Lremovexattr)(p.path(), attr)
	})
}

// read is onInode for what changes nothing.
func (s *Store) read(op, rel string, key Key, do func(place) error) error {
	if s.hidden(rel) {
		return s.root.fail(op, rel, unix.ENOENT)
	}
	return s.onInode(op, rel, key, do)
}

// pick is the form of a system call that works on p.path(): the one that
// follows the link of a descriptor, or the one that follows no link.
func pick[F any](p place, follows, stays F) F {
	if p.base == "" {
		return follows
	}
	return stays
}
