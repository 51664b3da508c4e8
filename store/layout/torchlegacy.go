package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The legacy format is five pickles: a magic number, the version, what the
// machine was like, the object, and the keys of the storages. Then, for each
// key, the number of elements in 8 bytes and the storage as it is, aligned to
// nothing.

// legacyMagic is the first pickle, with 0x1950a86a20f9469cfc6c, in protocol 2.
const legacyMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"

const (
	legacyVersion = 1001

	legacyAtVersion = 1 // of the pickles, counted from 0
	legacyAtMachine = 2
	legacyAtObject  = 3
	legacyAtKeys    = 4
	legacyPickles   = 5
)

// legacyStream is where in a legacy file its reading is.
type legacyStream struct {
	number    int   // of the pickle
	begin     int64 // of the pickle
	bigEndian bool
	keys      []uint64 // of the storages that are still to come
}

// legacyPickle is within one of the pickles.
func (t *torchFile) legacyPickle() error {
	l := &t.legacy
	if t.pickle == nil {
		t.pickle = &pickle{state: t.state}
		l.begin = t.pos
		switch l.number {
		case legacyAtObject:
		case legacyAtKeys:
			t.pickle.state, t.pickle.keys = &torchState{}, &l.keys
		default:
			t.pickle.state = &torchState{}
		}
	}
	p := t.pickle
	if err := t.unpickle(l.begin); err != nil {
		if l.number == legacyAtKeys && errors.Is(err, ErrMore) {
			// The first storage follows closely. Each key still to come has at least 8 bytes.
			missing := len(t.state.storages) - len(l.keys) - len(p.stack)
			t.want = t.arrived() + 8*int64(max(missing, 1))
		}
		return err
	}
	t.pickle = nil
	switch l.number {
	case legacyAtVersion:
		if p.root.kind != pickledInt || p.root.n != legacyVersion {
			return errors.New("the version is not 1001")
		}
	case legacyAtMachine:
		l.bigEndian = p.bigEndian
	}
	if l.number++; l.number == legacyPickles {
		t.next = (*torchFile).legacyStorage
	}
	return nil
}

// legacyStorage is at the number of elements of a storage.
func (t *torchFile) legacyStorage() error {
	l := &t.legacy
	if len(l.keys) == 0 {
		t.finish()
		t.next = (*torchFile).start
		return nil
	}
	b, err := t.peek(8)
	if err != nil {
		return err
	}
	i, ok := t.state.find(l.keys[0])
	if !ok || t.state.storages[i].begin >= 0 {
		return fmt.Errorf("the pickle has no storage %d, or there are two", l.keys[0])
	}
	s := &t.state.storages[i]
	if n := binary.LittleEndian.Uint64(b); n != uint64(s.size/s.class.size()) {
		return fmt.Errorf("storage %d has %d elements, and %d by the pickle", s.key, n, s.size/s.class.size())
	}
	l.keys = l.keys[1:]
	return t.place(i, t.pos+8, l.bigEndian)
}
