package store

import "sync"

// dirChanges tells the store, when it changes a directory itself, whether a
// client changes the same one meanwhile.
type dirChanges struct {
	mu     sync.Mutex // guards what follows
	dirs   map[Key]*dirChange
	begun  uint64 // changes by the store
	active int    // of these that have not ended
}

// dirChange is a directory that someone is changing.
type dirChange struct {
	own sync.Mutex // held while the store changes it itself

	// The rest is guarded by dirChanges.mu.
	holders int
	clients int    // that are changing it now
	begun   uint64 // changes that clients have begun since there were holders
}

// hold returns the entry of a directory until drop. The caller holds mu.
func (x *dirChanges) hold(key Key) *dirChange {
	if x.dirs == nil {
		x.dirs = make(map[Key]*dirChange)
	}
	d := x.dirs[key]
	if d == nil {
		d = &dirChange{}
		x.dirs[key] = d
	}
	d.holders++
	return d
}

// drop ends hold. The caller holds mu.
func (x *dirChanges) drop(key Key) {
	d := x.dirs[key]
	if d.holders--; d.holders == 0 {
		delete(x.dirs, key)
	}
}

// own begins a change by the store, which leave ends. alone says whether no
// client has changed the directory since.
func (x *dirChanges) own(dirfd int) (alone func() bool, leave func(), err error) {
	st, err := statFD(dirfd)
	if err != nil {
		return nil, nil, err
	}
	key := keyOf(&st)
	x.mu.Lock()
	d := x.hold(key)
	x.mu.Unlock()
	d.own.Lock()
	x.mu.Lock()
	x.begun++
	x.active++
	quiet, begun := d.clients == 0, d.begun
	x.mu.Unlock()
	alone = func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return quiet && d.begun == begun
	}
	leave = func() {
		d.own.Unlock()
		x.mu.Lock()
		defer x.mu.Unlock()
		x.active--
		x.drop(key)
	}
	return alone, leave, nil
}

// settled runs look, which takes the state of the directory that it returns the
// key of. It is run again, after them, if changes by the store went on meanwhile:
// in the middle of one a directory has times that nobody is to see.
func (x *dirChanges) settled(look func() (Key, error)) error {
	x.mu.Lock()
	active, begun := x.active, x.begun
	x.mu.Unlock()
	key, err := look()
	if err != nil {
		return err
	}
	x.mu.Lock()
	if active == 0 && x.begun == begun {
		x.mu.Unlock()
		return nil
	}
	d := x.hold(key)
	x.mu.Unlock()
	d.own.Lock()
	_, err = look()
	d.own.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(key)
	return err
}

// client is called before a client changes directories, and what it returns
// after that.
func (x *dirChanges) client(dirfds ...int) (leave func()) {
	var keys []Key
	for _, fd := range dirfds {
		if st, err := statFD(fd); err == nil {
			keys = append(keys, keyOf(&st))
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range keys {
		d := x.hold(key)
		d.clients++
		d.begun++
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, key := range keys {
			x.dirs[key].clients--
			x.drop(key)
		}
	}
}

// changingDirOf is dirChanges.client for the directory of rel.
func (r *root) changingDirOf(rel string) (leave func()) {
	leave = func() {}
	_ = r.at("open", rel, func(dirfd int, _ string) error { // the change itself will tell
		leave = r.changes.client(dirfd)
		return nil
	})
	return leave
}
