package container

import (
	"context"

	"github.com/mithrilfs/mithrilfs/codec"
)

// aheadFrames is how many frames are decoded ahead at a time, a MiB: what lies
// side by side is read at once.
const aheadFrames = 1 << 20 / codec.FrameSize

// aheadShare is the part of the cache that is decoded ahead of one reader.
const aheadShare = 8

func (c *Cache) aheadBytes() int64 { return min(aheadMost, c.max/aheadShare) }

// decodeAhead has the frames decoded that a sequential reader of [off, end) will
// want next, while it does something with those that it has.
func (r *Reader) decodeAhead(off, end int64) {
	slots, most := r.cache.ahead, r.cache.aheadBytes()
	if r.cache.admission.Full() || len(slots) == cap(slots) {
		most = 0 // nobody has a processor to spare
	}
	from, to, who := r.readers.advance(off, end, most)
	if to = min(to, r.Size()); from >= to {
		return
	}
	select {
	case slots <- struct{}{}:
	default:
		return // somebody was faster
	}
	go func() {
		defer func() { <-slots }()
		for from < to {
			from = max(from, r.readers.next(who)) // what is before is being decoded
			_, frames := r.within(from, to)
			if len(frames) == 0 {
				return
			}
			frames = frames[:min(len(frames), aheadFrames)]
			blocks, err := r.cache.acquire(context.Background(), r, frames)
			if err != nil {
				return // the reader will meet it
			}
			for i, b := range blocks {
				r.cache.release(b)
				from = max(from, frames[i].Frame.End())
			}
		}
	}()
}
