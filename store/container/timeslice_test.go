package container

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLongSlice: the thread has it while work runs, and everything else of its
// scheduling stays, also when work panics.
func TestLongSlice(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: one may be nicer, but not less nice again
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 3); err != nil {
			t.Error(err)
			return
		}
		attributes := func() unix.SchedAttr {
			a, err := unix.SchedGetAttr(0, 0)
			if err != nil {
				t.Error(err)
				return unix.SchedAttr{}
			}
			return *a
		}
		before := attributes()
		var within unix.SchedAttr
		func() {
			defer func() { _ = recover() }()
			withLongSlice(func() {
				within = attributes()
				panic("work failed")
			})
		}()
		if after := attributes(); after != before {
			t.Errorf("%+v before, %+v after", before, after)
		}
		if before.Runtime == 0 {
			t.Log("this kernel knows no time slices")
			return
		}
		want := before
		if want.Runtime = longSlice; within != want {
			t.Errorf("while it works %+v, want %+v", within, want)
		}
	}()
	<-done
}
