package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// idlePeriod is how long a daemon has nothing to do before it gives memory back.
	idlePeriod = 5 * time.Second
	// idleAllocs is the most that it allocates in that time while it has nothing
	// to do.
	idleAllocs = 256 << 10
)

// returnMemory gives free memory back to the kernel whenever the process
// becomes idle. By itself the runtime keeps what its heap needed at the peak.
func returnMemory(stop <-chan struct{}) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(idlePeriod)
	defer tick.Stop()
	last, returned := uint64(0), true
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		metrics.Read(sample)
		now := sample[0].Value.Uint64()
		busy := now-last > idleAllocs
		last = now
		if !busy && !returned {
			// A sync.Pool lets go of what it holds in the second collection.
			debug.FreeOSMemory()
			debug.FreeOSMemory()
			metrics.Read(sample)
			last = sample[0].Value.Uint64()
		}
		returned = !busy
	}
}
