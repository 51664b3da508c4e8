package container

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/valyala/bytebufferpool"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
)

// DeltaWriter writes a whole container from its first byte to its last: one that
// depends on bases, or, without bases, one that stands alone. It is for storing a
// file in another form: the container has one generation, that of the content, and
// nobody reads it before it is sealed.
//
// Pieces given to Append are encoded by Workers goroutines and enter the log in
// the order of the calls. Append and Seal must not be called at the same time.
// The first error is kept, and every later call returns it.
type DeltaWriter struct {
	// Workers is how many pieces are encoded at once; 0 is one for each processor.
	// To be set before the first Append, as Run is.
	Workers int
	// Run, if it is not nil, is given what a worker does, in a goroutine of its
	// own, and runs it: at a low priority, perhaps.
	Run func(work func())

	file    Storage
	log     Log
	queue   chan *job // to the workers; nil: not begun, or finished
	order   chan *job // to writeAll; what it holds bounds what is encoded ahead
	running sync.WaitGroup
	out     bytebufferpool.Pool

	mu  sync.Mutex // guards err
	err error
}

// Piece is logical bytes that become one frame.
type Piece struct {
	Offset int64
	DType  codec.DType
	Row    int    // elements in a row of the tensor, its last dimension; 0: not known
	Data   []byte // whole elements
	// Bases is what the bases have there, the nearest first: their bytes from
	// Dependence.Ranges. There may be fewer than ranges; without any the frame
	// will be a full one.
	Bases []delta.Elements
	// Done, if it is not nil, is called once, by any goroutine, when Data and
	// Bases are not needed any more. Until then they must not change.
	Done func()
}

// job is a piece on its way.
type job struct {
	piece Piece
	frame Frame
	out   *bytebufferpool.ByteBuffer // room for the record, and the zstd frame
	ready chan struct{}              // closed when out is filled
}

var errClosed = errors.New("the container has been sealed or given up")

// CreateDelta returns a DeltaWriter for an empty storage, of a container with the
// content that g names and with what it depends on. A d that no container may have
// is the error of the first call.
func CreateDelta(file Storage, g Generation, d Dependence) *DeltaWriter {
	w := &DeltaWriter{file: file}
	w.log.begin(g)
	w.log.Dependence = d
	if !d.valid() {
		w.err = errors.New("these bases and segments can't be stored")
	}
	return w
}

// Append takes a piece of at least one byte, behind all before it, and returns
// before it is encoded. It waits while twice as many pieces as there are workers
// are on their way. A delta frame is made if it is smaller than a full one. The
// error may be that of an earlier piece; Done is called whatever it is.
func (w *DeltaWriter) Append(p Piece) error {
	err := w.begin()
	if err == nil {
		err = w.check(&p)
	}
	if err != nil {
		p.done()
		return w.fail(err)
	}
	j := &job{piece: p, ready: make(chan struct{})}
	j.frame = Frame{Offset: p.Offset, Length: uint32(len(p.Data)), Number: w.log.next}
	w.log.next++
	w.log.Size = j.frame.End()
	w.order <- j
	w.queue <- j
	return nil
}

func (p *Piece) done() {
	if p.Done != nil {
		p.Done()
	}
}

// check says what is wrong with a piece.
func (w *DeltaWriter) check(p *Piece) error {
	end := p.Offset + int64(len(p.Data))
	switch {
	case len(p.Data) == 0 || len(p.Data) > MaxFrameLength || p.Offset < w.log.Size || end < p.Offset:
		return fmt.Errorf("a piece of %d bytes at %d does not follow %d", len(p.Data), p.Offset, w.log.Size)
	case w.log.next == math.MaxUint32:
		return errNumbers
	}
	ranges := w.log.Dependence.Ranges(p.Offset, end)
	if len(p.Bases) > len(ranges) {
		return fmt.Errorf("%d bases for the piece at %d, which has %d", len(p.Bases), p.Offset, len(ranges))
	}
	for i, b := range p.Bases {
		s := w.log.Dependence.segment(i, p.Offset, end)
		if b.Type != ranges[i].DType || int64(len(b.Data)) != ranges[i].Length || s.DType != p.DType {
			return fmt.Errorf("base %d of the piece at %d has %d bytes of %v, not %d of %v",
				i, p.Offset, len(b.Data), b.Type, ranges[i].Length, ranges[i].DType)
		}
	}
	return nil
}

// begin writes header and bases and starts the workers, once.
func (w *DeltaWriter) begin() error {
	if err := w.failed(); err != nil || w.queue != nil {
		return err
	}
	b := appendHeader(nil, w.log.Generation())
	w.log.addSpan(int64(len(b)), 0)
	if len(w.log.Dependence.Bases) > 0 {
		b = appendBasesRecord(b, &w.log.Dependence, w.log.next, w.log.Generation())
		w.log.next++
		w.log.addSpan(int64(len(b))-w.log.end, 0)
	}
	if _, err := w.file.WriteAt(b, 0); err != nil {
		return err
	}
	workers := w.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	w.queue, w.order = make(chan *job, 2*workers), make(chan *job, 2*workers)
	run := w.Run
	if run == nil {
		run = func(work func()) { work() }
	}
	for range workers {
		w.running.Go(func() { run(w.encodeAll) })
	}
	w.running.Go(w.writeAll)
	return nil
}

// encodeAll is what a worker does.
func (w *DeltaWriter) encodeAll() {
	full, differences := codec.NewEncoder(), delta.NewEncoder()
	decoder := delta.NewDecoder()
	for j := range w.queue {
		if w.failed() == nil {
			_ = w.fail(w.encode(j, full, differences, decoder))
		}
		j.piece.done()
		close(j.ready)
	}
}

// encode makes the smaller of the two frames.
func (w *DeltaWriter) encode(j *job, full *codec.Encoder, differences *delta.Encoder, inspect *delta.Decoder) error {
	p, f := &j.piece, &j.frame
	f.Sum = contentSum(p.Data, w.log.Generation(), f.Number, f.Offset)
	j.out = sized(&w.out, frameRecordSize+codec.MaxFrameSize(len(p.Data)))
	j.out.B, f.Plan = full.AppendFrame(j.out.B[:frameRecordSize], p.Data, p.DType)
	limit := len(j.out.B) - frameRecordSize
	if len(p.Bases) > 0 {
		src := delta.Elements{Data: p.Data, Type: p.DType}
		buf := w.out.Get()
		b, ok := differences.AppendFrame(append(buf.B[:0], j.out.B[:frameRecordSize]...), src, p.Row, p.Bases, limit)
		buf.B = b
		if ok {
			j.out, buf = buf, j.out
			info, err := inspect.Inspect(b[frameRecordSize:])
			if err != nil {
				return err
			}
			f.Plan, f.Coding, f.Bases = 0, CodingDelta, uint8(len(info.Bases))
		}
		w.out.Put(buf)
	}
	f.Stored = uint32(len(j.out.B) - frameRecordSize)
	putFrameRecord(j.out.B[:frameRecordSize], f, w.log.Generation())
	return nil
}

// writeAll puts what is encoded into the storage and the log, in order.
func (w *DeltaWriter) writeAll() {
	for j := range w.order {
		<-j.ready
		if w.failed() != nil {
			continue
		}
		j.frame.Position = w.log.end
		if _, err := w.file.WriteAt(j.out.B, w.log.end); err != nil {
			_ = w.fail(err)
			continue
		}
		w.log.addSpan(frameRecordSize, 0)
		w.log.addSpan(int64(j.frame.Stored), zstdContentSize(j.out.B[frameRecordSize:]))
		w.log.Extents.Insert(j.frame)
		w.out.Put(j.out)
	}
}

// Seal waits for all pieces and writes the logical size, the index and the seek
// table. Format and tensors are as for Writer.Seal. It closes the DeltaWriter.
func (w *DeltaWriter) Seal(format string, tensors []Tensor, size int64) error {
	err := w.begin()
	if err == nil && size < w.log.Size {
		err = fmt.Errorf("a size of %d bytes, after pieces up to %d", size, w.log.Size)
	}
	w.finish()
	if err = w.fail(err); err != nil {
		return err
	}
	err = w.seal(format, tensors, size)
	_ = w.fail(errClosed)
	return err
}

// Close ends the workers of a DeltaWriter that is not going to be sealed. It does
// not close the storage.
func (w *DeltaWriter) Close() {
	w.finish()
	_ = w.fail(errClosed)
}

// finish waits for the pieces on their way, and ends the workers.
func (w *DeltaWriter) finish() {
	if w.queue == nil {
		return
	}
	close(w.queue)
	close(w.order)
	w.running.Wait()
	w.queue, w.order = nil, nil
}

func (w *DeltaWriter) seal(format string, tensors []Tensor, size int64) error {
	if size > w.log.Size {
		if err := w.putSize(size); err != nil {
			return err
		}
	}
	w.log.Format, w.log.Tensors = format, indexable(tensors)
	tail, index, err := w.log.appendTail(nil)
	if err != nil {
		return err
	}
	if _, err := w.file.WriteAt(tail, w.log.end); err != nil {
		return err
	}
	w.log.addSpan(index, 0)
	w.log.addSpan(int64(len(tail))-index, 0)
	return w.file.Truncate(w.log.end)
}

func (w *DeltaWriter) putSize(size int64) error {
	if w.log.next == math.MaxUint32 {
		return errNumbers
	}
	var r [sizeRecordSize]byte
	putSizeRecord(r[:], w.log.next, w.log.Generation(), size)
	if _, err := w.file.WriteAt(r[:], w.log.end); err != nil {
		return err
	}
	w.log.next++
	w.log.addSpan(sizeRecordSize, 0)
	w.log.resize(size)
	return nil
}

// fail keeps the first error.
func (w *DeltaWriter) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return w.err
}

func (w *DeltaWriter) failed() error { return w.fail(nil) }
