package patience

import "time"

// Moment is how long Enter waits: much longer than a disk that works takes.
const Moment = 100 * time.Millisecond

// Places bounds how many do something at the same time. Who is kept by a disk that
// hangs keeps his place, and others no longer than a Moment.
type Places chan struct{}

// NewPlaces returns n places. Where there are none, nobody waits for one.
func NewPlaces(n int) Places { return make(Places, n) }

// Enter waits for a place, and says whether there is one, to be given back by
// Leave.
func (p Places) Enter() bool {
	if cap(p) == 0 {
		return false
	}
	select {
	case p <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(Moment)
	defer timer.Stop()
	select {
	case p <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// Leave gives a place back.
func (p Places) Leave() { <-p }

// Full says whether the next one would have to wait.
func (p Places) Full() bool { return len(p) == cap(p) }
