package store

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// backing is the data of one backing inode, first opened for reading perhaps,
// later for writing too.
type backing struct {
	sys   system
	file  atomic.Pointer[os.File]
	spare *os.File // the read-only descriptor that a later one replaced
	// writable says whether file is; guarded by the File's lock.
	writable bool
}

var _ container.Storage = (*backing)(nil)

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

// setMtime sets the modification time and leaves the access time.
func (b *backing) setMtime(t unix.Timespec) error {
	return futimens(b.fd(), unix.Timespec{Nsec: unix.UTIME_OMIT}, t)
}

func (b *backing) close() error {
	err := b.file.Load().Close()
	if b.spare != nil {
		err = errors.Join(err, b.spare.Close())
	}
	return err
}
