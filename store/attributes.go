package store

import (
	"context"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows changes or reads the metadata of rel, which is the backing
// inode's. key is the inode that the caller means: when it is open, it is
// reached even if it has lost its name.

// Chmod sets permissions.
func (s *Store) Chmod(rel string, key Key, mode uint32) error {
	return s.onInode("chmod", rel, key, func(fd int) error {
		return unix.Fchmod(fd, mode)
	}, func(dirfd int, base string) error {
		return unix.Fchmodat(dirfd, base, mode, 0) // the kernel resolved symbolic links
	})
}

// Chown sets owner and group; -1 leaves one as it is.
func (s *Store) Chown(rel string, key Key, uid, gid int) error {
	return s.onInode("chown", rel, key, func(fd int) error {
		return unix.Fchown(fd, uid, gid)
	}, func(dirfd int, base string) error {
		return unix.Fchownat(dirfd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
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
	return s.onInode("utimens", rel, key, nil, func(dirfd int, base string) error {
		return unix.UtimesNanoAt(dirfd, base, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
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

// Truncate is truncate(2): it sets the logical size of a file by its name.
func (s *Store) Truncate(ctx context.Context, rel string, size int64) error {
	mode := Write
	if size == 0 {
		mode = Truncate
	}
	f, err := s.Open(ctx, rel, mode)
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

// onInode runs one of two forms of a change: on the descriptor of an open file,
// or by name.
func (s *Store) onInode(op, rel string, key Key, open func(fd int) error, named func(dirfd int, base string) error) error {
	if err := s.writable(op, rel); err != nil {
		return err
	}
	if open != nil {
		if f := s.lookup(key); f != nil {
			defer s.drop(f)
			return f.onBacking(op, open)
		}
	}
	return s.root.at(op, rel, named)
}

// Getxattr, Setxattr, Listxattr and Removexattr work on rel itself, never on
// what a symbolic link points to. They return what the system calls of the same
// names return.

// Getxattr reads one extended attribute into dest.
func (s *Store) Getxattr(rel, attr string, dest []byte) (n int, err error) {
	if err := clientXattr(attr); err != nil {
		return 0, s.root.fail("getxattr", rel, err)
	}
	err = s.onPath("getxattr", rel, func(path string) (err error) {
		n, err = unix.Getxattr(path, attr, dest)
		return err
	})
	return n, err
}

// xattrListMax is the kernel's XATTR_LIST_MAX.
const xattrListMax = 64 << 10

// Listxattr reads the names of all extended attributes into dest.
func (s *Store) Listxattr(rel string, dest []byte) (n int, err error) {
	err = s.onPath("listxattr", rel, func(path string) error {
		all := make([]byte, xattrListMax)
		size, err := unix.Listxattr(path, all)
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
func (s *Store) Setxattr(rel, attr string, value []byte, flags int) error {
	if err := s.writable("setxattr", rel); err != nil {
		return err
	}
	if clientXattr(attr) != nil {
		return s.root.fail("setxattr", rel, unix.EPERM)
	}
	return s.onPath("setxattr", rel, func(path string) error { return unix.Setxattr(path, attr, value, flags) })
}

// Removexattr removes an extended attribute.
func (s *Store) Removexattr(rel, attr string) error {
	if err := s.writable("removexattr", rel); err != nil {
		return err
	}
	if err := clientXattr(attr); err != nil {
		return s.root.fail("removexattr", rel, err)
	}
	return s.onPath("removexattr", rel, func(path string) error { return unix.Removexattr(path, attr) })
}

// onPath calls do with a path that leads to rel whatever is mounted over the
// directory: there is no system call for the attributes of an O_PATH
// descriptor, and a link can't be opened otherwise.
func (s *Store) onPath(op, rel string, do func(path string) error) error {
	if s.hidden(rel) {
		return s.root.fail(op, rel, unix.ENOENT)
	}
	if f := s.named(rel); f != nil {
		defer s.drop(f)
		return f.onBacking(op, func(fd int) error { return do("/proc/self/fd/" + strconv.Itoa(fd)) })
	}
	fd, err := s.root.open(rel, unix.O_PATH, 0)
	if err != nil {
		return s.root.fail(op, rel, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return s.root.fail(op, rel, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return s.root.fail(op, rel, unix.ENOTSUP) // following it would answer for another file
	}
	return s.root.fail(op, rel, do("/proc/self/fd/"+strconv.Itoa(fd)))
}
