package store

import (
	"sync"

	"golang.org/x/sys/unix"
)

// ctimes hides from clients that the store itself changed a file, sealed after
// its last close, or stored anew in the background, or a directory in which it
// did that. A program that reads them meanwhile, tar for one, would take the new
// change time for a sign that their contents had changed.
type ctimes struct {
	mu sync.Mutex
	m  map[Key]shownCtime
}

// shownCtime says to show shown as long as the backing inode has actual.
type shownCtime struct{ actual, shown unix.StatxTimestamp }

const maxCtimes = 1 << 16

func (c *ctimes) of(key Key, actual unix.StatxTimestamp) unix.StatxTimestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.m[key]; ok && s.actual == actual {
		return s.shown
	}
	return actual
}

func (c *ctimes) put(key Key, actual, shown unix.StatxTimestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCtimes {
		c.m = make(map[Key]shownCtime)
	}
	c.m[key] = shownCtime{actual, shown}
}

// keepCtime runs do, which changes the backing inode or replaces it for the
// store's own purposes, and goes on showing the change time of before. The
// caller holds mu.
func (f *File) keepCtime(do func() error) error {
	before, statErr := f.backing.stat()
	err := do()
	after, afterErr := f.backing.stat()
	if statErr == nil && afterErr == nil && after.Ctime != before.Ctime {
		c := &f.store.root.ctimes
		c.put(f.key, after.Ctime, c.of(f.key, before.Ctime))
	}
	return err
}
