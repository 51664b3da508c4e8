package store

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/direct"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// backing is the data of one backing inode, first opened for reading perhaps,
// later for writing too.
type backing struct {
	sys   system
	file  atomic.Pointer[os.File]
	spare *os.File // the read-only descriptor that a later one replaced
	// writable says whether file is; guarded by the File's lock.
	writable bool
	key      atomic.Pointer[Key] // of the inode, once asked for
	direct   directIO
}

var (
	_ container.Storage = (*backing)(nil)
	_ container.Disk    = (*backing)(nil)
)

func newBacking(f *os.File, sys system) *backing {
	b := &backing{sys: sys}
	b.file.Store(f)
	return b
}

// replace makes f, which is opened for writing, the descriptor in use.
func (b *backing) replace(f *os.File) { b.spare = b.file.Swap(f) }

// ReadAt, WriteAt and Truncate make a backing a container.Storage.
func (b *backing) ReadAt(p []byte, off int64) (int, error) {
	return b.sys.pread(b.file.Load(), p, off)
}

// ReadAtContext is ReadAt, or the error unix.EINTR. What the kernel has in memory
// is read at once; the rest goes through a buffer that a read which hangs can
// keep.
func (b *backing) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Done() == nil {
		return b.ReadAt(p, off)
	}
	have, err := unix.Preadv2(b.fd(), [][]byte{p}, off, unix.RWF_NOWAIT)
	if err != nil {
		have = 0
	}
	if have == len(p) {
		return have, nil
	}
	p, off = p[have:], off+int64(have)
	buf := ownBuffer(len(p))
	n, err := patience.Do(ctx, func(context.Context) (int, error) { return b.ReadAt(buf.B, off) },
		func(int, error) { waiting.Put(buf) })
	if errors.Is(err, unix.EINTR) {
		return have, err // buf is not ours any more
	}
	copy(p, buf.B[:n])
	waiting.Put(buf)
	return have + n, err
}

// Announce makes a backing a container.Announcer. It may come after close, when
// the descriptor's number can be another file's: hence control, which knows.
func (b *backing) Announce(off, n int64) {
	_ = b.control(func(fd int) error { // it only makes reads faster
		return unix.Fadvise(fd, off, n, unix.FADV_WILLNEED)
	})
}

// BeginFlush and Reserve make a backing a container.Disk.
func (b *backing) BeginFlush(off, n int64) {
	_ = b.control(func(fd int) error { // what fails here fails in the sync that is to come
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// reserveShare is the part of what is free that may be reserved at a time: other
// files need room too.
const reserveShare = 16

// Reserve reserves blocks, which ext4 fills twice as fast as it makes them one by
// one.
func (b *backing) Reserve(off, n int64) bool {
	return b.control(func(fd int) error {
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err != nil {
			return err
		}
		if n > int64(st.Bavail)*st.Bsize/reserveShare {
			return unix.ENOSPC
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
	}) == nil
}

// control runs do with a descriptor that nobody closes meanwhile.
func (b *backing) control(do func(fd int) error) error {
	return direct.Control(b.file.Load(), do)
}

// waiting are the bytes of requests that wait for the backing filesystem.
var waiting bytebufferpool.Pool

// ownBuffer returns n bytes that a request which hangs can keep. Otherwise they
// go back to waiting.
func ownBuffer(n int) *bytebufferpool.ByteBuffer {
	buf := waiting.Get()
	if cap(buf.B) < n {
		buf.B = make([]byte, n)
	}
	buf.B = buf.B[:n]
	return buf
}

// WriteAt writes all of p, as io.WriterAt has it.
func (b *backing) WriteAt(p []byte, off int64) (int, error) {
	return b.sys.pwrite(b.file.Load(), p, off)
}

// Truncate sets the size.
func (b *backing) Truncate(size int64) error { return b.sys.truncate(b.file.Load(), size) }

func (b *backing) fd() int { return int(b.file.Load().Fd()) }

// sync makes the data durable, and with metadata times and mode too.
func (b *backing) sync(metadata bool) error {
	if metadata {
		return b.sys.fsync(b.file.Load())
	}
	return b.sys.fdatasync(b.file.Load())
}

func (b *backing) stat() (unix.Statx_t, error) { return statFD(b.fd()) }

// inode names the backing inode.
func (b *backing) inode() (Key, error) {
	if key := b.key.Load(); key != nil {
		return *key, nil
	}
	st, err := b.stat()
	if err != nil {
		return Key{}, err
	}
	key := keyOf(&st)
	b.key.Store(&key)
	return key, nil
}

// setMtime sets the modification time and leaves the access time.
func (b *backing) setMtime(t unix.Timespec) error {
	return futimens(b.fd(), unix.Timespec{Nsec: unix.UTIME_OMIT}, t)
}

func (b *backing) close() error {
	err := errors.Join(b.direct.close(), b.file.Load().Close())
	if b.spare != nil {
		err = errors.Join(err, b.spare.Close())
	}
	return err
}
