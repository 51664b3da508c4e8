package main

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	usualTimerSlack = 50_000 // ns, what Linux gives who asks for nothing: prctl(2)
	// timerSlack is what a mount gets: long beside the 20 µs that Go's monitor of
	// system calls sleeps between two looks. With more, saves take a little less of
	// the processor, but loads wait for threads that the monitor would have helped.
	timerSlack = 300_000 // ns
)

// slackenTimers lets the kernel be later with the timers of this process. While
// a file is saved, Go's runtime looks every 20 µs whether a thread is in a system
// call, since one nearly always is with work left for others; on a virtual machine
// that takes a tenth of the daemon's processor time.
//
// The thread that looks is started before any code of ours, and only its own
// start can give it another slack. So this starts the program again in its place,
// with the same process number, arguments and descriptors, and returns then, or
// where it can't be done. What somebody else has set, as by systemd's
// TimerSlackNSec=, stays.
func slackenTimers() {
	runtime.LockOSThread() // the slack is the thread's, and Exec keeps it
	defer runtime.UnlockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack != usualTimerSlack {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return
	}
	_ = syscall.Exec(program, os.Args, os.Environ()) // does not return if it succeeds
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, usualTimerSlack, 0, 0, 0)
}
