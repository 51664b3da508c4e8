package direct

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens the file of fd once more, to read it by direct I/O. It fails where the
// filesystem, or the file's mode, does not allow it, or wants more than Align.
func Open(fd int) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECT | unix.O_CLOEXEC
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	direct, err := unix.Open(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is for the owner
		direct, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open for direct I/O", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(direct), path)
	var st unix.Statx_t
	err = unix.Statx(direct, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	if err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && !fits(&st) {
		_ = f.Close()
		return nil, unix.EOPNOTSUPP
	}
	return f, nil
}

// fits says whether what the file wants for direct I/O is what we do. Zeros mean
// that it takes none.
func fits(st *unix.Statx_t) bool {
	return st.Dio_offset_align != 0 && Align%st.Dio_offset_align == 0 && Align%max(st.Dio_mem_align, 1) == 0
}

// Read reads at least need bytes to the beginning of b, from off on, which is
// aligned. What the file does not have is missing at the end.
func Read(f *os.File, b *Buffer, off int64, need int) (n int, err error) {
	err = Control(f, func(fd int) error {
		for {
			n, err = unix.Pread(fd, b.b[:Up(int64(need))], off)
			if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	return max(n, 0), err
}

// Control runs do with a descriptor that nobody closes meanwhile.
func Control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// Down is the last aligned offset up to off.
func Down(off int64) int64 { return off &^ (Align - 1) }

// Up is the first aligned offset from off on.
func Up(off int64) int64 { return Down(off + Align - 1) }

// Cached says whether the kernel has all of [off, off+n) in memory, or something
// of it that is not on the disk yet: then direct I/O is not the faster way. Where
// it can't be told the answer is yes.
func Cached(fd int, off, n int64) bool {
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &st, 0); err != nil {
		return true
	}
	page := int64(os.Getpagesize())
	pages := (off+n+page-1)/page - off/page
	return int64(st.Cache) >= pages || st.Dirty > 0 || st.Writeback > 0
}
