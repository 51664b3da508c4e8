package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory for reading its names, some of which may be Hidden.
// The caller closes the descriptor. device is that of a Key.
func (s *Store) OpenDir(rel string) (fd int, device uint64, err error) {
	if s.hidden(rel) {
		return -1, 0, s.root.fail("opendir", rel, unix.ENOENT)
	}
	fd, err = s.root.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, 0, s.root.fail("opendir", rel, err)
	}
	st, err := statFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, s.root.fail("opendir", rel, err)
	}
	return fd, keyOf(&st).Device, nil
}

// Hidden says whether clients must not see rel.
func (s *Store) Hidden(rel string) bool { return s.hidden(rel) }

// EntryNumber is the inode number that clients see of a name in a directory that
// OpenDir opened. backing is the number that the backing filesystem listed.
func (s *Store) EntryNumber(dirfd int, name string, backing uint64) uint64 {
	if s.ids.own(backing) {
		return backing
	}
	var last Key
	for try := 0; ; try++ {
		var st unix.Statx_t
		if err := unix.Statx(dirfd, name, unix.AT_SYMLINK_NOFOLLOW, statMask, &st); err != nil {
			return backing // it is gone
		}
		key := s.ids.of(keyOf(&st))
		if try > 0 && key == last || try == maxTries {
			return s.ids.number(key)
		}
		last = key // it may have been replaced before its key was known
	}
}

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
	return as.do(func() error {
		return s.root.at(op, rel, func(dirfd int, base string) error {
			defer s.root.changes.client(dirfd)()
			return do(dirfd, base)
		})
	})
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

// Link gives the inode of from, which must be key, a second name.
func (s *Store) Link(from string, key Key, to string) error {
	if err := s.writable("link", from, to); err != nil {
		return err
	}
	if err := s.publish(from); err != nil {
		return err
	}
	s.names.RLock()
	defer s.names.RUnlock()
	return s.root.at2("link", from, to, func(fd int, base string, toFD int, toBase string) error {
		defer s.root.changes.client(toFD)()
		if err := s.check(fd, base, key); err != nil {
			return err
		}
		s.moves.Add(1)
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
	before, statErr := s.statName(rel)
	f, orphan := s.named(rel), -1
	if statErr == nil {
		orphan = s.reach(rel, &before)
	}
	err := s.root.at(op, rel, func(dirfd int, base string) error {
		defer s.root.changes.client(dirfd)()
		s.names.RLock()
		defer s.names.RUnlock()
		err := s.root.sys.unlinkat(dirfd, base, flags)
		for range maxTries {
			if !errors.Is(err, unix.ENOTEMPTY) || !s.sweep(dirfd, base) {
				break
			}
			err = s.root.sys.unlinkat(dirfd, base, flags)
		}
		return err
	})
	s.orphans.hold(keyOf(&before), orphan, err == nil)
	if err == nil && statErr == nil {
		s.lostInode(keyOf(&before))
	}
	if f != nil {
		f.lostName(err == nil)
		s.drop(f)
	} else if err == nil && statErr == nil && before.Nlink <= 1 {
		s.ids.forget(s.ids.of(keyOf(&before)))
	}
	return err
}

// statName is root.stat with the number of links that clients see.
func (s *Store) statName(rel string) (unix.Statx_t, error) {
	st, err := s.root.stat(rel)
	if err == nil {
		err = s.pins.visible(&st, func() (unix.Statx_t, error) { return s.root.stat(rel) })
	}
	return st, err
}

// named returns the open File that rel leads to, held until drop, or nil.
func (s *Store) named(rel string) *File {
	st, err := s.root.stat(rel)
	if err != nil {
		return nil
	}
	return s.lookup(s.ids.of(keyOf(&st)))
}

// publish makes rel lead to what was written to its file since it was emptied.
func (s *Store) publish(rel string) error {
	f := s.named(rel)
	if f == nil {
		return nil
	}
	defer s.drop(f)
	if err := f.Seal(); err != nil {
		return err
	}
	return f.lostError()
}

// Rename moves from to to, as renameat2(2) does with flags. A file that is
// being written is sealed before, so that the new name never leads to half a
// file that has one.
func (s *Store) Rename(from, to string, flags uint) error {
	if err := s.writable("rename", from, to); err != nil {
		return err
	}
	if err := s.publish(from); err != nil {
		return err
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		if err := s.publish(to); err != nil {
			return err
		}
	}
	target, targetErr := s.statName(to)
	replaced, orphan := s.named(to), -1
	if targetErr == nil && flags&unix.RENAME_EXCHANGE == 0 {
		orphan = s.reach(to, &target)
	}
	err := s.syncBeforeRename(from, to)
	if err == nil {
		err = s.root.at2("rename", from, to, func(fd int, base string, toFD int, toBase string) error {
			defer s.root.changes.client(fd, toFD)()
			s.names.RLock()
			defer s.names.RUnlock()
			s.moves.Add(1)
			return s.root.sys.renameat(fd, base, toFD, toBase, flags)
		})
	}
	s.orphans.hold(keyOf(&target), orphan, err == nil)
	if err == nil && targetErr == nil {
		s.lostInode(keyOf(&target))
	}
	if f := s.named(to); f != nil && err == nil {
		f.noteName(to)
		s.drop(f)
	}
	if replaced != nil {
		replaced.lostName(err == nil && flags&unix.RENAME_EXCHANGE == 0)
		s.drop(replaced)
	} else if err == nil && targetErr == nil && target.Nlink <= 1 && flags&unix.RENAME_EXCHANGE == 0 {
		s.ids.forget(s.ids.of(keyOf(&target)))
	}
	return err
}

// syncBeforeRename makes a file durable that is about to replace another: the
// rename may reach the disk before the data does, and then neither would be
// there after a power cut.
func (s *Store) syncBeforeRename(from, to string) error {
	if s.durability == DurabilityFsync {
		return nil
	}
	if st, err := s.root.stat(to); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return nil // nothing is lost
	}
	st, err := s.root.stat(from)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // the rename will tell
	}
	f, err := s.root.openFile(from, unix.O_RDONLY, 0)
	if err != nil {
		return nil // not ours to read, so not ours to have written
	}
	err = s.root.sys.fdatasync(f)
	return s.root.fail("sync", from, errors.Join(err, f.Close()))
}

// Statfs describes the backing filesystem.
func (s *Store) Statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(s.root.fd, &st)
	return st, s.root.fail("statfs", "", err)
}
