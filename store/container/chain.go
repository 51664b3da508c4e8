package container

import (
	"context"
	"errors"
	"slices"

	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// maxDepth is how many delta frames may stand on each other. More are taken for
// bases that depend on each other.
const maxDepth = 64

// chain is what has to be decoded for one delta frame: the frames of its bases,
// those of their bases, and so on, each once. They are found first, then decoded
// in an order in which every frame comes after those that it needs, and held no
// longer than until the last frame that needs them is decoded. So nobody who
// fills a block of the cache waits for another one, and two requests whose chains
// meet can't wait for each other.
type chain struct {
	cache *Cache
	nodes map[cacheKey]*node
	order []*node
}

// node is a frame of a chain.
type node struct {
	r          *Reader
	frame      Frame
	generation Generation
	inputs     []input // what its bases provide, the nearest first; none for a full frame
	uses       int     // how many pieces of inputs wait for it
	open       bool    // its inputs are being looked for
	block      *block  // held by the chain while there are uses; nil before
}

// input is the elements that one base provides to a frame.
type input struct {
	BaseRange
	pieces []piece // in order; what is between them is zeros
}

// piece is a run of bytes of a node's frame.
type piece struct {
	node *node
	at   int64 // where in the input
	from int64 // where in the frame
	n    int64
}

func (n *node) key() cacheKey { return cacheKey{n.r.id, n.frame.Position} }

// deltaBlock returns a decoded delta frame, to be released.
func (r *Reader) deltaBlock(ctx context.Context, f *Frame, g Generation) (*block, error) {
	if b := r.cache.find(cacheKey{r.id, f.Position}); b != nil {
		return b, r.cache.settle(ctx, b)
	}
	ctx, release := patience.Context(ctx)
	defer release()
	c := &chain{cache: r.cache, nodes: make(map[cacheKey]*node)}
	defer c.release()
	root, err := c.prepare(ctx, r, f, g)
	if err != nil {
		return nil, err
	}
	return c.acquire(ctx, root)
}

// checkDelta decodes a delta frame into dst.
func (r *Reader) checkDelta(f *Frame, g Generation, dst []byte) error {
	c := &chain{cache: r.cache, nodes: make(map[cacheKey]*node)}
	defer c.release()
	root, err := c.prepare(context.Background(), r, f, g)
	if err != nil {
		return err
	}
	return root.decode(dst)
}

// settle waits for a block that is held, and releases it if that fails.
func (c *Cache) settle(ctx context.Context, b *block) error {
	err := b.wait(ctx)
	if err != nil {
		c.release(b)
	}
	return err
}

// prepare finds the whole chain of a frame and decodes all but the frame itself.
func (c *chain) prepare(ctx context.Context, r *Reader, f *Frame, g Generation) (*node, error) {
	root := &node{r: r, frame: *f, generation: g}
	if err := c.findInputs(ctx, root, 0); err != nil {
		return nil, err
	}
	for _, n := range c.order {
		if err := c.decode(ctx, n); err != nil {
			if !errors.Is(err, unix.EINTR) {
				err = &BaseError{Generation: n.r.lastGeneration(), Err: err}
			}
			return nil, err
		}
	}
	return root, nil
}

// find returns the node of a frame, and appends it to the order after all that it
// needs.
func (c *chain) find(ctx context.Context, r *Reader, f *Frame, g Generation, depth int) (*node, error) {
	key := cacheKey{r.id, f.Position}
	n := c.nodes[key]
	if n != nil && n.open || depth > maxDepth {
		r.dropBases() // Readers that hold each other would never be closed
		return nil, &BaseError{Generation: r.lastGeneration(), Err: errCircle}
	}
	if n != nil {
		return n, nil
	}
	n = &node{r: r, frame: *f, generation: g, block: c.cache.find(key)}
	c.nodes[key] = n
	if n.block == nil && f.Coding == CodingDelta {
		if err := c.findInputs(ctx, n, depth); err != nil {
			return nil, err
		}
	}
	c.order = append(c.order, n)
	return n, nil
}

var errCircle = errors.New("too many bases depend on each other")

// findInputs finds the nodes of all frames that n, a delta frame, needs.
func (c *chain) findInputs(ctx context.Context, n *node, depth int) error {
	n.open = true
	defer func() { n.open = false }()
	d := n.r.Dependence()
	ranges := d.Ranges(n.frame.Offset, n.frame.End())
	n.inputs = make([]input, n.frame.Bases)
	for i := range n.inputs {
		base, err := n.r.base(ctx, i)
		if err != nil {
			return err
		}
		n.inputs[i].BaseRange = ranges[i]
		if err := c.findPieces(ctx, base, &n.inputs[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// findPieces finds the nodes of the frames that provide an input.
func (c *chain) findPieces(ctx context.Context, base *Reader, in *input, depth int) error {
	end := in.Offset + in.Length
	base.announce(in.Offset, end)
	for _, e := range base.extents(in.Offset, end) {
		g := base.generationOf(&e.Frame)
		n, err := c.find(ctx, base, &e.Frame, g, depth)
		if err != nil {
			return err
		}
		n.uses++
		from, to := max(e.Start, in.Offset), min(e.End(), end)
		in.pieces = append(in.pieces, piece{n, from - in.Offset, from - e.Frame.Offset, to - from})
	}
	return nil
}

// decode gives a node its block, and releases those that nobody needs after it.
func (c *chain) decode(ctx context.Context, n *node) (err error) {
	if n.block == nil {
		n.block, err = c.acquire(ctx, n)
	} else {
		err = n.block.wait(ctx)
	}
	if err != nil {
		return err
	}
	n.eachInput(func(p *piece) {
		if p.node.uses--; p.node.uses == 0 {
			c.cache.release(p.node.block)
			p.node.block = nil
		}
	})
	return nil
}

// acquire is that of the cache, of a node whose inputs are decoded.
func (c *chain) acquire(ctx context.Context, n *node) (*block, error) {
	b, have := c.cache.enter(n.key(), int(n.frame.Length))
	if !have {
		// Whoever fills the block may be left alone with it.
		held := n.holdInputs()
		fill := func(dst []byte) error {
			defer held.release()
			return held.decode(dst)
		}
		if ctx.Done() == nil {
			c.cache.fill(b, fill)
		} else {
			go c.cache.fill(b, fill)
		}
	}
	if err := c.cache.settle(ctx, b); err != nil {
		return nil, err
	}
	return b, nil
}

// release gives back what is still held: all of it after an error.
func (c *chain) release() {
	for _, n := range c.nodes {
		if n.block != nil {
			c.cache.release(n.block)
			n.block = nil
		}
	}
}

// decode fills dst with the frame, from blocks that are held.
func (n *node) decode(dst []byte) error {
	if n.frame.Coding == CodingFull {
		return n.r.cache.decode(n.r.src, &n.frame, n.generation, dst)
	}
	bases := make([]delta.Elements, len(n.inputs))
	for i := range n.inputs {
		b, buf := n.inputs[i].bytes(n.r.cache)
		if buf != nil {
			defer n.r.cache.decoded.Put(buf)
		}
		bases[i] = delta.Elements{Data: b, Type: n.inputs[i].DType}
	}
	return n.r.cache.decodeDelta(n.r.src, &n.frame, n.generation, bases, dst)
}

// holdInputs returns a copy of n that holds the blocks of its inputs until it is
// released.
func (n *node) holdInputs() *node {
	held := *n
	held.inputs = slices.Clone(n.inputs)
	for i := range held.inputs {
		in := &held.inputs[i]
		in.pieces = slices.Clone(in.pieces)
		for k := range in.pieces {
			p := &in.pieces[k]
			p.node = &node{r: p.node.r, block: p.node.block}
			p.node.r.cache.hold(p.node.block)
		}
	}
	return &held
}

// release ends what holdInputs began.
func (n *node) release() {
	n.eachInput(func(p *piece) { p.node.r.cache.release(p.node.block) })
}

func (n *node) eachInput(do func(*piece)) {
	for i := range n.inputs {
		for k := range n.inputs[i].pieces {
			do(&n.inputs[i].pieces[k])
		}
	}
}

// bytes returns the elements: where they lie, if they are in one frame, or put
// together in a buffer, which goes back to where decoded frames come from.
func (in *input) bytes(c *Cache) ([]byte, *bytebufferpool.ByteBuffer) {
	if len(in.pieces) == 1 && in.pieces[0].n == in.Length {
		p := &in.pieces[0]
		return p.node.block.buf.B[p.from : p.from+p.n], nil
	}
	buf := sized(&c.decoded, int(in.Length))
	at := int64(0)
	for i := range in.pieces {
		p := &in.pieces[i]
		clear(buf.B[at:p.at])
		at = p.at + int64(copy(buf.B[p.at:], p.node.block.buf.B[p.from:p.from+p.n]))
	}
	clear(buf.B[at:])
	return buf.B, buf
}

// lastGeneration names the content of the container.
func (r *Reader) lastGeneration() Generation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.Generation()
}

func (r *Reader) generationOf(f *Frame) Generation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.generation(f)
}

// extents returns a copy of the extents that have bytes from begin to end.
func (r *Reader) extents(begin, end int64) Extents {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.log.Extents.Within(begin, end))
}
