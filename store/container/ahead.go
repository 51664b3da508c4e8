package container

import (
	"context"

	"github.com/mithrilfs/mithrilfs/codec"
)

// aheadFrames is how many frames are decoded ahead at a time, a MiB: what lies
// side by side is read at once.
const aheadFrames = 1 << 20 / codec.FrameSize

// decodeAhead has the frames decoded that a sequential reader of [off, end) will
// want next, while it does something with those that it has.
func (r *Reader) decodeAhead(off, end int64) {
	if r.cache.admission.full() {
		return // nobody has a processor to spare
	}
	from, to, who := r.readers.advance(off, end)
	if to = min(to, r.Size()); from >= to {
		return
	}
	select {
	case r.cache.ahead <- struct{}{}:
	default:
		return // as many as can work do
	}
	go func() {
		defer func() { <-r.cache.ahead }()
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
