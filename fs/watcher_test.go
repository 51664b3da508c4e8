package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher sees every system call by which a daemon changes its backing
// filesystem, right before the kernel does it. The daemon needs no part of its
// own for that: a seccomp filter makes its calls wait for the test's answer.
type watcher struct {
	listener int

	mu     sync.Mutex // guards what follows
	before func(n int, call string)
	n      int // calls since before was set
}

// watchFD is the daemon's end of a socket, over which it gives its listener.
const watchFD = 3

// watchedCalls change something in a filesystem, whatever their arguments.
// openat and openat2 are watched too, where they may make or empty a file.
var watchedCalls = map[uint32]string{
	unix.SYS_PWRITE64: "pwrite", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync",
	unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename", unix.SYS_UNLINKAT: "unlink", unix.SYS_LINKAT: "link",
	unix.SYS_SYMLINKAT: "symlink", unix.SYS_MKDIRAT: "mkdir", unix.SYS_MKNODAT: "mknod",
	unix.SYS_FSETXATTR: "fsetxattr", unix.SYS_FREMOVEXATTR: "fremovexattr", unix.SYS_UTIMENSAT: "utimensat",
	unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat",
}

const makesFile = unix.O_CREAT | unix.O_TRUNC

// watchFilter is the seccomp program: watched calls wait, others go on.
func watchFilter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	const nr, thirdArgument = 0, 16 + 2*8 // in struct seccomp_data
	wait := unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF}
	allow := unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW}
	p := []unix.SockFilter{{Code: load, K: nr}}
	for call := range watchedCalls {
		p = append(p, unix.SockFilter{Code: equal, Jf: 1, K: call}, wait)
	}
	return append(p,
		unix.SockFilter{Code: equal, Jf: 1, K: unix.SYS_OPENAT2}, wait, // its flags are in memory
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_OPENAT},
		unix.SockFilter{Code: load, K: thirdArgument},
		unix.SockFilter{Code: bits, Jf: 1, K: makesFile}, wait,
		allow)
}

// giveWatch puts the filter on all threads of this process and gives the
// listener away through the socket.
func giveWatch(socket int) error {
	p := watchFilter()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// With WAIT_KILLABLE_RECV, the runtime's signals do not make a call begin anew.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC |
		unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("%s: seccomp: %w", noWatch, errno)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return err
	}
	return errors.Join(unix.Close(int(fd)), unix.Close(socket))
}

// noWatch begins what a daemon says where a kernel has not what it takes.
const noWatch = "can't be watched"

// startWatched is startMount with a watcher.
func startWatched(t testing.TB, o daemonOrder) (*testMount, *watcher) {
	t.Helper()
	needFUSE(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "watch"), os.NewFile(uintptr(pair[1]), "watched")
	conn, err := net.FileConn(ours)
	must(t, errors.Join(err, ours.Close()))
	w := &watcher{listener: -1}
	var all sync.WaitGroup
	all.Go(func() {
		defer func() { _ = conn.Close() }()
		oob := make([]byte, 64)
		_, n, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
		if err == nil && n > 0 {
			w.listener = listenerOf(oob[:n])
			w.serve()
			_ = unix.Close(w.listener)
		}
	})
	o.Watched = true
	m, line := launch(t, o, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{theirs} })
	must(t, theirs.Close())
	t.Cleanup(all.Wait)
	if strings.HasPrefix(line, noWatch) {
		t.Skipf("SKIPPED: %s", line)
	}
	if line != readyLine {
		t.Fatalf("the daemon says %q\n%s", line, m.log)
	}
	t.Cleanup(func() { m.stop(t) })
	return m, w
}

func listenerOf(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// notification is struct seccomp_notif.
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	pc         uint64
	args       [6]uint64
}

// notificationAnswer is struct seccomp_notif_resp.
type notificationAnswer struct {
	id           uint64
	value        int64
	errno, flags uint32
}

// serve lets calls go on, one after the other, until the daemon has ended.
func (w *watcher) serve() {
	for {
		poll := []unix.PollFd{{Fd: int32(w.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if poll[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
			return
		}
		var x notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(w.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&x))); errno != 0 {
			continue // who made it is gone
		}
		w.note(&x)
		a := notificationAnswer{id: x.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(w.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&a)))
	}
}

// note counts a call.
func (w *watcher) note(x *notification) {
	call := watchedCalls[uint32(x.nr)]
	switch {
	case x.nr == unix.SYS_OPENAT2 && !opensToChange(x):
		return
	case call == "":
		call = "open"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		w.n++
		w.before(w.n, call)
	}
}

// opensToChange says whether an openat2 may make or empty a file. The caller
// waits, so its memory stays as it is.
func opensToChange(x *notification) bool {
	var flags [8]byte // struct open_how begins with them
	local := []unix.Iovec{{Base: &flags[0], Len: uint64(len(flags))}}
	remote := []unix.RemoteIovec{{Base: uintptr(x.args[2]), Len: len(flags)}}
	_, err := unix.ProcessVMReadv(int(x.pid), local, remote, 0)
	return err != nil || binary.NativeEndian.Uint64(flags[:])&makesFile != 0
}

// watch calls before, from now on, before each call that changes something. No
// other call goes on meanwhile.
func (w *watcher) watch(before func(n int, call string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.n = before, 0
}
