package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// side is one of the two directories, with what is open in it.
type side struct {
	root  string
	ext4  bool
	slots [diffSlots]int
	maps  [diffMaps][]byte
	under [diffMaps]mappedFile
	buf   []byte
}

// mappedFile is what a mapping is of: an O_PATH descriptor, and where it begins.
type mappedFile struct {
	fd  int
	off int64
}

func newSide(root string) *side {
	s := &side{root: root, buf: make([]byte, 4<<20)}
	for i := range s.slots {
		s.slots[i] = -1
	}
	return s
}

// path keeps a slash at the end, unlike filepath.Join.
func (s *side) path(rel string) string { return s.root + "/" + longNames.Replace(rel) }

// Operations have the longest name, and one that is too long, in short.
const (
	longest = "<255>"
	tooLong = "<256>"
)

var longNames = strings.NewReplacer(longest, strings.Repeat("n", 255), tooLong, strings.Repeat("n", 256))

// closeAll closes all files and mappings.
func (s *side) closeAll() {
	for i := range s.maps {
		_ = s.unmap(i)
	}
	for i := range s.slots {
		_ = s.close(i)
	}
}

func (s *side) close(slot int) error {
	fd := s.slots[slot]
	s.slots[slot] = -1
	if fd < 0 {
		return unix.EBADF
	}
	return unix.Close(fd)
}

func (s *side) unmap(m int) error {
	b := s.maps[m]
	s.maps[m] = nil
	if b == nil {
		return errNothing
	}
	return errors.Join(unix.Munmap(b), unix.Close(s.under[m].fd))
}

// errNothing: the operation needs what an earlier one did not bring about.
var errNothing = errors.New("nothing to do it with")

// outcome is what a client learned from an operation.
type outcome struct {
	n    int64
	err  error
	data []byte // good until the side's next operation
}

func (o outcome) String() string {
	text := fmt.Sprint(o.n)
	if o.data != nil {
		text += fmt.Sprintf(" %x", o.data[:min(len(o.data), 16)])
	}
	if o.err != nil {
		text += " " + o.err.Error()
	}
	var e syscall.Errno
	if errors.As(o.err, &e) {
		text += " (" + unix.ErrnoName(e) + ")"
	}
	return text
}

// differs says how two outcomes differ, or "".
func (o outcome) differs(p outcome) string {
	if o.n != p.n || fmt.Sprint(o.err) != fmt.Sprint(p.err) {
		return fmt.Sprintf("ext4 answers %v, the mount %v", o, p)
	}
	if at := firstDifference(o.data, p.data); at >= 0 {
		return fmt.Sprintf("%d and %d bytes, and others from %d on: ext4 has %x, the mount %x", len(o.data), len(p.data), at, piece(o.data, at), piece(p.data, at))
	}
	return ""
}

func piece(b []byte, at int) []byte { return b[at:min(len(b), at+16)] }

func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// do plays one operation.
func (s *side) do(c corpora, o *op) outcome {
	p, fd := s.path(o.Path), s.slots[o.Slot]
	switch o.Op {
	case "open":
		_ = s.close(o.Slot)
		if o.Path == "" { // the root's attributes differ
			return outcome{err: errNothing}
		}
		fd, err := retryOpen(p, o.bits()|unix.O_CLOEXEC|unix.O_NONBLOCK, o.Mode)
		if err == nil {
			s.slots[o.Slot] = fd
		}
		return outcome{err: err}
	case "close":
		return outcome{err: s.close(o.Slot)}
	case "dupclose":
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			err = unix.Close(d)
		}
		return outcome{err: err}
	case "dup":
		if fd < 0 || o.Slot == o.Slot2 {
			return outcome{err: errNothing}
		}
		_ = s.close(o.Slot2)
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			s.slots[o.Slot2] = d
		}
		return outcome{err: err}
	case "fork":
		return outcome{err: s.fork(fd, o.N > 0)}
	case "check", "remount":
		return outcome{} // they are for both sides together
	}
	for _, group := range []func(corpora, *op, int, string) (outcome, bool){s.doData, s.doMapping, s.doName, s.doMetadata} {
		if out, ok := group(c, o, fd, p); ok {
			return out
		}
	}
	panic("no operation " + o.Op)
}

func retryOpen(p string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Open(p, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// fork lets a child process have the descriptor and exit, and write before if
// it is told to.
func (s *side) fork(fd int, write bool) error {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(d), "inherited")
	defer f.Close()
	cmd := exec.Command("true")
	if write {
		cmd = exec.Command("sh", "-c", "printf child >&3")
	}
	cmd.ExtraFiles = []*os.File{f}
	var failed *exec.ExitError
	if err := cmd.Run(); errors.As(err, &failed) {
		return fmt.Errorf("exit code %d", failed.ExitCode())
	} else if err != nil {
		return err
	}
	return nil
}

func (s *side) doData(c corpora, o *op, fd int, p string) (outcome, bool) {
	var n int
	var off int64
	var err error
	switch o.Op {
	case "pwrite":
		n, err = unix.Pwrite(fd, c.slice(o), o.Off)
	case "write":
		n, err = unix.Write(fd, c.slice(o))
	case "pread":
		n, err = unix.Pread(fd, s.buf[:o.N], o.Off)
		return outcome{n: int64(n), err: err, data: s.buf[:max(n, 0)]}, true
	case "read":
		n, err = unix.Read(fd, s.buf[:o.N])
		return outcome{n: int64(n), err: err, data: s.buf[:max(n, 0)]}, true
	case "seek":
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return outcome{err: errNothing}, true // positions in a directory are any
		}
		off, err = unix.Seek(fd, o.Off, o.N)
		return outcome{n: off, err: err}, true
	case "seekdata", "seekhole":
		return s.seekExtent(o, fd), true
	case "ftruncate":
		err = unix.Ftruncate(fd, o.Off)
	case "truncate":
		err = unix.Truncate(p, o.Off)
	case "fsync":
		err = unix.Fsync(fd)
	case "fdatasync":
		err = unix.Fdatasync(fd)
	case "fsyncdir":
		err = withOpen(p, unix.O_RDONLY|unix.O_DIRECTORY, unix.Fsync)
	case "fallocate":
		err = unix.Fallocate(fd, uint32(o.bits()), o.Off, int64(o.N))
	case "refusedfallocate":
		err = s.refused(fd, unix.EOPNOTSUPP, func() error { return unix.Fallocate(fd, uint32(o.bits()), o.Off, int64(o.N)) })
	case "clone":
		err = unix.IoctlFileClone(s.slots[o.Slot2], fd)
	case "copyrange":
		n := int64(o.N)
		if size, same := sameFile(fd, s.slots[o.Slot2]); same {
			n = min(n, size-o.Off)
		}
		off, err = copyRange(fd, o.Off, s.slots[o.Slot2], o.Off2, n)
		return outcome{n: off, err: err}, true
	case "sendfile":
		if _, same := sameFile(fd, s.slots[o.Slot2]); same {
			return outcome{err: errNothing}, true
		}
		n, err = unix.Sendfile(s.slots[o.Slot2], fd, nil, o.N)
	case "flock":
		err = unix.Flock(fd, o.bits())
	case "ofdlock":
		lock := unix.Flock_t{Type: int16(o.N), Start: o.Off, Len: 150}
		err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	default:
		return outcome{}, false
	}
	return outcome{n: int64(n), err: err}, true
}

// refused plays what a mount refuses, with the errno why, and ext4 may not: there
// it is not played. On what is no regular file open for writing, any errno will do.
func (s *side) refused(fd int, why unix.Errno, do func() error) error {
	if s.ext4 {
		return nil
	}
	err := do()
	var st unix.Stat_t
	flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	writable := flagsErr == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_APPEND == 0
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && writable && err != why {
		return fmt.Errorf("it is not refused: %v", err)
	}
	if err == nil {
		return errors.New("it is not refused")
	}
	return nil
}

// seekExtent looks for data or a hole. Where that is differs between
// filesystems, so only what must hold for all is the outcome: an error past the
// end, and that what was skipped is zeros, and that a hole begins at the end at
// the latest.
func (s *side) seekExtent(o *op, fd int) outcome {
	was, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		return outcome{err: err}
	}
	defer func() { _, _ = unix.Seek(fd, was, unix.SEEK_SET) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return outcome{err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return outcome{err: errNothing} // what it means elsewhere is not said
	}
	whence := unix.SEEK_DATA
	if o.Op == "seekhole" {
		whence = unix.SEEK_HOLE
	}
	at, err := unix.Seek(fd, o.Off, whence)
	if o.Off >= st.Size || o.Off < 0 {
		return outcome{err: err}
	}
	switch {
	case whence == unix.SEEK_HOLE && (err != nil || at < o.Off || at > st.Size):
		return outcome{n: at, err: fmt.Errorf("no hole before the end: %w", err)}
	case whence == unix.SEEK_DATA && err == unix.ENXIO:
		at = st.Size // a hole to the end
	case whence == unix.SEEK_DATA && (err != nil || at < o.Off):
		return outcome{n: at, err: fmt.Errorf("no data: %w", err)}
	case whence == unix.SEEK_HOLE:
		return outcome{}
	}
	for off := o.Off; off < at; {
		n, err := unix.Pread(fd, s.buf[:min(int64(len(s.buf)), at-off)], off)
		if err == unix.EBADF {
			break // open for writing only
		}
		if n <= 0 || slices.Max(s.buf[:n]) != 0 {
			return outcome{n: off, err: fmt.Errorf("skipped data: %d %w", n, err)}
		}
		off += int64(n)
	}
	return outcome{}
}

// sameFile says whether both are descriptors of one file, and its size. What a
// copy of a file into itself brings depends on the pieces in which it is made.
func sameFile(a, b int) (size int64, same bool) {
	var st, other unix.Stat_t
	if unix.Fstat(a, &st) != nil || unix.Fstat(b, &other) != nil {
		return 0, false
	}
	return st.Size, st.Dev == other.Dev && st.Ino == other.Ino
}

// copyRange is copy_file_range(2) until it is done: how much one call copies
// differs.
func copyRange(from int, off int64, to int, off2 int64, n int64) (int64, error) {
	done := int64(0)
	for done < n {
		in, out := off+done, off2+done
		k, err := unix.CopyFileRange(from, &in, to, &out, int(n-done), 0)
		if err != nil || k == 0 {
			return done, err
		}
		done += int64(k)
	}
	return done, nil
}

func withOpen(p string, flags int, do func(fd int) error) error {
	fd, err := retryOpen(p, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(fd), unix.Close(fd))
}

func (s *side) doMapping(c corpora, o *op, fd int, _ string) (outcome, bool) {
	b := s.maps[o.Map]
	switch o.Op {
	case "mmap":
		_ = s.unmap(o.Map)
		return s.mmap(o, fd), true
	case "munmap":
		return outcome{err: s.unmap(o.Map)}, true
	case "msync", "store", "load":
	default:
		return outcome{}, false
	}
	if b == nil {
		return outcome{err: errNothing}, true
	}
	if o.Op == "msync" {
		return outcome{err: unix.Msync(b, unix.MS_SYNC)}, true
	}
	// What is past the file's last page can't be reached, which both sides have to
	// agree on. How long stores into that page past the file's end can be seen is
	// any.
	at := min(int(o.Off), len(b)-1)
	part := b[at:min(len(b), at+o.N)]
	var st unix.Stat_t
	if err := unix.Fstat(s.under[o.Map].fd, &st); err != nil {
		return outcome{err: err}, true
	}
	begin, page := s.under[o.Map].off+int64(at), int64(os.Getpagesize())
	switch lastPage := (st.Size + page - 1) / page * page; {
	case begin < st.Size:
		part = part[:min(int64(len(part)), st.Size-begin)]
	case begin < lastPage:
		return outcome{err: errNothing}, true
	}
	if o.Op == "load" {
		err := touch(func() { copy(s.buf, part) })
		if err != nil {
			return outcome{err: err}, true
		}
		return outcome{data: s.buf[:len(part)]}, true
	}
	return outcome{err: touch(func() { copy(part, c.slice(o)) })}, true
}

func (s *side) mmap(o *op, fd int) outcome {
	var prot, flags int
	for name := range strings.SplitSeq(o.Flags, "|") {
		switch name {
		case "READ", "WRITE":
			prot |= flagBits[name]
		default:
			flags |= flagBits[name]
		}
	}
	b, err := unix.Mmap(fd, o.Off, o.N, prot, flags)
	if err == nil {
		s.maps[o.Map] = b
		s.under[o.Map].off = o.Off
		s.under[o.Map].fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return outcome{err: err}
}

// touch calls do, which uses a mapping, and survives if that has no memory.
func touch(do func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(interface{ Addr() uintptr }); !ok {
				panic(r)
			}
			err = errors.New("SIGBUS or SIGSEGV")
		}
	}()
	do()
	return nil
}

func (s *side) doName(_ corpora, o *op, _ int, p string) (outcome, bool) {
	var err error
	switch o.Op {
	case "rename":
		if o.Path == "" || o.To == "" { // a mount point is nothing to rename
			return outcome{err: errNothing}, true
		}
		err = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, s.path(o.To), uint(o.bits()))
	case "link":
		err = unix.Linkat(unix.AT_FDCWD, p, unix.AT_FDCWD, s.path(o.To), o.bits())
	case "symlink":
		err = unix.Symlink(longNames.Replace(o.To), p)
	case "readlink":
		n, err := unix.Readlink(p, s.buf[:4096])
		return outcome{n: int64(n), err: err, data: s.buf[:max(n, 0)]}, true
	case "unlink":
		err = unix.Unlink(p)
	case "rmdir":
		if o.Path == "" {
			return outcome{err: errNothing}, true
		}
		err = unix.Rmdir(p)
	case "mkdir":
		err = unix.Mkdir(p, o.Mode)
	case "mkfifo":
		err = unix.Mkfifo(p, o.Mode)
	case "mknod":
		err = unix.Mknod(p, o.Mode, o.N)
	case "tmpfile":
		if !s.ext4 {
			fd, err := unix.Open(p, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, o.Mode)
			if err == nil {
				return outcome{err: errors.Join(errors.New("it is not refused"), unix.Close(fd))}, true
			}
		}
	default:
		return outcome{}, false
	}
	return outcome{err: err}, true
}

func (s *side) doMetadata(c corpora, o *op, fd int, p string) (outcome, bool) {
	var n int
	var err error
	times := []unix.Timespec{timespecOf(o.Off), timespecOf(o.Off2)}
	switch o.Op {
	case "chmod":
		err = unix.Chmod(p, o.Mode)
	case "fchmod":
		err = unix.Fchmod(fd, o.Mode)
	case "chown":
		err = unix.Lchown(p, int(o.Off), int(o.Off2))
	case "utimens":
		err = unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW)
	case "futimens":
		if _, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0); e != 0 {
			err = e
		}
	case "setxattr":
		err = unix.Lsetxattr(p, o.To, c.slice(o), int(o.Mode))
	case "fsetxattr":
		err = unix.Fsetxattr(fd, o.To, c.slice(o), 0)
	case "getxattr":
		n, err = unix.Lgetxattr(p, o.To, s.buf[:o.N])
		return outcome{n: int64(n), err: err, data: s.buf[:max(0, min(n, o.N))]}, true
	case "fgetxattr":
		n, err = unix.Fgetxattr(fd, o.To, s.buf[:o.N])
		return outcome{n: int64(n), err: err, data: s.buf[:max(n, 0)]}, true
	case "removexattr":
		err = unix.Lremovexattr(p, o.To)
	case "listxattr":
		n, err = unix.Llistxattr(p, s.buf[:o.N])
		names := strings.SplitAfter(string(s.buf[:max(0, min(n, o.N))]), "\x00")
		slices.Sort(names) // in any order, which a file that was stored anew may have changed
		return outcome{n: int64(n), err: err, data: []byte(strings.Join(names, ""))}, true
	default:
		return outcome{}, false
	}
	return outcome{n: int64(n), err: err}, true
}

func timespecOf(t int64) unix.Timespec {
	switch t {
	case timeOmit:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case timeNow:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.NsecToTimespec(t)
}

// names lists a directory, sorted.
func (s *side) names(rel string) []string {
	entries, _ := s.list(rel)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	return names
}

// listed is what readdir says about a name.
type listed struct {
	name string
	ino  uint64
	typ  byte
}

// list reads a directory without anything between it and the system call.
func (s *side) list(rel string) ([]listed, error) {
	fd, err := retryOpen(s.path(rel), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var entries []listed
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			length := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:length], []byte{0})
			if n := string(name); n != "." && n != ".." {
				if len(n) == 255 {
					n = longest
				}
				entries = append(entries, listed{n, binary.NativeEndian.Uint64(b), b[18]})
			}
			b = b[length:]
		}
	}
	slices.SortFunc(entries, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// sealedContainer is what a mount leaves in its backing directory of a file.
func sealedContainer(t testing.TB, file []byte) []byte {
	t.Helper()
	m := mountApart(t)
	must(t, os.WriteFile(m.path("f"), file, 0o600))
	m.unmount(t)
	b, err := os.ReadFile(filepath.Join(m.backing, "f"))
	must(t, err)
	if len(b) >= len(file) {
		t.Fatal("the mount made no container")
	}
	return b
}
