package container

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// stuck is a storage whose reads hang until it is told to go on.
type stuck struct {
	io.ReaderAt
	goOn chan struct{}
}

func (s *stuck) ReadAt(p []byte, off int64) (int, error) {
	<-s.goOn
	return s.ReaderAt.ReadAt(p, off)
}

// TestHangingDiskKeepsItsOwn: when all places are taken by requests to a disk that
// hangs, others are served, what is in the cache at once; and nothing stays held
// when it goes on.
func TestHangingDiskKeepsItsOwn(t *testing.T) {
	t.Parallel() // it waits
	cache := NewCache(64 << 20)
	if n := 2 * runtime.GOMAXPROCS(0); cap(cache.admission) != n {
		t.Errorf("%d places, want %d", cap(cache.admission), n)
	}
	frames := 3 * cap(cache.admission)
	b, data := repeated(t, frames)
	hangs := openIn(t, cache, b)
	s := &stuck{hangs.src, make(chan struct{})}
	hangs.src = s
	var readers sync.WaitGroup
	for i := range cap(cache.admission) {
		for _, ctx := range []context.Context{context.Background(), t.Context(), t.Context()} {
			readers.Go(func() { // several of a frame, and the same
				v, err := hangs.View(ctx, int64(i*codec.FrameSize), 1000)
				if err != nil || !bytes.Equal(v.Slices[0], data[i*codec.FrameSize:i*codec.FrameSize+1000]) {
					t.Errorf("other bytes, %v", err)
					return
				}
				v.Release()
			})
		}
	}
	for deadline := time.Now().Add(10 * time.Second); !cache.admission.Full(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d places are taken", len(cache.admission))
		}
	}
	b2, data2 := repeated(t, 2)
	r := openIn(t, cache, b2)
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		got := make(chan error, 1)
		go func() {
			v, err := r.View(ctx, 0, 1000)
			if err == nil && !bytes.Equal(v.Slices[0], data2[:1000]) {
				t.Error("other bytes")
			}
			if err == nil {
				v.Release()
			}
			got <- err
		}()
		select {
		case err := <-got:
			must(t, err)
		case <-time.After(50 * patience.Moment):
			t.Fatal("it waits for another's disk")
		}
	}
	if !cache.admission.Full() {
		t.Error("somebody has given a place back")
	}
	begin := time.Now()
	for range 50 {
		viewed(t, r, data2, 100, 1000)
	}
	if d := time.Since(begin); d > 10*patience.Moment {
		t.Errorf("what is in the cache is read 50 times in %v", d)
	}
	close(s.goOn)
	readers.Wait()
	idle(t, cache)
	checkContents(t, hangs, data)
	hangs.Close()
	r.Close()
	if used := cache.Stats().Used; used != 0 {
		t.Errorf("%d bytes held", used)
	}
}
