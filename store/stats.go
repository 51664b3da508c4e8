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
	Cache        container.CacheStats
}

// String is one line for a log.
func (s Stats) String() string {
	return fmt.Sprintf("sealed %d, failed to seal %d, stored anew %d, leftovers removed %d, failed to sync %d, "+
		"frames decoded %d, found decoded %d, cached %d bytes", s.Sealed, s.SealFailures, s.StoredAnew, s.Leftovers,
		s.SyncFailures, s.Cache.Decodes, s.Cache.Hits, s.Cache.Used)
}

// counters are what Stats is read from.
type counters struct {
	sealed, sealFailures, storedAnew, leftovers, syncFailures atomic.Uint64
	pinned, unpinned, unshared                                atomic.Uint64
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	c := &s.counters
	return Stats{
		Sealed: c.sealed.Load(), SealFailures: c.sealFailures.Load(), StoredAnew: c.storedAnew.Load(),
		Leftovers: c.leftovers.Load(), SyncFailures: c.syncFailures.Load(), Cache: s.cache.Stats(),
	}
}
