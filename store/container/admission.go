package container

import (
	"runtime"
	"time"
)

// admission keeps requests waiting that would decode more frames at once than the
// processors can: they would only take memory. One that hangs with its disk keeps
// the others no longer than admissionPatience.
type admission chan struct{}

const admissionPatience = 100 * time.Millisecond

// newAdmission lets in twice as many as there are processors for Go, so that there is
// something to decode while others wait for the disk.
func newAdmission() admission { return make(admission, 2*runtime.GOMAXPROCS(0)) }

// enter waits for a place and returns what gives it back.
func (a admission) enter() (leave func()) {
	select {
	case a <- struct{}{}:
		return a.leave
	default:
	}
	timer := time.NewTimer(admissionPatience)
	defer timer.Stop()
	select {
	case a <- struct{}{}:
		return a.leave
	case <-timer.C:
		return func() {}
	}
}

func (a admission) leave() { <-a }

// full says whether the next one would have to wait.
func (a admission) full() bool { return len(a) == cap(a) }
