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
	file  atomic.Pointer[os.File]
	spare *os.File // the read-only descriptor that a later one replaced
	// writable says whether file is; guarded by the File's lock.
	writable bool
}

var _ container.Storage = (*backing)(nil)

func newBacking(f *os.File) *backing {
	b := &backing{}
	b.file.Store(f)
	return b
}

// replace makes f, which is opened for writing, the descriptor in use.
func (b *backing) replace(f *os.File) { b.spare = b.file.Swap(f) }

func (b *backing) ReadAt(p []byte, off int64) (int, error)  { return b.file.Load().ReadAt(p, off) }
func (b *backing) WriteAt(p []byte, off int64) (int, error) { return b.file.Load().WriteAt(p, off) }
func (b *backing) Truncate(size int64) error                { return b.file.Load().Truncate(size) }
func (b *backing) fd() int                                  { return int(b.file.Load().Fd()) }

// sync makes the data durable, and with metadata times and mode too.
func (b *backing) sync(metadata bool) error {
	if metadata {
		return b.file.Load().Sync()
	}
	_, err := retry(func() (int, error) { return 0, unix.Fdatasync(b.fd()) })
	return err
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
