package store

import (
	"context"
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// saving is a container that is being written. Bytes written in sequence are
// cut into chunks along the layout's regions; bytes written elsewhere become
// frames of their own, which win over what was there.
type saving struct {
	w      *container.Writer
	layout layout.Layout
	length int64 // logical size, the declared tail included
	next   int64 // where the sequence goes on

	// beforeIndex makes an edit of a sealed file durable before the index says
	// that it is there: else a power cut could leave an index without its frames,
	// and the older ones lost. A new file has something to lose once it was sealed,
	// or an fsync has promised a part of it. nil: clients see to all that themselves.
	beforeIndex func() error
	sealed      bool // there has been an index

	dead       int64 // roughly: bytes overwritten since the file was opened
	misaligned int64 // bytes coded without their element type, for want of knowing it
	cuts       int64 // frames that ended early because something was flushed, or written elsewhere

	chunk *container.Chunk // what the sequence has of its last frame, or nil
	limit int64            // where chunk ends at the latest
}

func newSaving(w *container.Writer, size int64) *saving {
	return &saving{w: w, length: size, next: size}
}

// Arrived and Size make a saving a layout.Source of itself.
func (s *saving) Arrived() int64 { return s.next }

// Size is the declared size while it is ahead of the data.
func (s *saving) Size() int64 {
	if s.length > s.next {
		return s.length
	}
	return -1
}

func (s *saving) size() int64               { return s.length }
func (s *saving) reader() *container.Reader { return s.w.Reader }

func (s *saving) ReadAt(p []byte, off int64) (int, error) {
	return s.ReadAtContext(context.Background(), p, off)
}

func (s *saving) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if c := s.chunk; c != nil && at >= c.Offset && at < c.End() {
			done += copy(p[done:], c.Bytes()[at-c.Offset:])
			continue
		}
		q := p[done:]
		if c := s.chunk; c != nil && at < c.Offset && c.Offset-at < int64(len(q)) {
			q = q[:c.Offset-at]
		}
		n, err := s.w.ReadAtContext(ctx, q, at)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *saving) WriteAt(p []byte, off int64) (int, error) {
	return s.WriteAtContext(context.Background(), p, off)
}

// WriteAtContext is WriteAt, or the error unix.EINTR after the first bytes of p.
func (s *saving) WriteAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < s.next {
		return s.overwrite(ctx, p, off)
	}
	if off > s.next { // a hole, or the first of writes out of order
		if err := s.submit(); err != nil {
			return 0, err
		}
		s.next = off
	}
	done := 0
	for done < len(p) {
		n, err := s.extend(ctx, p[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// extend adds to the current chunk as much of p as belongs to it.
func (s *saving) extend(ctx context.Context, p []byte) (int, error) {
	if s.chunk == nil {
		if err := s.start(ctx, s.region(s.next)); err != nil {
			return 0, err
		}
	}
	n := int(min(int64(len(p)), s.limit-s.next))
	_, _ = s.chunk.Write(p[:n]) // never fails
	s.next += int64(n)
	s.length = max(s.length, s.next)
	if s.next < s.limit || s.join() {
		return n, nil
	}
	return n, s.submit()
}

// start begins a chunk at s.next, in region r. Frames of a region begin at
// multiples of codec.FrameSize from the region's first byte.
func (s *saving) start(ctx context.Context, r layout.Region) (err error) {
	into := s.next - r.Begin
	dtype := r.DType
	if into%int64(dtype.Size()) != 0 {
		dtype = codec.Bytes // a flush, or a hole, cut an element
		s.misaligned += codec.FrameSize
	}
	s.limit = min(r.End, r.Begin+into-into%codec.FrameSize+codec.FrameSize)
	s.chunk, err = s.w.NewChunk(ctx, container.Chunk{Offset: s.next, DType: dtype})
	return err
}

// join lets the chunk go on with the next region where that is small enough to
// share the frame and of the same type.
func (s *saving) join() bool {
	c := s.chunk
	r := s.region(s.next)
	if r.Begin != s.next || r.End == math.MaxInt64 || r.DType != c.DType ||
		c.Len()%r.DType.Size() != 0 || int64(c.Len())+r.End-r.Begin > codec.FrameSize {
		return false
	}
	s.limit = r.End
	return true
}

// region asks the layout; what it can't tell yet is bytes.
func (s *saving) region(off int64) layout.Region {
	r, err := s.layout.Region(off)
	if err != nil {
		s.misaligned += codec.FrameSize
		return layout.Region{Begin: off, End: off + codec.FrameSize, DType: codec.Bytes}
	}
	return r
}

// submit hands the current chunk over, whatever its length.
func (s *saving) submit() error {
	c := s.chunk
	if c == nil {
		return nil
	}
	s.chunk = nil
	if c.Len() == 0 {
		s.w.Discard(c)
		return nil
	}
	return s.w.Append(c)
}

// overwrite puts p, which begins before the sequence's end, into frames of its
// own.
func (s *saving) overwrite(ctx context.Context, p []byte, off int64) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	next := s.next
	done := 0
	for done < len(p) {
		s.next = off + int64(done)
		if err := s.start(ctx, s.region(s.next)); err != nil {
			s.next = next
			return 0, err
		}
		n := int(min(int64(len(p)-done), s.limit-s.next))
		_, _ = s.chunk.Write(p[done : done+n])
		done += n
		if err := s.submit(); err != nil {
			s.next = next
			return 0, err
		}
	}
	end := off + int64(done)
	s.dead += int64(done)
	s.next = max(next, end)
	s.length = max(s.length, end)
	return done, s.w.Drain()
}

func (s *saving) Truncate(size int64) error {
	if size < s.next {
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.w.SetSize(size); err != nil {
			return err
		}
		s.next = size
	}
	s.length = size
	return nil
}

func (s *saving) flush() error {
	if s.chunk != nil && s.chunk.Len() > 0 {
		s.cuts++
	}
	if err := s.submit(); err != nil {
		return err
	}
	return s.w.Drain()
}

func (s *saving) settle(seal bool) error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.w.SetSize(s.length); err != nil {
		return err
	}
	if !seal || !s.w.Modified() {
		return nil
	}
	if s.beforeIndex != nil {
		if err := s.beforeIndex(); err != nil {
			return err
		}
	}
	tensors := s.layout.Tensors()
	table := make([]container.Tensor, len(tensors))
	for i, t := range tensors {
		table[i] = container.Tensor(t)
	}
	s.sealed = true
	return s.w.Seal(s.layout.Format(), table)
}

func (s *saving) close() {
	if s.chunk != nil {
		s.w.Discard(s.chunk)
		s.chunk = nil
	}
	s.w.Close()
}

// recorded is the layout of a container that was written before.
func (s *saving) recorded() layout.Layout {
	log := s.w.Log()
	if log.Format == layout.FormatNumbers {
		return layout.Numbers(s)
	}
	tensors := make([]layout.Tensor, len(log.Tensors))
	for i, t := range log.Tensors {
		tensors[i] = layout.Tensor(t)
	}
	return layout.Known(log.Format, tensors)
}
