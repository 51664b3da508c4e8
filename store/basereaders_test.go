package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// refusing is a system that does not open some names.
type refusing struct {
	kernel
	refuse func(name string) error
}

func (x *refusing) openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	if err := x.refuse(name); err != nil {
		return -1, err
	}
	return x.kernel.openat2(dirfd, name, how)
}

// TestInterruptedOpeningOfBases: many bases on a disk that hangs, and clients who
// do not wait for them.
func TestInterruptedOpeningOfBases(t *testing.T) {
	hang := make(chan struct{})
	var reached sync.WaitGroup
	const many = maxIdleBases + 8
	reached.Add(many)
	x := &refusing{refuse: func(name string) error {
		if strings.HasPrefix(name, basesDir+"/") {
			reached.Done()
			<-hang
		}
		return nil
	}}
	s, err := Open(t.TempDir(), Options{sys: x, still: true})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if _, _, err := s.bases.Resolve(ctx, container.Generation{byte(i)}); !errors.Is(err, unix.EINTR) {
				t.Errorf("base %d: %v", i, err)
			}
		})
	}
	reached.Wait()
	cancel()
	all.Wait()
	close(hang)
	eventually(t, func() bool {
		s.bases.mu.Lock()
		defer s.bases.mu.Unlock()
		return len(s.bases.m) == 0
	})
	must(t, s.Close())
}
