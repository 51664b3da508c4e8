package container

import (
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
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

// TestCodersHaveLongSlices: the threads that code have them while a Writer is at
// work, and none has one when it is done.
func TestCodersHaveLongSlices(t *testing.T) {
	if a, err := unix.SchedGetAttr(0, 0); err != nil || a.Runtime == 0 || a.Policy != unix.SCHED_NORMAL {
		t.Skipf("SKIPPED: this kernel knows no time slices, or the tests have no usual scheduling: %+v, %v", a, err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))) // to look while others code
	w := newTestWriter(&memory{})
	chunk, seen := weights(codec.FrameSize, 1), false
	for i := 0; i < 1000 && !seen; i++ {
		put(t, w, chunk, int64(i)*codec.FrameSize, codec.BF16)
		seen = threadsWithLongSlice(t) > 0
	}
	if !seen {
		t.Error("no thread had a long slice while 1000 chunks were coded")
	}
	must(t, w.Drain())
	if n := threadsWithLongSlice(t); n > 0 {
		t.Errorf("%d threads keep a long slice", n)
	}
}

func threadsWithLongSlice(t *testing.T) (n int) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	must(t, err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		must(t, err)
		if a, err := unix.SchedGetAttr(id, 0); err == nil && a.Runtime == longSlice { // else the thread has ended
			n++
		}
	}
	return n
}
