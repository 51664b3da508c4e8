package store

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// What ioprio_set(2) takes: linux/ioprio.h.
const (
	ioprioWhoProcess = 1
	ioprioClassIdle  = 3
	ioprioClassShift = 13
)

// lowestPriority is nice's.
const lowestPriority = 19

// onIdleThread runs do on a thread that gets processor and disk when nobody else
// wants them, and returns when it is done. The thread ends with it.
func onIdleThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the priority is the thread's
		tid := unix.Gettid()
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, lowestPriority) // one may always be nicer
		_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(tid), ioprioClassIdle<<ioprioClassShift)
		do()
	}()
	<-done
}
