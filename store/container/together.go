package container

import (
	"context"
	"runtime"
	"sync"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// togetherFrames is how many delta frames of one request are decoded at once, and
// held until it has gone past them.
const togetherFrames = 8

// together lets a request over several delta frames decode them in parallel: one
// at a time, at some depth, they are slower than what waits for them. A container
// without bases it leaves alone.
type together struct {
	r      *Reader
	until  int64 // what is before needs no decoding
	blocks []*block
}

// reach tells that the request goes on with the bytes from off to end. Errors are
// for the one who reads them to find.
func (t *together) reach(ctx context.Context, off, end int64) {
	if off < t.until {
		return
	}
	t.release()
	t.until = end
	list := t.r.deltasWithin(off, end)
	if len(list) < 2 {
		return
	}
	if len(list) > togetherFrames {
		list = list[:togetherFrames]
		t.until = list[togetherFrames-1].End()
	}
	ctx, done := patience.Context(ctx) // one patience for all of them
	defer done()
	t.blocks = make([]*block, len(list))
	next := make(chan int, len(list))
	for i := range list {
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		workers.Go(func() {
			for i := range next {
				b, err := t.r.deltaBlock(ctx, &list[i].Frame, t.r.generationOf(&list[i].Frame))
				if err == nil {
					t.blocks[i] = b
				}
			}
		})
	}
	workers.Wait()
}

// release lets go of what was decoded.
func (t *together) release() {
	for _, b := range t.blocks {
		if b != nil {
			t.r.cache.release(b)
		}
	}
	t.blocks = nil
}

// deltasWithin returns a copy of the next extents of delta frames from off to end,
// one for each frame, and at most one more than togetherFrames.
func (r *Reader) deltasWithin(off, end int64) Extents {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.log.Dependence.Bases) == 0 {
		return nil
	}
	var list Extents
	for _, e := range r.log.Extents.Within(off, end) {
		if e.Frame.Coding != CodingDelta || len(list) > 0 && list[len(list)-1].Frame.Position == e.Frame.Position {
			continue
		}
		if list = append(list, e); len(list) > togetherFrames {
			break
		}
	}
	return list
}
