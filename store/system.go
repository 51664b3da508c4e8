package store

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/direct"
)

// system is the narrow interface through which the store changes the backing
// filesystem and reads file data from it: every call after which something
// could be half done. A test can make any of them fail.
type system interface {
	openat(dirfd int, name string, flags int, mode uint32) (int, error)
	openat2(dirfd int, name string, how *unix.OpenHow) (int, error)
	renameat(fromFD int, from string, toFD int, to string, flags uint) error
	unlinkat(dirfd int, name string, flags int) error
	linkat(fd, dirfd int, name string) error // of what fd is a descriptor of
	pread(f *os.File, p []byte, off int64) (int, error)
	pwrite(f *os.File, p []byte, off int64) (int, error)
	// preadDirect is of a descriptor for direct I/O.
	preadDirect(f *os.File, b *direct.Buffer, off int64, need int) (int, error)
	truncate(f *os.File, size int64) error
	fdatasync(f *os.File) error
	fsync(f *os.File) error
}

// kernel is the real system.
type kernel struct{}

func (kernel) openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) { return unix.Openat(dirfd, name, flags, mode) })
}

func (kernel) openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	return retry(func() (int, error) { return unix.Openat2(dirfd, name, how) })
}

func (kernel) renameat(fromFD int, from string, toFD int, to string, flags uint) error {
	return unix.Renameat2(fromFD, from, toFD, to, flags)
}

func (kernel) unlinkat(dirfd int, name string, flags int) error {
	return unix.Unlinkat(dirfd, name, flags)
}

func (kernel) linkat(fd, dirfd int, name string) error {
	return unix.Linkat(unix.AT_FDCWD, descriptorPath(fd), dirfd, name, unix.AT_SYMLINK_FOLLOW)
}

func (kernel) pread(f *os.File, p []byte, off int64) (int, error)  { return f.ReadAt(p, off) }
func (kernel) pwrite(f *os.File, p []byte, off int64) (int, error) { return f.WriteAt(p, off) }
func (kernel) preadDirect(f *os.File, b *direct.Buffer, off int64, need int) (int, error) {
	return direct.Read(f, b, off, need)
}
func (kernel) truncate(f *os.File, size int64) error { return f.Truncate(size) }
func (kernel) fsync(f *os.File) error                { return f.Sync() }

func (kernel) fdatasync(f *os.File) error {
	_, err := retry(func() (int, error) { return 0, unix.Fdatasync(int(f.Fd())) })
	return err
}
