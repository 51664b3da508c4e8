package store

import (
	"fmt"
	"sync/atomic"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Stats counts what a Store did since it was opened.
type Stats struct {
	Sealed       uint64 // containers and plain files made whole at their last close
	SealFailures uint64 // last closes at which that failed
	StoredAnew   uint64 // files rewritten in the background
	Leftovers    uint64 // unfinished replacements of dead daemons, removed
	SyncFailures uint64 // files of which a sync failed

	Coded        uint64 // containers coded anew in the background, against others or to stand alone
	CodeFailures uint64 // those that could not be
	CodedBefore  uint64 // bytes that those containers took
	CodedAfter   uint64 // bytes that they take
	Pins         uint64 // bases that are pinned now
	Pinned       uint64 // and how many were since then
	Unpinned     uint64 // pins that were removed
	Unshared     uint64 // bases copied because a client changed the file

	Cache container.CacheStats
}

// String is one line for a log.
func (s Stats) String() string {
	return fmt.Sprintf("sealed %d, failed to seal %d, stored anew %d, leftovers removed %d, failed to sync %d, "+
		"coded anew %d from %d bytes to %d, failed to code %d, pins %d, made %d, removed %d, copied before an edit %d, "+
		"frames decoded %d, found decoded %d, cached %d bytes", s.Sealed, s.SealFailures, s.StoredAnew, s.Leftovers,
		s.SyncFailures, s.Coded, s.CodedBefore, s.CodedAfter, s.CodeFailures, s.Pins, s.Pinned, s.Unpinned, s.Unshared,
		s.Cache.Decodes, s.Cache.Hits, s.Cache.Used)
}

// counters are what Stats is read from.
type counters struct {
	sealed, sealFailures, storedAnew, leftovers, syncFailures atomic.Uint64
	coded, codeFailures, codedBefore, codedAfter              atomic.Uint64
	pinned, unpinned, unshared                                atomic.Uint64
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.counters
	return Stats{
		Sealed: c.sealed.Load(), SealFailures: c.sealFailures.Load(), StoredAnew: c.storedAnew.Load(),
		Leftovers: c.leftovers.Load(), SyncFailures: c.syncFailures.Load(),
		Coded: c.coded.Load(), CodeFailures: c.codeFailures.Load(),
		CodedBefore: c.codedBefore.Load(), CodedAfter: c.codedAfter.Load(),
		Pins: uint64(s.pins.count.Load()), Pinned: c.pinned.Load(), Unpinned: c.unpinned.Load(), Unshared: c.unshared.Load(),
		Cache: s.cache.Stats(),
	}
}
