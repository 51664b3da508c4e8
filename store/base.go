package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// bases are the Readers of pinned bases, through which dependents are read. They
// make a Store the container.Resolver of its cache. A base that nobody reads
// stays open for a while: whoever loads a checkpoint asks for it frame by frame.
type bases struct {
	store *Store
	cache *container.Cache

	mu   sync.Mutex // guards what follows
	m    map[container.Generation]*base
	old  map[*base]bool // in use, but not in m any more: of what led elsewhere then
	turn uint64
	told map[container.Generation]bool // missing ones of which the log tells
}

// maxIdleBases bounds the descriptors, and indexes in memory, of bases that
// nobody reads.
const maxIdleBases = 32

// base is an open base. Its fields but ready are guarded by bases.mu, or set
// before ready is closed.
type base struct {
	ready  chan struct{}
	reader *container.Reader
	file   *pinFile
	err    error
	refs   int
	used   uint64 // turn of its last use
	gone   bool   // not in bases.m any more
}

var _ container.Resolver = (*bases)(nil)

// Resolve opens the base whose last generation is g. The error is unix.EINTR when
// ctx ended while the disk hung.
func (x *bases) Resolve(ctx context.Context, g container.Generation) (*container.Reader, func(), error) {
	x.mu.Lock()
	b := x.m[g]
	if b == nil {
		b = &base{ready: make(chan struct{}), refs: 2} // one for who opens it: all others may go before
		if x.m == nil {
			x.m = make(map[container.Generation]*base)
		}
		x.m[g] = b
		if ctx.Done() == nil {
			x.mu.Unlock()
			x.open(b, g)
			x.mu.Lock()
		} else {
			go x.open(b, g)
		}
	} else {
		b.refs++
	}
	x.turn++
	b.used = x.turn
	x.mu.Unlock()
	if err := b.wait(ctx); err != nil {
		x.release(b)
		return nil, nil, err
	}
	return b.reader, sync.OnceFunc(func() { x.release(b) }), nil
}

// open fills b, and gives up the reference that it has for that. One that fails
// is forgotten.
func (x *bases) open(b *base, g container.Generation) {
	b.reader, b.file, b.err = x.store.readPin(g, x.cache)
	if b.err != nil {
		x.mu.Lock()
		x.forget(g, b)
		x.tell(g, b.err)
		x.mu.Unlock()
	}
	close(b.ready)
	x.release(b)
}

// wait returns when the base is open, with the error of that.
func (b *base) wait(ctx context.Context) error {
	if err := patience.Wait(ctx, b.ready); err != nil {
		return err
	}
	return b.err
}

// forget takes b out of the map, and says whether nobody uses it; the caller holds
// mu.
func (x *bases) forget(g container.Generation, b *base) (idle bool) {
	if x.m[g] == b {
		delete(x.m, g)
	}
	b.gone = true
	if b.refs > 0 {
		if x.old == nil {
			x.old = make(map[*base]bool)
		}
		x.old[b] = true
	}
	return b.refs == 0
}

// release gives up a reference, and closes what has been idle for longest.
func (x *bases) release(b *base) {
	x.mu.Lock()
	b.refs--
	var over []*base
	last := b.refs == 0 && b.gone
	if last {
		delete(x.old, b)
		over = append(over, b)
	}
	over = append(over, x.evict()...)
	x.mu.Unlock()
	for _, b := range over {
		b.close()
	}
	if last && b.err == nil && x == &x.store.bases && x.store.pins.count.Load() > 0 {
		x.store.keeper.wake() // what only the old form needed may go
	}
}

// eachOld calls do for the old forms in use. The error is errChanged where one is
// being opened.
func (x *bases) eachOld(do func(container.Dependence)) error {
	x.mu.Lock()
	old := slices.Collect(maps.Keys(x.old))
	x.mu.Unlock()
	for _, b := range old {
		select {
		case <-b.ready:
			if b.err == nil {
				do(b.reader.Dependence())
			}
		default:
			return errChanged
		}
	}
	return nil
}

// evict takes out of the map those that are idle and too many; the caller holds
// mu.
func (x *bases) evict() (over []*base) {
	for {
		idle := 0
		var oldest *base
		var of container.Generation
		for g, b := range x.m {
			if b.refs > 0 {
				continue
			}
			if idle++; oldest == nil || b.used < oldest.used {
				oldest, of = b, g
			}
		}
		if idle <= maxIdleBases {
			return over
		}
		x.forget(of, oldest)
		over = append(over, oldest)
	}
}

// close ends a base that has no reference and is not in the map.
func (b *base) close() {
	if b.err != nil {
		return
	}
	b.reader.Close()
	_ = b.file.b.close() // opened for reading
}

// drop makes the next one who asks for g open it anew: its pin leads elsewhere, or
// is gone.
func (x *bases) drop(g container.Generation) {
	x.mu.Lock()
	b := x.m[g]
	idle := b != nil && x.forget(g, b)
	x.mu.Unlock()
	if idle {
		b.close() // off the lock: it may have bases itself
	}
}

// replaced is drop of a base that has another inode now. The old one would take
// space as long as it is a base of one that is idle.
func (x *bases) replaced(g container.Generation) {
	x.drop(g)
	for {
		x.mu.Lock()
		var over []*base
		for g, b := range x.m {
			if b.refs == 0 {
				x.forget(g, b)
				over = append(over, b)
			}
		}
		x.mu.Unlock()
		if len(over) == 0 {
			return
		}
		for _, b := range over {
			b.close() // and then its bases may be idle
		}
	}
}

// moved says that the pin g leads to the file to, a copy byte for byte. When it
// returns, nobody reads what was copied any more.
func (x *bases) moved(g container.Generation, to *backing) {
	x.mu.Lock()
	b := x.m[g]
	if b != nil {
		b.refs++
	}
	x.mu.Unlock()
	if b == nil {
		return
	}
	defer x.release(b)
	<-b.ready
	if b.err != nil {
		return
	}
	fd, err := unix.FcntlInt(uintptr(to.fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		x.drop(g) // whoever reads it already gets an error if the bytes go
		return
	}
	own := newBacking(os.NewFile(uintptr(fd), to.file.Load().Name()), to.sys)
	_ = b.file.swap(own).close() // opened for reading
}

// dropAll closes what is idle, and all else when it is not used any more.
func (x *bases) dropAll() {
	x.mu.Lock()
	all := slices.Collect(maps.Keys(x.m))
	x.mu.Unlock()
	for _, g := range all {
		x.drop(g)
	}
}

// tell logs, once for each, why a base can't be used; the caller holds mu.
func (x *bases) tell(g container.Generation, err error) {
	if x.told[g] || errors.Is(err, unix.EINTR) {
		return
	}
	if x.told == nil {
		x.told = make(map[container.Generation]bool)
	}
	x.told[g] = true
	if errors.Is(err, unix.ENOENT) {
		x.store.missing.Store(true)
		x.store.keeper.wake() // a file with a name may have that content
	}
	x.store.log.Error("a base can't be read, and neither can those parts of files that are coded against it: "+
		"put the container with its content back, under any name", "generation", g, "error", err)
}

// forgive lets the log tell again if the base g can't be read.
func (x *bases) forgive(g container.Generation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.told, g)
}

// readPin opens the base to which the pin g leads.
func (s *Store) readPin(g container.Generation, cache *container.Cache) (*container.Reader, *pinFile, error) {
	f, err := s.openPin(g)
	if err != nil {
		return nil, nil, err
	}
	file := &pinFile{b: newBacking(f, s.root.sys)}
	st, err := file.b.stat()
	var r *container.Reader
	if err == nil {
		r, err = openBase(file, int64(st.Size), g, cache)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return r, file, nil
}

// errOtherContent is of a base that is not what it was.
var errOtherContent = errors.New("its content was changed after others were coded against it")

// openBase opens a container of size bytes that must be sealed, with g as its last
// generation.
func openBase(file io.ReaderAt, size int64, g container.Generation, cache *container.Cache) (*container.Reader, error) {
	r, err := container.Open(file, size, cache)
	if err != nil {
		return nil, err
	}
	log := r.Log()
	if !r.State().Sealed || log.Generation() != g {
		r.Close()
		return nil, errOtherContent
	}
	return r, nil
}

// pinFile reads what a pin leads to.
type pinFile struct {
	mu sync.RWMutex // held for reading by who reads b
	b  *backing
}

var (
	_ io.ReaderAt         = (*pinFile)(nil)
	_ container.Announcer = (*pinFile)(nil)
	_ container.Lender    = (*pinFile)(nil)
)

// ReadAt reads bytes of the backing file.
func (p *pinFile) ReadAt(b []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.b.ReadAt(b, off)
}

// Lend makes a pinFile a container.Lender.
func (p *pinFile) Lend(off, n int64) ([]byte, func()) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.b.Lend(off, n)
}

// Announce makes a pinFile a container.Announcer.
func (p *pinFile) Announce(off, n int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	p.b.Announce(off, n)
}

// swap makes to, which has the same bytes, what is read from now on, and returns
// what was.
func (p *pinFile) swap(to *backing) *backing {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b, to = to, p.b
	return to
}
