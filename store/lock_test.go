package store

import (
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

func TestRWLock(t *testing.T) {
	l := newRWLock()
	l.RLock()
	l.RLock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.LockContext(ctx); !errors.Is(err, unix.EINTR) {
		t.Fatalf("%v", err)
	}
	must(t, l.RLockContext(ctx)) // it need not wait, so the signal is not seen
	l.RUnlock()
	l.RUnlock()
	l.RUnlock()
	// A request whose client has been answered takes no lock.
	if _, err := patience.Do(ctx, func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, l.LockContext(ctx)
	}, func(_ int, err error) {
		if !errors.Is(err, unix.EINTR) {
			t.Errorf("%v", err)
		}
	}); !errors.Is(err, unix.EINTR) {
		t.Fatalf("%v", err)
	}
	n := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				l.Lock()
				n++
				l.Unlock()
			}
		})
	}
	all.Wait()
	l.RLock()
	if n != 8000 {
		t.Errorf("%d", n)
	}
}
