package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// Resolver finds the containers that others depend on.
type Resolver interface {
	// Resolve returns a Reader of the container whose last generation is g, and
	// a function that is called when the Reader is used no more. The Reader must
	// be nobody's who writes. An error says what to do, for people. Resolve is
	// called by several goroutines at once; it must not read logical bytes of the
	// container, and returns unix.EINTR when ctx ends while the disk hangs.
	Resolve(ctx context.Context, g Generation) (*Reader, func(), error)
}

// SetResolver lets all Readers with this cache find their bases. It is to be
// called before they read.
func (c *Cache) SetResolver(r Resolver) { c.resolver = r }

var errNoResolver = errors.New("nobody knows where it is")

// bases are the Readers of what a Reader depends on, as far as it has needed
// them. The turn, not a mutex, guards them, so that one who waits for a disk that
// hangs can be interrupted.
type bases struct {
	turn    chan struct{} // holds one token, which its taker gives back
	readers [MaxBases]*Reader
	release [MaxBases]func()
	closed  bool
}

func newBases() bases {
	b := bases{turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b
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
	r.mu.RLock()
	want := r.log.Dependence.Bases[i]
	r.mu.RUnlock()
	patient, release := patience.Context(ctx)
	defer release()
	select {
	case <-r.bases.turn:
	case <-patient.Done():
		return nil, unix.EINTR
	}
	defer func() { r.bases.turn <- struct{}{} }()
	if r.bases.readers[i] != nil {
		return r.bases.readers[i], nil
	}
	b, done, err := r.resolve(ctx, want)
	if errors.Is(err, unix.EINTR) {
		return nil, unix.EINTR
	}
	if err != nil {
		return nil, &BaseError{Generation: want.Generation, Err: err}
	}
	r.bases.readers[i], r.bases.release[i] = b, done
	return b, nil
}

// resolve finds a base and checks that it is what was wanted.
func (r *Reader) resolve(ctx context.Context, want Base) (*Reader, func(), error) {
	if r.bases.closed {
		return nil, nil, os.ErrClosed
	}
	if r.cache.resolver == nil {
		return nil, nil, errNoResolver
	}
	b, release, err := r.cache.resolver.Resolve(ctx, want.Generation)
	if err != nil {
		return nil, nil, err
	}
	b.mu.RLock()
	g, size := b.log.Generation(), b.log.Size
	b.mu.RUnlock()
	switch {
	case g != want.Generation:
		err = fmt.Errorf("what is in its place is of generation %x", g)
	case size != want.Size:
		err = fmt.Errorf("it has %d bytes where %d are due", size, want.Size)
	case b.cache != r.cache:
		err = errors.New("it has another cache")
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return b, release, nil
}

// closeBases gives all bases back, when one who is just looking for one, on a
// disk that may hang, is done.
func (r *Reader) closeBases() {
	select {
	case <-r.bases.turn:
		r.bases.close()
	default:
		go func() {
			<-r.bases.turn
			r.bases.close()
		}()
	}
}

// close is for the one whose turn it is.
func (b *bases) close() {
	b.closed = true
	for i, release := range b.release {
		if release != nil {
			release()
		}
		b.readers[i], b.release[i] = nil, nil
	}
	b.turn <- struct{}{}
}
