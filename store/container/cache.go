package container

import (
	"container/list"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/valyala/bytebufferpool"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// Cache keeps decoded frames of any number of containers, least recently used
// ones first to go. It is bounded in bytes, charging what buffers really
// occupy; frames that are being read stay until they are released, whatever
// the bound. However many readers ask for a frame at once, it is decoded once.
// All methods are safe for concurrent use.
type Cache struct {
	max    int64
	lastID atomic.Uint64

	// admission keeps requests waiting that would decode more frames at once than
	// the processors can: they would only take memory.
	admission patience.Places

	mu      sync.Mutex // guards what follows
	used    int64
	entries map[cacheKey]*block
	order   *list.List // of *block, most recently used first; entries only
	stats   CacheStats

	decoded  bytebufferpool.Pool // logical bytes of one frame
	stored   bytebufferpool.Pool // zstd bytes of one frame
	decoders sync.Pool           // *codec.Decoder
	ahead    chan struct{}       // bounds how many goroutines decode what nobody has asked for

	bases         sharedBases
	deltaDecoders sync.Pool     // *delta.Decoder
	deltaSlots    chan struct{} // bounds how many of these are at work, and so their memory
}

// CacheStats counts what a Cache did.
type CacheStats struct {
	Hits    uint64 // reads that found their frame, or found it being decoded
	Decodes uint64 // frames decoded
	Used    int64  // bytes held now
}

// NewCache returns a cache of at most max bytes.
func NewCache(max int64) *Cache {
	return &Cache{
		max:      max,
		entries:  make(map[cacheKey]*block),
		order:    list.New(),
		decoders: sync.Pool{New: func() any { return codec.NewDecoder() }},

		// Twice as many as there are processors for Go: there is something to decode
		// while others wait for the disk.
		admission: patience.NewPlaces(2 * runtime.GOMAXPROCS(0)),
		ahead:     make(chan struct{}, runtime.GOMAXPROCS(0)),

		deltaDecoders: sync.Pool{New: func() any { return delta.NewDecoder() }},
		deltaSlots:    make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
}

// Stats returns the counters.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Used = c.used
	return s
}

type cacheKey struct {
	container uint64 // of the Reader
	position  int64  // of the frame's record
}

// block is one decoded frame. refs counts its readers; a block that left the
// cache gives its buffer back when the last one is done.
type block struct {
	key     cacheKey
	buf     *bytebufferpool.ByteBuffer
	element *list.Element // nil: not in the cache
	done    bool          // read to its end: who reads in order needs it no more
	refs    int
	ready   chan struct{} // closed when decoding ended
	err     error         // set before ready is closed
}

// acquire returns decoded frames of r, filled where no one has them. Pass each to
// release when its bytes have been used. A reader that gives up, with unix.EINTR,
// leaves what fills them at work.
func (c *Cache) acquire(ctx context.Context, r *Reader, wanted []fullFrame) ([]*block, error) {
	leave := func() {}
	if !c.has(r.id, wanted) && c.admission.Enter() {
		leave = c.admission.Leave
	}
	blocks := make([]*block, len(wanted))
	missing := make([]missingFrame, 0, len(wanted))
	for i, f := range wanted {
		var have bool
		if blocks[i], have = c.enter(cacheKey{r.id, f.Position}, int(f.Length)); !have {
			missing = append(missing, missingFrame{f, blocks[i]})
		}
	}
	fill := func() {
		defer leave()
		c.fillFrames(r.src, missing)
	}
	if len(missing) == 0 || ctx.Done() == nil {
		fill()
	} else {
		go fill()
	}
	var err error
	for _, b := range blocks {
		if err == nil {
			err = b.wait(ctx)
		}
	}
	if err == nil {
		return blocks, nil
	}
	for _, b := range blocks {
		c.release(b)
	}
	return nil, err
}

// enter returns the block of a frame with a reference for the caller, and one
// more for fill if no one has it.
func (c *Cache) enter(key cacheKey, length int) (b *block, have bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.entries[key]; b != nil {
		c.hit(b)
		return b, true
	}
	b = &block{key: key, buf: c.buffer(length), refs: 2, ready: make(chan struct{})}
	b.element = c.order.PushFront(b)
	c.entries[key] = b
	c.used += int64(cap(b.buf.B))
	c.stats.Decodes++
	c.evict()
	return b, false
}

// has says whether all of some frames are in the cache, filled or not: they take
// no memory, and nobody's processor.
func (c *Cache) has(container uint64, wanted []fullFrame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range wanted {
		if c.entries[cacheKey{container, wanted[i].Position}] == nil {
			return false
		}
	}
	return true
}

// find returns the block of a frame, with a reference for the caller, if it is in
// the cache. It need not be filled yet.
func (c *Cache) find(key cacheKey) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.entries[key]
	if b != nil {
		c.hit(b)
	}
	return b
}

// hit takes a reference to a block of the cache; the caller holds mu.
func (c *Cache) hit(b *block) {
	b.refs++
	b.done = false
	c.order.MoveToFront(b.element)
	c.stats.Hits++
}

// buffer returns a buffer for a block: that of the last one in order, if it was
// read to its end, because that is still in the processor's cache, and new memory
// is not; the caller holds mu.
func (c *Cache) buffer(length int) *bytebufferpool.ByteBuffer {
	if e := c.order.Back(); e != nil {
		if b := e.Value.(*block); b.done && b.refs == 0 && cap(b.buf.B) >= length && cap(b.buf.B) <= 2*length {
			c.remove(b)
			b.buf.B = b.buf.B[:length]
			return b.buf
		}
	}
	return sized(&c.decoded, length)
}

// hold takes another reference to a block that is held.
func (c *Cache) hold(b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.refs++
}

// fill decodes a frame into its block, and tells the block's readers that it has
// its bytes, or why not. One without leaves the cache.
func (c *Cache) fill(b *block, fill func([]byte) error) {
	if b.err = guarded(b.buf.B, fill); b.err != nil {
		c.mu.Lock()
		c.remove(b)
		c.mu.Unlock()
	}
	close(b.ready)
	c.release(b)
}

// guarded makes a panic an error: the readers of a block would wait for ever, and
// the process end where no request would see it.
func guarded(dst []byte, fill func([]byte) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while a frame was decoded: %v\n%s", p, debug.Stack())
		}
	}()
	return fill(dst)
}

// wait returns when the block is filled, with the error of that.
func (b *block) wait(ctx context.Context) error {
	if err := patience.Wait(ctx, b.ready); err != nil {
		return err
	}
	return b.err
}

func (c *Cache) release(b *block) { c.releaseRead(b, false) }

// releaseRead is release of a block that was read to its end, or not.
func (c *Cache) releaseRead(b *block, done bool) {
	c.mu.Lock()
	b.refs--
	free := b.refs == 0 && b.element == nil
	if done && b.refs == 0 && b.element != nil {
		b.done = true
		c.order.MoveToBack(b.element)
	}
	c.mu.Unlock()
	if free {
		c.decoded.Put(b.buf)
	}
}

// evict makes room; the caller holds mu.
func (c *Cache) evict() {
	for e := c.order.Back(); e != nil && c.used > c.max; {
		b := e.Value.(*block)
		e = e.Prev()
		if b.refs == 0 {
			c.remove(b)
			c.decoded.Put(b.buf)
		}
	}
}

// remove takes b out of the cache; the caller holds mu.
func (c *Cache) remove(b *block) {
	if b.element == nil {
		return
	}
	c.order.Remove(b.element)
	b.element = nil
	delete(c.entries, b.key)
	c.used -= int64(cap(b.buf.B))
}

// forget drops every frame of a container.
func (c *Cache) forget(container uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, b := range c.entries {
		if key.container == container {
			c.remove(b)
			if b.refs == 0 {
				c.decoded.Put(b.buf)
			}
		}
	}
}

// sized takes a buffer of n bytes from a pool.
func sized(p *bytebufferpool.Pool, n int) *bytebufferpool.ByteBuffer {
	b := p.Get()
	if cap(b.B) < n {
		b.B = make([]byte, n)
	}
	b.B = b.B[:n]
	return b
}
