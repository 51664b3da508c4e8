package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// keeper does in the background what series need: it lets go of pins that no
// dependent needs, mends those that lead astray, and codes checkpoints against
// their neighbours. It is one goroutine, so nothing of this goes on twice.
type keeper struct {
	store   *Store
	options SeriesOptions
	orders  chan *order
	waiting atomic.Int32 // those who wait to place an order

	bases bases   // of its own: what it reads is not what clients will
	known indexes // touched by the goroutine only, as is what follows

	doubted string // why pins are kept, as the log says
	samples *samples
	grouper *series.Grouper
	refused map[attempt]time.Time // until when not to try again

	woken chan struct{} // holds a token when there may be something to do
	stop  context.CancelFunc
	ctx   context.Context // ends with the store, or before
	done  chan struct{}   // closed when the goroutine has ended; nil: there is none
}

const (
	// keeperCache is what the keeper keeps of what it reads, in bytes.
	keeperCache = 32 << 20
	// settleTime is how long the keeper waits for more of the same after it was
	// woken: whoever removes a checkpoint removes several files.
	settleTime = 50 * time.Millisecond
	// maxWait is the longest time between two attempts while clients move files.
	maxWait = 10 * time.Second
)

func newKeeper(s *Store, o SeriesOptions) *keeper {
	o.setDefaults()
	k := &keeper{store: s, options: o, known: make(indexes), woken: make(chan struct{}, 1), orders: make(chan *order),
		refused: make(map[attempt]time.Time)}
	k.bases.store, k.bases.cache = s, container.NewCache(keeperCache)
	k.bases.cache.SetResolver(&k.bases)
	k.samples = &samples{store: s, cache: k.bases.cache, open: make(map[container.Generation]*sampled)}
	k.grouper = series.NewGrouper(k.samples, s.log)
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// start lets the keeper work.
func (k *keeper) start() {
	k.done = make(chan struct{})
	go func() {
		defer close(k.done)
		k.work()
	}()
	k.wake()
}

// wake tells that something changed that the keeper may care about. It costs
// nothing and never waits.
func (k *keeper) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

// close ends the keeper's work, and waits for that.
func (k *keeper) close() {
	k.stop()
	if k.done != nil {
		<-k.done
	}
	k.bases.dropAll()
}

func (k *keeper) work() {
	var due quietTimer
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.woken:
			if !k.pause(settleTime) {
				return
			}
			if k.store.pins.count.Load() > 0 || k.store.missing.Swap(false) {
				k.tidy()
			}
			if k.store.counters.sealed.Load() > 0 {
				k.store.claim()
			}
			if k.options.Enabled {
				due.set(k.options.Quiet)
			}
		case <-due.elapsed():
			if k.store.saving() && due.again(k.options.Quiet) {
				continue
			}
			due = quietTimer{}
			k.compact()
		case o := <-k.orders:
			o.done <- k.obey(o)
		}
	}
}

// quietTimer tells when clients have not saved for a while, or have saved for so
// long that they are not waited for any more. The zero value never does.
type quietTimer struct {
	timer  *time.Timer
	latest time.Time
}

// quietPatience is how many quiet times the keeper waits, at most.
const quietPatience = 10

func (q *quietTimer) set(quiet time.Duration) {
	if q.timer == nil {
		q.latest = time.Now().Add(quietPatience * quiet)
		q.timer = time.NewTimer(quiet)
		return
	}
	q.timer.Reset(min(quiet, max(0, time.Until(q.latest))))
}

func (q *quietTimer) elapsed() <-chan time.Time {
	if q.timer == nil {
		return nil
	}
	return q.timer.C
}

// again waits once more, unless that has been long enough.
func (q *quietTimer) again(quiet time.Duration) bool {
	if !time.Now().Before(q.latest) {
		return false
	}
	q.set(quiet)
	return true
}

// compact codes what is worth it, in all families.
func (k *keeper) compact() {
	c := &compaction{keeper: k, ctx: k.ctx, pacer: newPacer(k.ctx, k.store, k.options.CPU)}
	switch err := c.run(); {
	case errors.Is(err, errStale):
		k.wake()
	case err != nil && !errors.Is(err, c.pinless) && k.ctx.Err() == nil:
		k.store.log.Warn("coding checkpoints against each other ended early", "error", err)
	}
}

// pause waits, and says whether there is any reason to go on.
func (k *keeper) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-k.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tidy removes pins that nobody needs, and mends the others.
func (k *keeper) tidy() {
	wait := settleTime
	for {
		c := k.store.takeCensus(k.ctx, k.known)
		need, err := c.needed()
		k.known = c.remember()
		k.store.noteDependents(c)
		if err == nil && k.release(c, need) {
			k.mend(c, need)
			return
		}
		if err != nil && !errors.Is(err, errChanged) {
			k.doubt(err)
			return
		}
		if !k.pause(wait) {
			return
		}
		wait = min(2*wait, maxWait)
	}
}

// doubt tells why no pin is removed, once for each reason.
func (k *keeper) doubt(err error) {
	if k.ctx.Err() != nil || err.Error() == k.doubted {
		return
	}
	k.doubted = err.Error()
	k.store.log.Warn("bases are kept, needed or not: it can't be told what needs them", "error", err)
}

// release removes the pins that nobody needs, unless clients have moved what may
// be dependents since the census began.
func (k *keeper) release(c *census, need map[container.Generation]bool) bool {
	s := k.store
	if s.undurable.Load() {
		return true
	}
	s.pins.change.Lock()
	defer s.pins.change.Unlock()
	s.names.Lock()
	defer s.names.Unlock()
	if s.moves.Load() != c.moves {
		return false
	}
	for g, key := range s.pins.all() {
		if need[g] {
			continue
		}
		if err := s.unpin(g, key); err != nil {
			s.log.Warn("can't remove a pin", "pin", s.root.name(pinName(g)), "error", err)
			continue
		}
		s.bases.drop(g)
		k.bases.drop(g)
	}
	return true
}

// recoding begins one that goes on until the store is closed.
func (k *keeper) recoding() *recoding {
	return &recoding{store: k.store, bases: &k.bases, pace: k.ctx.Err, run: onIdleThread, workers: 1}
}
