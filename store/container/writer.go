package container

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
)

// Storage is what a Writer keeps a container in.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Disk is a Storage that can be told what is going to be written, and that what
// was written may go to the disk. Neither can fail: they only save time.
type Disk interface {
	// Reserve lets there be room at once for n bytes past the end, which does not
	// move; a Truncate to the end gives back what was not used. It reports false
	// where that is not to be had, or not to be tried again.
	Reserve(off, n int64) bool
	// BeginFlush begins to put bytes on the disk, so that a later sync has less to
	// wait for. It may return before they are there.
	BeginFlush(off, n int64)
}

const (
	// flushStep is how many bytes are written before the disk gets them, and the
	// length from which on a container's room is reserved: as much again as there
	// is, but no more than reserveMost.
	flushStep   = 8 << 20
	reserveMost = 64 << 20
)

// Writer adds to a container's log. Chunks given to Append are encoded in
// parallel, by goroutines that the Encoders limit, and enter the log in the
// order of the calls. ReadAt, Append, Drain and the rest may be called from
// several goroutines; the order of concurrent calls is not defined.
//
// The first error that the storage gives is kept: every later Append, Drain,
// SetSize and Seal returns it, and the log ends before the record that failed.
// ReadAt returns it for the bytes that it has cost, and goes on with the others.
type Writer struct {
	*Reader // its mu guards what follows too
	file    Storage
	enc     *Encoders
	held    int // chunks of this Writer, guarded by enc.mu

	idle    sync.Cond // on mu: the queue shrank
	queue   []*Chunk  // not yet in the log, in order
	claimed int       // how many of queue are in batches
	batches []*batch  // in order
	workers int       // goroutines that encode and write
	writing bool      // one of them is in write: the others leave it their batches
	err     error
	lost    struct{ begin, end int64 } // holds all bytes that err kept out of the log
	open    bool                       // a generation has begun and is not sealed
	created bool                       // the header is in the storage

	disk     Disk  // file, if it is one
	flushed  int64 // up to where the disk was told to begin flushing
	flushing bool  // it is being told
	reserved int64 // up to where there is room, -1 if no more may be reserved; write's
}

// Create returns a Writer for an empty storage. Nothing is written before the
// first chunk.
func Create(file Storage, cache *Cache, enc *Encoders) *Writer {
	log := &Log{}
	log.begin(NewGeneration())
	w := newWriter(newReader(file, cache, log, State{}), file, enc)
	w.open = true
	return w
}

// OpenWriter returns a Writer that continues a container of size bytes. What
// stands behind the end of an unsealed log is cut off by the first change.
func OpenWriter(file Storage, size int64, cache *Cache, enc *Encoders) (*Writer, error) {
	r, err := Open(file, size, cache)
	if err != nil {
		return nil, err
	}
	if r.state.Sealed {
		if err := r.loadSpans(size); err != nil {
			return nil, err
		}
	}
	w := newWriter(r, file, enc)
	w.created = true
	w.flushed = r.log.end
	return w, nil
}

func newWriter(r *Reader, file Storage, enc *Encoders) *Writer {
	w := &Writer{Reader: r, file: file, enc: enc}
	w.idle.L = &r.mu
	w.disk, _ = file.(Disk)
	return w
}

// loadSpans reads the seek table of a sealed container, or finds the spans
// itself when the table does not fit.
func (r *Reader) loadSpans(size int64) error {
	var footer [seekFooterSize]byte
	if err := readFull(r.src, footer[:], size-seekFooterSize); err != nil {
		return err
	}
	if n, ok := parseSeekFooter(footer[:]); ok && seekTableSize(n) < size {
		table := make([]byte, seekTableSize(n))
		if err := readFull(r.src, table, size-int64(len(table))); err != nil {
			return err
		}
		if spans, ok := parseSeekTable(table, size-int64(len(table))); ok {
			r.log.spans = append(spans, span{uint32(len(table)), 0})
			return nil
		}
	}
	walk := newWalker(r.src, size, r.log.Generations[0])
	for walk.next() {
		walk.apply()
	}
	if walk.err != nil {
		return walk.err
	}
	if walk.tail != nil || walk.log.end != size {
		return damaged(PartTable, size, "it does not match the file, and neither do the records")
	}
	r.log.spans = walk.log.spans
	return nil
}

// NewChunk returns an empty chunk to fill and give to Append. It waits while
// this Writer, or all together, hold as much as they may; the error is
// unix.EINTR.
func (w *Writer) NewChunk(ctx context.Context, c Chunk) (*Chunk, error) {
	var err error
	if c.data, err = w.enc.take(ctx, w); err != nil {
		return nil, err
	}
	return &c, nil
}

// Discard gives up a chunk that is not going to be appended.
func (w *Writer) Discard(c *Chunk) { w.enc.give(w, c) }

// Append takes a chunk of at least one byte over and returns before it is
// encoded. Its bytes can be read from now on. The error is an earlier one.
func (w *Writer) Append(c *Chunk) error {
	w.mu.Lock()
	err := w.begin()
	if err == nil && w.log.next == math.MaxUint32 {
		err = w.fail(errNumbers)
	}
	if err != nil {
		w.lose(c)
		w.mu.Unlock()
		w.enc.give(w, c)
		return err
	}
	c.frame = Frame{
		Offset: c.Offset, Length: uint32(c.Len()), Number: w.log.next,
		Generation: uint16(len(w.log.Generations) - 1),
	}
	w.log.next++
	w.queue = append(w.queue, c)
	// One more than can encode at once: the one that writes does not.
	start := w.workers <= cap(w.enc.slots)
	if start {
		w.workers++
	}
	w.mu.Unlock()
	if start {
		go w.work()
	}
	return nil
}

// work encodes chunks, and writes them, until there are none.
func (w *Writer) work() {
	for {
		enc := <-w.enc.slots
		b := w.claim()
		if b != nil {
			withLongSlice(func() { w.enc.encode(enc, b) })
		}
		w.enc.slots <- enc
		if b == nil {
			return
		}
		w.finish(b)
	}
}

// claim takes chunks off those that nobody encodes yet: as many as a batch has,
// or this worker's share. Without any it returns nil, and the worker is no more.
func (w *Writer) claim() *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.queue) - w.claimed
	if n == 0 {
		w.workers--
		return nil
	}
	n = min(n, batchChunks, 1+n/cap(w.enc.slots))
	b := &batch{generation: w.log.Generation(), chunks: append([]*Chunk(nil), w.queue[w.claimed:w.claimed+n]...)}
	w.claimed += n
	w.batches = append(w.batches, b)
	return b
}

// finish marks b as encoded. Then it writes the batches whose turn it is, in
// order, unless somebody does.
func (w *Writer) finish(b *batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.encoded = true
	if w.writing {
		return
	}
	w.writing = true
	for len(w.batches) > 0 && w.batches[0].encoded {
		w.write(w.batches[0])
	}
	w.writing = false
}

// write puts the first batch into the storage and then into the log. The caller
// holds mu, which is released meanwhile.
func (w *Writer) write(b *batch) {
	position, err, n := w.log.end, w.err, 0
	if err == nil {
		w.mu.Unlock()
		w.reserve(position, int64(len(b.out.B)))
		n, err = w.file.WriteAt(b.out.B, position)
		w.mu.Lock()
	}
	if err != nil {
		_ = w.fail(err)
	}
	for _, c := range b.chunks {
		c.frame.Position = w.log.end
		if n -= frameRecordSize + int(c.frame.Stored); n < 0 {
			w.lose(c)
			continue
		}
		w.log.addSpan(frameRecordSize, 0)
		w.log.addSpan(int64(c.frame.Stored), int64(c.frame.Length))
		w.log.addFrame(c.frame)
	}
	w.queue = w.queue[:copy(w.queue, w.queue[len(b.chunks):])]
	w.claimed -= len(b.chunks)
	w.batches = w.batches[:copy(w.batches, w.batches[1:])]
	w.enc.giveBatch(w, b)
	w.idle.Broadcast()
	w.beginFlush()
}

// beginFlush lets the disk have what was written since the last time, once that
// is enough. A disk that is slower than the client delays nobody: then there is
// more the next time. The caller holds mu.
func (w *Writer) beginFlush() {
	from, to := w.flushed, w.log.end
	if w.disk == nil || w.flushing || to < from+flushStep {
		return
	}
	w.flushed, w.flushing = to, true
	go func() {
		w.disk.BeginFlush(from, to-from)
		w.mu.Lock()
		w.flushing = false
		w.mu.Unlock()
	}()
}

// reserve makes room for n bytes at position of a container that is large
// already. Only write calls it.
func (w *Writer) reserve(position, n int64) {
	if w.disk == nil || w.reserved < 0 || position < flushStep || position+n <= w.reserved {
		return
	}
	step := max(min(position, reserveMost), n)
	w.reserved = max(w.reserved, position)
	if w.disk.Reserve(w.reserved, step) {
		w.reserved += step
	} else {
		w.reserved = -1
	}
}

// fail keeps the first error; the caller holds mu.
func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// lose notes that c is not going to be in the log; the caller holds mu.
func (w *Writer) lose(c *Chunk) {
	if w.lost.end == 0 {
		w.lost.begin = c.Offset
	}
	w.lost.begin, w.lost.end = min(w.lost.begin, c.Offset), max(w.lost.end, c.End())
}

// begin makes the storage ready for a record: the header of a new container,
// or a new generation of one that exists. The caller holds mu.
func (w *Writer) begin() error {
	switch {
	case w.err != nil:
		return w.err
	case !w.created:
		w.created = true
		return w.put(appendHeader(nil, w.log.Generation()), HeaderSize)
	case w.open:
		return nil
	case len(w.log.Generations) == maxGenerations:
		return w.fail(fmt.Errorf("the container has had %d generations: pack it anew", maxGenerations))
	}
	if err := w.file.Truncate(w.log.end); err != nil {
		return w.fail(err)
	}
	var r [generationRecordSize]byte
	g := NewGeneration()
	putGenerationRecord(r[:], g, w.log.Generation())
	if err := w.put(r[:], generationRecordSize); err != nil {
		return err
	}
	w.log.begin(g)
	w.open = true
	return nil
}

// put writes b, whose first frame has n bytes, at the log's end; the caller
// holds mu, and no chunk is on its way.
func (w *Writer) put(b []byte, n int64) error {
	if _, err := w.file.WriteAt(b, w.log.end); err != nil {
		return w.fail(err)
	}
	w.log.addSpan(n, 0)
	return nil
}

// Drain returns when every chunk given to Append is in the log, or with the
// error that keeps it from getting there.
func (w *Writer) Drain() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drain()
}

func (w *Writer) drain() error {
	for len(w.queue) > 0 {
		w.idle.Wait()
	}
	return w.err
}

// Modified says whether anything was appended since the container was sealed
// or opened. If so, Append does not wait for the storage.
func (w *Writer) Modified() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.open && w.created
}

// SetSize drains and makes size the logical size of the log. Bytes past it are
// gone; bytes that it adds are zeros.
func (w *Writer) SetSize(size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.drain(); err != nil {
		return err
	}
	if w.log.Size == size {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	var r [sizeRecordSize]byte
	putSizeRecord(r[:], w.log.next, w.log.Generation(), size)
	if err := w.put(r[:], sizeRecordSize); err != nil {
		return err
	}
	w.log.next++
	w.log.resize(size)
	return nil
}

// Seal drains and writes index, trailer and seek table. A container that was
// not modified is left as it is. Appending may go on afterwards.
func (w *Writer) Seal(format string, tensors []Tensor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.drain(); err != nil {
		return err
	}
	if !w.open || !w.created {
		return nil
	}
	w.log.Format, w.log.Tensors = format, indexable(tensors)
	tail, index, err := w.log.appendTail(nil)
	if err != nil {
		return w.fail(err)
	}
	if err := w.put(tail, index); err != nil {
		return err
	}
	w.log.addSpan(int64(len(tail))-index, 0)
	if err := w.file.Truncate(w.log.end); err != nil {
		return w.fail(err)
	}
	w.reserved = 0
	w.open = false
	w.state = State{Sealed: true}
	return nil
}

func indexable(tensors []Tensor) []Tensor {
	for i := range tensors {
		if !tensors[i].indexable() {
			return nil // the table is for people; without it nothing is lost
		}
	}
	return tensors
}

// ReadAt fills p with logical bytes as they are now: of chunks on their way, of
// the log, and zeros elsewhere, also past the end. It never returns io.EOF.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) {
	return w.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt, or the error unix.EINTR.
func (w *Writer) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	done := 0
	for done < len(p) {
		n, err := w.readPending(p[done:], off+int64(done))
		if n == 0 && err == nil {
			n, err = w.readLogged(ctx, p[done:], off+int64(done))
		}
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readPending copies from the chunk that holds off, if there is one.
func (w *Writer) readPending(p []byte, off int64) (int, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if off >= w.lost.begin && off < w.lost.end {
		return 0, w.err
	}
	for _, c := range w.queue {
		if off >= c.Offset && off < c.End() {
			return copy(p, c.data.B[off-c.Offset:]), nil
		}
	}
	return 0, nil
}

// readLogged reads up to the next chunk on its way, or lost.
func (w *Writer) readLogged(ctx context.Context, p []byte, off int64) (int, error) {
	w.mu.RLock()
	for _, c := range w.queue {
		if c.Offset > off && c.Offset-off < int64(len(p)) {
			p = p[:c.Offset-off]
		}
	}
	if w.lost.begin > off && w.lost.begin-off < int64(len(p)) {
		p = p[:w.lost.begin-off]
	}
	w.mu.RUnlock()
	return w.readPiece(ctx, p, off, math.MaxInt64)
}

// Close waits for chunks on their way and drops what the cache holds. It
// neither seals nor closes the storage.
func (w *Writer) Close() {
	_ = w.Drain()
	w.Reader.Close()
}
