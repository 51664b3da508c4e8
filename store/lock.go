package store

import (
	"context"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// rwLock is a sync.RWMutex for which a request can stop to wait. Who comes first
// gets it first.
type rwLock struct{ *semaphore.Weighted }

const (
	oneReader  = 1
	allReaders = 1 << 40
)

func newRWLock() rwLock { return rwLock{semaphore.NewWeighted(allReaders)} }

// LockContext is Lock, or the error unix.EINTR.
func (l rwLock) LockContext(ctx context.Context) error { return l.acquire(ctx, allReaders) }

// RLockContext is RLock, or the error unix.EINTR.
func (l rwLock) RLockContext(ctx context.Context) error { return l.acquire(ctx, oneReader) }

func (l rwLock) acquire(ctx context.Context, n int64) error {
	if !l.TryAcquire(n) {
		patient, release := patience.Context(ctx)
		defer release()
		if l.Acquire(patient, n) != nil {
			return unix.EINTR
		}
	}
	if patience.Over(ctx) {
		l.Release(n)
		return unix.EINTR
	}
	return nil
}

// Lock and the rest are a sync.RWMutex's.
func (l rwLock) Lock()    { _ = l.Acquire(context.Background(), allReaders) } // never fails
func (l rwLock) Unlock()  { l.Release(allReaders) }
func (l rwLock) RLock()   { _ = l.Acquire(context.Background(), oneReader) }
func (l rwLock) RUnlock() { l.Release(oneReader) }
