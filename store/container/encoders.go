package container

import (
	"context"
	"sync"

	"github.com/valyala/bytebufferpool"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// Encoders are what all Writers of a process share: a number of codec.Encoder,
// which bounds the processors that encoding takes, and a bound on the logical
// bytes that wait for them. A Writer whose share is used up makes its own
// client wait; every other Writer may always have one chunk, so none starves.
type Encoders struct {
	slots chan *codec.Encoder

	raw bytebufferpool.Pool              // logical bytes of a chunk
	out [batchChunks]bytebufferpool.Pool // records and zstd frames of so many chunks, less one

	mu        sync.Mutex    // guards what follows
	room      chan struct{} // closed when a chunk is given back; nil: nobody waits
	held      int           // chunks held by all Writers
	max       int
	perWriter int
}

// NewEncoders allows n chunks to be encoded at once. Chunks, each of
// codec.FrameSize logical bytes and their encoded form, wait in at most
// maxBytes for all Writers together, and half of that for one.
func NewEncoders(n int, maxBytes int64) *Encoders {
	n = max(n, 1)
	chunks := max(int(maxBytes/(2*codec.FrameSize)), 2)
	e := &Encoders{slots: make(chan *codec.Encoder, n), max: chunks, perWriter: max(chunks/2, 2)}
	for range n {
		e.slots <- codec.NewEncoder()
	}
	return e
}

// Chunk is a run of logical bytes on its way to becoming one frame.
type Chunk struct {
	Offset int64       // first logical byte
	DType  codec.DType // element type; the first byte begins an element

	data  *bytebufferpool.ByteBuffer
	frame Frame
}

// batchChunks is how many chunks at most are encoded by one goroutine and then
// written together, a MiB: of bf16 about 700 KiB are written, which the kernel
// takes a fifth faster than a frame at a time.
const batchChunks = 1 << 20 / codec.FrameSize

// batch is a run of a Writer's queue.
type batch struct {
	chunks     []*Chunk
	generation Generation
	out        *bytebufferpool.ByteBuffer // records and zstd frames
	encoded    bool                       // out is filled; guarded by the Writer's mu
}

// Bytes are the logical bytes so far.
func (c *Chunk) Bytes() []byte { return c.data.B }

// Len is how many logical bytes the chunk has.
func (c *Chunk) Len() int { return len(c.data.B) }

// End is the logical offset just past the chunk.
func (c *Chunk) End() int64 { return c.Offset + int64(len(c.data.B)) }

// Write appends logical bytes. It never fails.
func (c *Chunk) Write(p []byte) (int, error) { return c.data.Write(p) }

// Truncate drops all but the first n bytes.
func (c *Chunk) Truncate(n int) { c.data.B = c.data.B[:n] }

// take waits for room and returns an empty chunk buffer for w. The error is
// unix.EINTR.
func (e *Encoders) take(ctx context.Context, w *Writer) (*bytebufferpool.ByteBuffer, error) {
	for room := e.reserve(w); room != nil; room = e.reserve(w) {
		if err := patience.Wait(ctx, room); err != nil {
			return nil, err
		}
	}
	b := sized(&e.raw, codec.FrameSize)
	b.B = b.B[:0]
	return b, nil
}

// reserve takes the room of one chunk, or returns what to wait for.
func (e *Encoders) reserve(w *Writer) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.held < e.perWriter && (e.held < e.max || w.held == 0) {
		w.held++
		e.held++
		return nil
	}
	if e.room == nil {
		e.room = make(chan struct{})
	}
	return e.room
}

// give returns a chunk's buffer and its room.
func (e *Encoders) give(w *Writer, c *Chunk) { e.giveAll(w, []*Chunk{c}) }

// giveBatch returns a batch's buffers and its room.
func (e *Encoders) giveBatch(w *Writer, b *batch) {
	e.out[len(b.chunks)-1].Put(b.out)
	b.out = nil
	e.giveAll(w, b.chunks)
}

func (e *Encoders) giveAll(w *Writer, chunks []*Chunk) {
	for _, c := range chunks {
		e.raw.Put(c.data)
		c.data = nil
	}
	e.mu.Lock()
	w.held -= len(chunks)
	e.held -= len(chunks)
	if e.room != nil {
		close(e.room)
		e.room = nil
	}
	e.mu.Unlock()
}

// encode fills b.out with a record and a zstd frame for every chunk.
func (e *Encoders) encode(enc *codec.Encoder, b *batch) {
	most := 0
	for _, c := range b.chunks {
		most += frameRecordSize + codec.MaxFrameSize(c.Len())
	}
	b.out = sized(&e.out[len(b.chunks)-1], most)
	out := b.out.B[:0]
	for _, c := range b.chunks {
		at := len(out)
		out, c.frame.Plan = enc.AppendFrame(out[:at+frameRecordSize], c.data.B, c.DType)
		c.frame.Stored = uint32(len(out) - at - frameRecordSize)
		c.frame.Sum = contentSum(c.data.B, b.generation, c.frame.Number, c.frame.Offset)
		putFrameRecord(out[at:at+frameRecordSize], &c.frame, b.generation)
	}
	b.out.B = out
}
