package store

import "sync"

// identities keeps what clients know as one inode one inode, while its backing
// inode is replaced by another. A file whose backing inode was never replaced
// is known by that inode's own key and number, and needs no entry.
type identities struct {
	mu      sync.Mutex // guards what follows
	known   map[Key]Key
	backing map[Key]Key       // the reverse of known
	held    map[uint64]Key    // inode numbers of replaced inodes that clients still know
	given   map[Key]uint64    // numbers of files whose own number is held by another
	dirents map[uint64]uint64 // backing number to the number that clients know
	last    uint64
}

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

// handOver makes the backing inode to what clients know as key.
func (x *identities) handOver(key, to Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known, x.backing = make(map[Key]Key), make(map[Key]Key)
		x.held, x.given, x.dirents = make(map[uint64]Key), make(map[Key]uint64), make(map[uint64]uint64)
		x.last = firstGiven
	}
	x.dropBacking(key)
	x.known[to], x.backing[key] = key, to
	number := x.numberLocked(key)
	x.held[number] = key
	x.dirents[to.Inode] = number
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
		delete(x.dirents, key.Inode)
	}
}

func (x *identities) dropBacking(key Key) {
	if old, ok := x.backing[key]; ok {
		delete(x.known, old)
		delete(x.backing, key)
		delete(x.dirents, old.Inode)
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
	x.dirents[key.Inode] = x.last
	return x.last
}

// dirent is the number that clients see of a backing inode's number in a
// directory.
func (x *identities) dirent(number uint64) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n, ok := x.dirents[number]; ok {
		return n
	}
	return number
}
