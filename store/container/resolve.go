package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// Resolver finds the containers that others depend on.
type Resolver interface {
	// Resolve returns a Reader of the container whose last generation is g, and
	// a function that is called when the Reader is used no more. The Reader has
	// the same Cache, and is nobody's who writes. An error says what to do, for
	// people. Resolve is not called again for a generation that is in use, but
	// maybe for others at the same time. It must not read logical bytes of the
	// container, and returns unix.EINTR when ctx ends while the disk hangs.
	Resolve(ctx context.Context, g Generation) (*Reader, func(), error)
}

// SetResolver lets all Readers with this cache find their bases. It is to be
// called before they read.
func (c *Cache) SetResolver(r Resolver) { c.bases.resolver = r }

var errNoResolver = errors.New("nobody knows where it is")

// sharedBases are the bases in use of all Readers of a Cache. There is one Reader
// of each, so that whatever needs it on several ways decodes it once.
type sharedBases struct {
	resolver Resolver

	mu sync.Mutex // guards what follows, and the refs of the entries
	m  map[Generation]*sharedBase
}

// sharedBase is a base that is in use or being looked for.
type sharedBase struct {
	generation Generation
	refs       int
	ready      chan struct{} // closed when the search has ended
	reader     *Reader       // set before ready is closed, as all that follows
	release    func()
	err        error
}

// take returns a base, to be given back. The error is the Resolver's or
// unix.EINTR.
func (s *sharedBases) take(ctx context.Context, g Generation) (*sharedBase, error) {
	patient, release := patience.Context(ctx)
	defer release()
	for {
		b, have := s.enter(g)
		if !have {
			s.find(patient, b)
		}
		select {
		case <-b.ready:
		case <-patient.Done():
			s.giveBack(b)
			return nil, unix.EINTR
		}
		if b.err == nil {
			return b, nil
		}
		s.giveBack(b)
		if !have || !errors.Is(b.err, unix.EINTR) {
			return nil, b.err
		} // else only the one who searched was interrupted
	}
}

// enter returns the entry of a base, with a reference for the caller, who has to
// find it if nobody has yet.
func (s *sharedBases) enter(g Generation) (b *sharedBase, have bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, have = s.m[g]
	if !have {
		b = &sharedBase{generation: g, ready: make(chan struct{})}
		if s.m == nil {
			s.m = make(map[Generation]*sharedBase)
		}
		s.m[g] = b
	}
	b.refs++
	return b, have
}

// find asks the Resolver.
func (s *sharedBases) find(ctx context.Context, b *sharedBase) {
	b.err = errNoResolver
	if s.resolver != nil {
		b.reader, b.release, b.err = s.resolver.Resolve(ctx, b.generation)
	}
	if b.err != nil {
		b.reader, b.release = nil, nil
		s.mu.Lock()
		delete(s.m, b.generation) // the next one looks again
		s.mu.Unlock()
	}
	close(b.ready)
}

// giveBack ends what take or enter began.
func (s *sharedBases) giveBack(b *sharedBase) {
	s.mu.Lock()
	b.refs--
	last := b.refs == 0
	if last && s.m[b.generation] == b {
		delete(s.m, b.generation)
	}
	s.mu.Unlock()
	if last && b.release != nil {
		b.release()
	}
}

// bases are what a Reader depends on, as far as it has needed it.
type bases struct {
	mu     sync.Mutex // guards what follows
	taken  [MaxBases]*sharedBase
	closed bool
}

// Dependence says what the container needs besides itself.
func (r *Reader) Dependence() Dependence {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.Dependence
}

// base returns the Reader of the i-th base, which is the right container: that it
// is whole is for its frames' checksums to say. The error is a BaseError or
// unix.EINTR.
func (r *Reader) base(ctx context.Context, i int) (*Reader, error) {
	r.bases.mu.Lock()
	b := r.bases.taken[i]
	r.bases.mu.Unlock()
	if b != nil {
		return b.reader, nil
	}
	want := r.Dependence().Bases[i]
	b, err := r.cache.bases.take(ctx, want.Generation)
	if err == nil {
		if err = r.keep(i, b, want); err == nil {
			return b.reader, nil
		}
		r.cache.bases.giveBack(b)
	}
	if errors.Is(err, unix.EINTR) {
		return nil, unix.EINTR
	}
	return nil, &BaseError{Generation: want.Generation, Err: err}
}

// keep holds a base until the Reader is closed, if it is the one that is wanted.
func (r *Reader) keep(i int, b *sharedBase, want Base) error {
	if g := b.reader.lastGeneration(); g != want.Generation {
		return fmt.Errorf("what is in its place is of generation %x", g[:])
	}
	if size := b.reader.Size(); size != want.Size {
		return fmt.Errorf("it has %d bytes where %d are due", size, want.Size)
	}
	if b.reader.cache != r.cache {
		return errors.New("it was opened with another cache")
	}
	r.bases.mu.Lock()
	defer r.bases.mu.Unlock()
	switch {
	case r.bases.closed:
		return os.ErrClosed
	case r.bases.taken[i] == nil:
		r.bases.taken[i] = b
	default: // another request was as quick, and has the same
		r.cache.bases.giveBack(b)
	}
	return nil
}

// closeBases gives all bases back, and takes no more.
func (r *Reader) closeBases() {
	r.bases.mu.Lock()
	r.bases.closed = true
	r.bases.mu.Unlock()
	r.dropBases()
}

// dropBases gives all bases back.
func (r *Reader) dropBases() {
	r.bases.mu.Lock()
	taken := r.bases.taken
	r.bases.taken = [MaxBases]*sharedBase{}
	r.bases.mu.Unlock()
	for _, b := range taken {
		if b != nil {
			r.cache.bases.giveBack(b)
		}
	}
}
