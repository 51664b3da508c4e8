package store

import "sync"

// identities keeps what clients know as one inode one inode, while its backing
// inode is replaced by another. A file whose backing inode was never replaced
// is known by that inode's own key and number, and needs no entry.
type identities struct {
	mu      sync.Mutex // guards what follows
	known   map[Key]Key
	backing map[Key]Key    // the reverse of known
	held    map[uint64]Key // inode numbers of replaced inodes that clients still know
	given   map[Key]uint64 // numbers of files whose own number is held by another
	last    uint64
	// touched are the numbers that ever belonged to an inode that was replaced or
	// replaced another; nil after more than maxTouched. They do not tell the inode:
	// a listing may still have the number of one that is gone.
	touched map[uint64]struct{}
}

// maxTouched bounds what readdir can tell without asking for each inode.
const maxTouched = 1 << 18

// firstGiven is where numbers begin that no backing filesystem hands out.
const firstGiven = 1 << 52

// of returns the key by which clients know a backing inode.
func (x *identities) of(backing Key) Key {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k, ok := x.known[backing]; ok {
		return k
	}
	return backing
}

// keptIn says whether what clients know as key is kept in the given backing inode.
func (x *identities) keptIn(key, backing Key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	now, replaced := x.backing[key]
	return replaced && now == backing || !replaced && key == backing
}

// announce says that the backing inode to is about to become what clients know
// as key, which has another one until handOver: it may have the name before.
func (x *identities) announce(key, to Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.announceLocked(key, to)
}

func (x *identities) announceLocked(key, to Key) {
	if x.known == nil {
		x.known, x.backing = make(map[Key]Key), make(map[Key]Key)
		x.held, x.given, x.touched = make(map[uint64]Key), make(map[Key]uint64), make(map[uint64]struct{})
		x.last = firstGiven
	}
	x.known[to] = key
	x.touch(key.Inode)
	x.touch(to.Inode)
}

func (x *identities) touch(number uint64) {
	if x.touched != nil {
		x.touched[number] = struct{}{}
	}
	if len(x.touched) > maxTouched {
		x.touched = nil
	}
}

// retract takes an announcement back.
func (x *identities) retract(to Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.known, to)
}

// handOver makes the backing inode to what clients know as key.
func (x *identities) handOver(key, to Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.announceLocked(key, to)
	x.dropBacking(key)
	x.backing[key] = to
	x.held[x.numberLocked(key)] = key
}

// forget ends what clients know as key: its last name and its last opener are
// gone.
func (x *identities) forget(key Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, replaced := x.backing[key]; replaced {
		delete(x.held, x.numberLocked(key))
	}
	x.dropBacking(key)
	if n, ok := x.given[key]; ok {
		delete(x.given, key)
		delete(x.held, n)
	}
}

func (x *identities) dropBacking(key Key) {
	if old, ok := x.backing[key]; ok {
		delete(x.known, old)
		delete(x.backing, key)
	}
}

// number is the inode number that clients see.
func (x *identities) number(key Key) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.numberLocked(key)
}

func (x *identities) numberLocked(key Key) uint64 {
	if n, ok := x.given[key]; ok {
		return n
	}
	if owner, ok := x.held[key.Inode]; !ok || owner == key {
		return key.Inode
	}
	x.last++
	x.given[key] = x.last
	return x.last
}

// own says whether clients know whatever has this number in the backing
// filesystem by the same number. Else it takes the inode's key to tell.
func (x *identities) own(number uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, touched := x.touched[number]
	return x.known == nil || x.touched != nil && !touched
}
