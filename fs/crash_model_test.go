package fs

import (
	"bytes"
	"fmt"
	"slices"
)

// change is what one call does to a file's bytes: data at off, or a new size.
type change struct {
	data []byte // nil: ftruncate
	off  int64
	size int64
}

func (c *change) apply(b []byte) []byte {
	if c.data == nil {
		return resized(b, c.size)
	}
	if len(c.data) == 0 {
		return b
	}
	b = resized(b, max(int64(len(b)), c.off+int64(len(c.data))))
	copy(b[c.off:], c.data)
	return b
}

// reach is how much of the file is more than a declared tail, where before the
// change n was.
func (c *change) reach(n int64) int64 {
	if c.data == nil {
		return min(n, c.size)
	}
	return max(n, c.off+int64(len(c.data)))
}

func resized(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return b[:n]
	}
	return append(b, make([]byte, n-int64(len(b)))...)
}

// image is what is known of one inode's bytes: a content that is certain to
// have been there, and what was asked for since. Promises count the changes of
// the log that must be there; a later state, or a change done in part, is
// always possible.
type image struct {
	base []byte
	log  []change // the last may not have been answered
	size int64    // after all of log

	solid int64 // how much of base is more than a declared tail
	sized int   // after as many changes the tail is promised too

	seen   int // at least these are there when a name leads to the image; -1: no name does
	closed int // promised by close: they outlive the daemon
	synced int // promised by fsync: they outlive the machine's power

	links    int
	replaces bool // the name may lead to an older image until it is published
	found    bool // it was there after a crash
	named    bool // a name surely led to it
	gone     bool // its last name may have been taken away
}

func (m *image) add(c change) {
	m.log = append(m.log, c)
	if c.data == nil {
		m.size = c.size
	} else if len(c.data) > 0 {
		m.size = max(m.size, c.off+int64(len(c.data)))
	}
}

// promise is how many changes must be there, whatever happened.
func (m *image) promise(power bool) int {
	if power {
		return max(m.seen, m.synced)
	}
	return max(m.seen, m.synced, m.closed)
}

// explain says why got can't be what is left of the image, or "". At least the
// first from changes of the log must be there.
func (m *image) explain(got []byte, from int, power, plain bool) string {
	if m.seen < 0 {
		return "it replaces a file and was never published"
	}
	from = max(from, m.promise(power))
	fresh := len(m.base) == 0 && from == 0
	state := bytes.Clone(m.base)
	reached := m.solid
	var states [][]byte
	for i := 0; ; i++ {
		if i == m.sized {
			reached = int64(len(state))
		}
		if i >= from && (matches(got, state, reached) || fresh && bytes.HasPrefix(state, got)) {
			return ""
		}
		if i >= from && power && plain {
			states = append(states, bytes.Clone(state))
		}
		if i == len(m.log) {
			break
		}
		c := &m.log[i]
		if i >= from && c.data != nil && c.off <= int64(len(got)) {
			part := change{data: c.data[:common(got[c.off:], c.data)], off: c.off}
			if matches(got, part.apply(bytes.Clone(state)), max(reached, c.off+int64(len(part.data)))) {
				return ""
			}
		}
		state, reached = c.apply(state), c.reach(reached)
	}
	if len(states) > 0 && mixed(got, states) {
		return ""
	}
	return fmt.Sprintf("%d bytes; with all changes it has %d, and they differ from %d on; it had %d before %v, of which %d must be there",
		len(got), len(state), firstDifference(got, state), len(m.base), m.log, from)
}

func (c change) String() string {
	if c.data == nil {
		return fmt.Sprintf("=%d", c.size)
	}
	return fmt.Sprintf("%d+%d", c.off, len(c.data))
}

// matches says whether got is state, or all of it but some of the declared tail.
func matches(got, state []byte, reached int64) bool {
	return int64(len(got)) >= reached && bytes.HasPrefix(state, got)
}

func common(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	return firstDifference(a[:n], b[:n])
}

// mixed says whether every block of got is one that the file had: what the
// backing filesystem leaves of a plain file that nobody synced.
func mixed(got []byte, states [][]byte) bool {
	const block = 4096
	for at := 0; at < len(got); at += block {
		b := got[at:min(at+block, len(got))]
		if !slices.ContainsFunc(states, func(s []byte) bool {
			if at > len(s) {
				return allZero(b)
			}
			// Where a state ends inside the block, what follows is whatever was there.
			return bytes.HasPrefix(b, s[at:min(at+len(b), len(s))])
		}) {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// fold makes all of the log certain.
func (m *image) fold() {
	b := bytes.Clone(m.base)
	for i := range m.log {
		if i == m.sized {
			m.solid = int64(len(b))
		}
		b, m.solid = m.log[i].apply(b), m.log[i].reach(m.solid)
	}
	if m.sized == len(m.log) {
		m.solid = int64(len(b))
	}
	m.base, m.log = b, nil
	m.seen, m.closed, m.synced, m.sized = 0, 0, 0, 0
	if m.solid < int64(len(b)) {
		m.sized = -1
	}
}

// candidate is what a name may lead to: an image with at least some of its
// changes, or nothing.
type candidate struct {
	*image
	from int
}

// world is what is known of one client's names. No other client uses them.
type world struct {
	power bool // whether a power cut is to come, or the daemon's death
	names map[string][]candidate
	told  []string // the operations, for people
}

// now is what the name leads to as long as nothing happens; nil: nothing.
func (w *world) now(name string) *image {
	c := w.names[name]
	if len(c) == 0 {
		return nil
	}
	return c[len(c)-1].image
}

// may says that name may lead to m from now on.
func (w *world) may(name string, m *image, from int) {
	if len(w.names[name]) == 0 {
		w.names[name] = []candidate{{}}
	}
	w.names[name] = append(w.names[name], candidate{m, from})
}

// is says that name leads to what it leads to now, whatever happens.
func (w *world) is(name string) {
	c := w.names[name]
	if len(c) > 1 {
		w.names[name] = slices.Clone(c[len(c)-1:])
	}
	if m := w.now(name); m != nil {
		m.named, m.replaces = true, false
	}
}

// did is is for what only a power cut can undo.
func (w *world) did(name string) {
	if !w.power {
		w.is(name)
	}
}

// fold folds m, and with it what candidates count of its log.
func (w *world) fold(m *image) {
	m.fold()
	for _, list := range w.names {
		for i := range list {
			if list[i].image == m {
				list[i].from = 0
			}
		}
	}
}

// found is what a name leads to after a crash.
type found struct {
	data  []byte
	err   error
	inode uint64
	plain bool
	kept  string // how, for people
}

// problem says why the name can't lead to the candidate, or "".
func (c *candidate) problem(f found, there, power bool) string {
	switch {
	case c.image == nil && !there:
		return ""
	case c.image == nil:
		return "it should not be there"
	case !there:
		return "it is not there"
	case f.err == nil:
		return c.explain(f.data, c.from, power, f.plain)
	case power && c.from == 0 && c.promise(true) == 0 && len(c.base) == 0:
		return "" // frames were lost that nobody promised
	}
	return f.err.Error()
}

// judge compares what is there after a crash with what may be, and says what
// is wrong.
func (w *world) judge(have map[string]found) []string {
	var wrong []string
	reached := make(map[*image]bool)
	for name, list := range w.names {
		f, there := have[name]
		right := false
		var why []string
		for _, c := range list {
			if problem := c.problem(f, there, w.power); problem != "" {
				why = append(why, problem)
				continue
			}
			right = true
			if there {
				reached[c.image] = true
			}
		}
		if !right {
			wrong = append(wrong, fmt.Sprintf("%s (%s): %q", name, f.kept, why))
		}
	}
	for name := range have {
		if _, known := w.names[name]; !known {
			wrong = append(wrong, name+": nobody made it")
		}
	}
	for name, list := range w.names {
		for _, c := range list {
			if m := c.image; m != nil && m.named && !m.gone && !reached[m] {
				reached[m] = true // say it once
				wrong = append(wrong, name+": what it led to has no name any more")
			}
		}
	}
	return wrong
}

// rebase makes what was found what is certain.
func (w *world) rebase(have map[string]found) {
	w.names = make(map[string][]candidate)
	w.told = nil
	inodes := make(map[uint64]*image)
	for name, f := range have {
		m := inodes[f.inode]
		if m == nil {
			m = &image{base: f.data, size: int64(len(f.data)), solid: int64(len(f.data)), found: true, named: true}
			inodes[f.inode] = m
		}
		m.links++
		w.names[name] = []candidate{{m, 0}}
	}
}
