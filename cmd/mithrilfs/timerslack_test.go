package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTimerSlack: every thread of a mount has the longer slack, so the one that
// Go starts first has it too; or that which somebody has set.
func TestTimerSlack(t *testing.T) {
	for _, c := range []struct {
		name       string
		inherited  int
		whatItGets string
	}{
		{"usual", usualTimerSlack, fmt.Sprint(timerSlack)},
		{"set by another", 70_000, "70000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(c.inherited), 0, 0, 0); err != nil {
				t.Skipf("SKIPPED: prctl(PR_SET_TIMERSLACK): %v", err)
			}
			defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // 0 is the default
			p := startProgram(t)
			directory := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
			threads, err := os.ReadDir(directory)
			if err != nil || len(threads) < 2 {
				t.Fatal(threads, err)
			}
			for _, thread := range threads {
				// A file of each thread's /proc/<number>, not of its entry among the tasks.
				b, err := os.ReadFile(filepath.Join("/proc", thread.Name(), "timerslack_ns"))
				if os.IsPermission(err) {
					t.Skipf("SKIPPED: %v", err)
				}
				if got := strings.TrimSpace(string(b)); err != nil || got != c.whatItGets {
					t.Errorf("thread %s: a slack of %s ns, want %s: %v", thread.Name(), got, c.whatItGets, err)
				}
			}
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
			if want := filepath.Base(os.Args[0]); err != nil || !strings.HasPrefix(want, strings.TrimSpace(string(name))) {
				t.Errorf("the process is called %q, want %q: %v", name, want, err)
			}
		})
	}
}
