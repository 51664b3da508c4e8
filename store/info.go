package store

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Key names a backing inode: number, device, and birth time, since filesystems
// give the number of a deleted file to the next one.
type Key struct {
	Device uint64
	Inode  uint64
	Born   int64 // nanoseconds, 0 where the filesystem does not keep it
}

// Info is what stat tells of a logical file. Everything but the size is the
// backing inode's.
type Info struct {
	Key    Key    // by which clients know the inode, whatever backing inode it has now
	Number uint64 // inode number, of the device in Key
	Mode   uint32 // type and permissions
	Nlink  uint32
	UID    uint32
	GID    uint32
	Rdev   uint32 // as the kernel encodes it for FUSE
	Size   int64  // logical
	Stored int64  // size of the backing file
	Blocks uint64 // of 512 bytes, the backing file's; never 0 for data
	Atime  unix.StatxTimestamp
	Mtime  unix.StatxTimestamp
	Ctime  unix.StatxTimestamp
}

// IsRegular says whether it is a regular file: only those have logical bytes.
func (i *Info) IsRegular() bool { return i.Mode&unix.S_IFMT == unix.S_IFREG }

func keyOf(st *unix.Statx_t) Key {
	return Key{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino, Born: nanoseconds(st.Btime)}
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// infoOf is everything but the logical size, which it takes for the backing's.
func infoOf(st *unix.Statx_t) Info {
	return Info{
		Key: keyOf(st), Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, GID: st.Gid,
		Rdev: uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor)),
		Size: int64(st.Size), Stored: int64(st.Size), Blocks: st.Blocks,
		Atime: st.Atime, Mtime: st.Mtime, Ctime: st.Ctime,
	}
}

// setSize sets the logical size and keeps Blocks from being 0 for data, which
// programs take for a hole.
func (i *Info) setSize(size int64) {
	i.Size = size
	if size > 0 && i.Blocks == 0 {
		i.Blocks = 8
	}
}

// sizes remembers the logical sizes of files that are not open, so that
// listing a directory again opens none of them.
type sizes struct {
	mu sync.Mutex
	m  map[Key]knownSize
}

type knownSize struct{ stored, mtime, ctime, size int64 }

const maxKnownSizes = 1 << 16

func (s *sizes) get(i *Info) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.m[i.Key]
	return k.size, ok && k.stored == i.Stored && k.mtime == nanoseconds(i.Mtime) && k.ctime == nanoseconds(i.Ctime)
}

func (s *sizes) put(i *Info, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil || len(s.m) >= maxKnownSizes {
		s.m = make(map[Key]knownSize)
	}
	s.m[i.Key] = knownSize{i.Stored, nanoseconds(i.Mtime), nanoseconds(i.Ctime), size}
}

// Stat describes the inode that key names: through its open File, if it has one,
// or where it is held without a name, else as rel. A rel that leads to another
// inode by now is unix.ESTALE.
func (s *Store) Stat(rel string, key Key) (Info, error) {
	if f := s.lookup(key); f != nil {
		defer s.drop(f)
		return f.Info()
	}
	var st unix.Statx_t
	held, err := s.orphans.with(key, func(fd int) (err error) {
		st, err = statFD(fd)
		return err
	})
	if held {
		i := infoOf(&st)
		s.identify(&i)
		return i, s.root.fail("stat", rel, err)
	}
	i, err := s.Lstat(rel)
	if err == nil && i.Key != key {
		err = s.root.fail("stat", rel, unix.ESTALE)
	}
	return i, err
}

// Lstat describes rel; of a symbolic link, the link itself. A container that is
// too damaged to tell its size has size 0, and opening it tells why.
func (s *Store) Lstat(rel string) (Info, error) {
	if s.hidden(rel) {
		return Info{}, s.root.fail("stat", rel, unix.ENOENT)
	}
	for try := 0; ; try++ {
		i, err := s.lstatOnce(rel)
		if err != nil || !i.IsRegular() || try == maxTries {
			return i, err
		}
		if now, err := s.root.stat(rel); err == nil && s.ids.of(keyOf(&now)) == i.Key {
			return i, nil
		} // else the file was replaced in the middle of it
	}
}

// maxTries is how often a look at a name begins anew because the name was given
// to another file meanwhile.
const maxTries = 10

func (s *Store) lstatOnce(rel string) (Info, error) {
	st, err := s.statName(rel)
	if err != nil {
		return Info{}, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.lstatDir(rel)
	}
	i := infoOf(&st)
	if !i.IsRegular() {
		s.identify(&i)
		return i, nil
	}
	if f := s.lookup(s.ids.of(i.Key)); f != nil {
		defer s.drop(f)
		return f.Info()
	}
	i.setSize(s.sizeOf(rel, &i))
	s.identify(&i)
	return i, nil
}

// lstatDir describes a directory, never as it is in the middle of a change by the
// store itself.
func (s *Store) lstatDir(rel string) (Info, error) {
	var i Info
	err := s.root.changes.settled(func() (Key, error) {
		st, err := s.root.stat(rel)
		if err != nil {
			return Key{}, err
		}
		i = infoOf(&st)
		key := i.Key
		s.identify(&i)
		return key, nil
	})
	return i, err
}

// identify sets what clients know the inode by.
func (s *Store) identify(i *Info) {
	i.Key = s.ids.of(i.Key)
	s.show(i)
}

// show sets what else of the inode clients see otherwise than it is.
func (s *Store) show(i *Info) {
	i.Number = s.ids.number(i.Key)
	i.Ctime = s.root.ctimes.of(i.Key, i.Ctime)
}

// sizeOf finds the logical size of a file that is not open.
func (s *Store) sizeOf(rel string, i *Info) int64 {
	if i.Stored < container.HeaderSize {
		return i.Stored // at most a piece of a header
	}
	if size, ok := s.sizes.get(i); ok {
		return size
	}
	size, err := s.readSize(rel, i)
	if errors.Is(err, errChanged) {
		return s.sizeOf(rel, i)
	}
	if err != nil {
		s.log.Warn("can't tell the logical size", "file", s.root.name(rel), "error", err)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return i.Stored // not ours to read
		}
		return 0
	}
	s.sizes.put(i, size)
	return size
}

// readSize reads the size of the file that rel leads to. The error is errChanged
// if that is not i, as it was; i is what it is, then.
func (s *Store) readSize(rel string, i *Info) (int64, error) {
	f, err := s.root.openFile(rel, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	st, err := statFD(int(f.Fd()))
	if err != nil {
		return 0, err
	}
	if now := infoOf(&st); now.Key != i.Key || now.Stored != i.Stored || now.Mtime != i.Mtime || now.Ctime != i.Ctime {
		*i = now
		return 0, errChanged
	}
	stored := i.Stored
	sum, err := container.Summarize(f, stored)
	switch {
	case err != nil:
		return 0, err
	case !sum.Container:
		return stored, checkPlain(int(f.Fd()), stored)
	case sum.Sealed:
		return sum.Size, nil
	}
	r, err := container.Open(f, stored, s.cache)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return r.Size(), nil
}
