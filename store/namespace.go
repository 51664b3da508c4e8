package store

import "golang.org/x/sys/unix"

// OpenDir opens a directory for reading its names, some of which may be Hidden.
// The caller closes the descriptor.
func (s *Store) OpenDir(rel string) (int, error) {
	if s.hidden(rel) {
		return -1, s.root.fail("opendir", rel, unix.ENOENT)
	}
	fd, err := s.root.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return fd, s.root.fail("opendir", rel, err)
}

// Hidden says whether clients must not see rel.
func (s *Store) Hidden(rel string) bool { return s.hidden(rel) }

// Mkdir makes a directory.
func (s *Store) Mkdir(rel string, mode uint32, as Caller) error {
	return s.add("mkdir", rel, as, func(dirfd int, base string) error {
		return unix.Mkdirat(dirfd, base, mode)
	})
}

// Mknod makes a FIFO, a socket or a device node, which the kernel serves itself.
func (s *Store) Mknod(rel string, mode uint32, rdev uint32, as Caller) error {
	return s.add("mknod", rel, as, func(dirfd int, base string) error {
		return unix.Mknodat(dirfd, base, mode, int(rdev))
	})
}

// Symlink makes rel a symbolic link to target.
func (s *Store) Symlink(target, rel string, as Caller) error {
	return s.add("symlink", rel, as, func(dirfd int, base string) error {
		return unix.Symlinkat(target, dirfd, base)
	})
}

func (s *Store) add(op, rel string, as Caller, do func(dirfd int, base string) error) error {
	if err := s.writable(op, rel); err != nil {
		return err
	}
	return as.do(func() error { return s.root.at(op, rel, do) })
}

// Readlink returns what a symbolic link points to.
func (s *Store) Readlink(rel string) (string, error) {
	var target string
	err := s.root.at("readlink", rel, func(dirfd int, base string) error {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dirfd, base, buf)
		target = string(buf[:max(n, 0)])
		return err
	})
	return target, err
}

// Link gives the inode of from a second name.
func (s *Store) Link(from, to string) error {
	if err := s.writable("link", from, to); err != nil {
		return err
	}
	return s.root.at2("link", from, to, func(fd int, base string, toFD int, toBase string) error {
		return unix.Linkat(fd, base, toFD, toBase, 0)
	})
}

// Unlink removes a name that is not a directory's. An open file lives on.
func (s *Store) Unlink(rel string) error { return s.remove("unlink", rel, 0) }

// Rmdir removes an empty directory.
func (s *Store) Rmdir(rel string) error { return s.remove("rmdir", rel, unix.AT_REMOVEDIR) }

func (s *Store) remove(op, rel string, flags int) error {
	if err := s.writable(op, rel); err != nil {
		return err
	}
	return s.root.at(op, rel, func(dirfd int, base string) error {
		return unix.Unlinkat(dirfd, base, flags)
	})
}

// Rename moves from to to, as renameat2(2) does with flags. A file that is
// being written is sealed before, so that the new name never leads to half a
// file that has one.
func (s *Store) Rename(from, to string, flags uint) error {
	if err := s.writable("rename", from, to); err != nil {
		return err
	}
	if st, err := s.root.stat(from); err == nil {
		if f := s.lookup(keyOf(&st)); f != nil {
			err := f.Seal()
			s.drop(f)
			if err != nil {
				return err
			}
		}
	}
	return s.root.at2("rename", from, to, func(fd int, base string, toFD int, toBase string) error {
		return unix.Renameat2(fd, base, toFD, toBase, flags)
	})
}

// Statfs describes the backing filesystem.
func (s *Store) Statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(s.root.fd, &st)
	return st, s.root.fail("statfs", "", err)
}
