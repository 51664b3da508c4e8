package container

import "sync"

// Announcer is a Storage that can be told what will be read soon, so that the
// disk works while frames are decoded.
type Announcer interface {
	Announce(off, n int64)
}

const (
	// aheadMost is how many logical bytes before a sequential reader are
	// announced, or decoded; half as many at a time.
	aheadMost = 8 << 20
	// A reader is sequential when it has got further than sequentialAfter by reads,
	// each of at least sequentialMin bytes and no further than sequentialSlack from
	// where the last one ended. The kernel reads ahead in several requests at once,
	// in any order, and as much as sequentialAfter around a single fault.
	sequentialAfter = 4 << 20
	sequentialMin   = 64 << 10
	sequentialSlack = 4 << 20
)

// readers remembers where the last sequential readers of a container are.
type readers struct {
	mu   sync.Mutex // guards what follows
	at   [8]position
	turn int
}

// position is one reader's.
type position struct {
	begin int64 // of its first read
	next  int64 // just past its last read; 0: nobody's
	told  int64 // just past what was announced for it
}

// advance notes a read of [off, end), and returns the logical range to announce
// now, if ahead bytes before the reader are to be, empty for most reads and if
// ahead is 0, and whose it is.
func (x *readers) advance(off, end, ahead int64) (from, to int64, who int) {
	if end-off < sequentialMin {
		return 0, 0, 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range x.at {
		p := &x.at[i]
		if p.next == 0 || off > p.next+sequentialSlack || off < p.next-sequentialSlack {
			continue
		}
		p.next = max(p.next, end)
		from, to = max(p.told, end), p.next+ahead
		if p.next-p.begin <= sequentialAfter || to-from < max(ahead/2, 1) {
			return 0, 0, 0
		}
		p.told = to
		return from, to, i
	}
	x.at[x.turn] = position{off, end, end}
	x.turn = (x.turn + 1) % len(x.at)
	return 0, 0, 0
}

// next is where a reader is now.
func (x *readers) next(who int) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.at[who].next
}

// announce tells the storage of the frames that a sequential reader of
// [off, end) will want next.
func (r *Reader) announce(off, end int64) {
	a, ok := r.src.(Announcer)
	if !ok {
		return
	}
	from, to, _ := r.readers.advance(off, end, aheadMost)
	if from >= to {
		return
	}
	r.mu.RLock()
	begin, stop := int64(-1), int64(-1)
	for _, e := range r.log.Extents.Within(from, min(to, r.log.Size)) {
		p := e.Frame.Position
		if begin < 0 {
			begin, stop = p, p
		}
		if p < begin || p > stop+aheadMost {
			break // not where the others are
		}
		stop = max(stop, e.Frame.DataEnd())
	}
	r.mu.RUnlock()
	if begin < stop {
		go a.Announce(begin, stop-begin)
	}
}
