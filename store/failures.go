package store

import "sync"

// failures are the seals that failed at the last close, where nobody waits for
// an error: whoever opens the file next is told.
type failures struct {
	mu sync.Mutex
	m  map[Key]error
}

// maxFailures bounds what is remembered. All of them are logged.
const maxFailures = 1 << 12

// note remembers how the seal of a file ended; nil forgets.
func (x *failures) note(key Key, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err == nil {
		delete(x.m, key)
		return
	}
	if x.m == nil || len(x.m) >= maxFailures {
		x.m = make(map[Key]error)
	}
	x.m[key] = err
}

// of returns the error of a file's last seal, or nil.
func (x *failures) of(key Key) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.m[key]
}
