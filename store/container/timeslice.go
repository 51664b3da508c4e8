package container

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// longSlice is how long the scheduler lets a thread that codes go on before others
// who are not ahead of it get their turn, in ns: sched(7). Whoever has a shorter
// one, 3 ms unless he asks, need not wait for the end of it when he wakes up.
const longSlice = 20_000_000

// withLongSlice calls work, which uses the processor and does not wait, so that it
// leaves the processor at once to a client who has more to write and to the
// thread that takes it from him. It gets no less of the processor for it. Without that,
// the coders of a machine with few processors, once they have all of them, keep
// those waiting who would give them more, and then run out of work.
//
// Linux heeds it from 6.12 on.
func withLongSlice(work func()) {
	runtime.LockOSThread() // the slice is the thread's
	defer runtime.UnlockOSThread()
	if before, err := unix.SchedGetAttr(0, 0); err == nil && before.Policy == unix.SCHED_NORMAL {
		long := *before
		long.Runtime = longSlice
		if unix.SchedSetAttr(0, &long, 0) == nil {
			defer func() { _ = unix.SchedSetAttr(0, before, 0) }()
		}
	}
	work()
}
