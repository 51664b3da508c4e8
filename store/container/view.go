package container

import (
	"context"
	"io"
)

// View is a run of logical bytes where they lie: in decoded frames of the cache,
// which stay until Release, and in zeros.
type View struct {
	Slices [][]byte // in logical order; not to be written to
	cache  *Cache
	blocks []*block
	whole  int // so many of blocks, from the first on, are read to their end
}

// View returns n logical bytes from off on, fewer at the end of the file, where
// the error is io.EOF if there is none. A frame that is damaged gives a
// DamageError, one whose base is not available a BaseError, and no bytes. The error unix.EINTR is that of ReadAtContext.
func (r *Reader) View(ctx context.Context, off int64, n int) (*View, error) {
	if off < 0 {
		return nil, errNegativeOffset
	}
	size := r.Size()
	if off >= size {
		return nil, io.EOF
	}
	end := min(off+int64(n), size)
	v := &View{cache: r.cache}
	if len(r.Dependence().Bases) > 0 {
		r.announce(off, end)
		if err := v.addPieces(ctx, r, off, end); err != nil {
			return nil, err
		}
		return v, nil
	}
	r.decodeAhead(off, end)
	extents, frames := r.within(off, end)
	var err error
	if v.blocks, err = r.cache.acquire(ctx, r, frames); err != nil {
		return nil, err
	}
	for i, e := range extents {
		v.addHole(e.Start - off)
		off = max(off, e.Start)
		stop := min(end, e.End())
		if stop == e.Frame.End() {
			v.whole = i + 1
		}
		v.Slices = append(v.Slices, v.blocks[i].buf.B[off-e.Frame.Offset:stop-e.Frame.Offset])
		off = stop
	}
	v.addHole(end - off)
	return v, nil
}

// addPieces is for a container with bases: frames of theirs come before its own.
// The view is released if that fails.
func (v *View) addPieces(ctx context.Context, r *Reader, off, end int64) error {
	together := together{r: r}
	defer together.release()
	for off < end {
		together.reach(ctx, off, end)
		p, b, err := r.piece(ctx, off, end)
		if err != nil {
			v.Release()
			return err
		}
		v.Slices = append(v.Slices, p)
		if b != nil {
			v.blocks = append(v.blocks, b)
		}
		off += int64(len(p))
	}
	return nil
}

// within returns the extents of a range, and their frames.
func (r *Reader) within(off, end int64) (Extents, []fullFrame) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	extents := append(Extents(nil), r.log.Extents.Within(off, end)...)
	frames := make([]fullFrame, len(extents))
	for i, e := range extents {
		frames[i] = fullFrame{e.Frame, r.log.generation(&e.Frame)}
	}
	return extents, frames
}

// addHole appends n zeros, if that is not negative.
func (v *View) addHole(n int64) {
	for ; n > 0; n -= int64(len(zeros)) {
		v.Slices = append(v.Slices, zeros[:min(n, int64(len(zeros)))])
	}
}

// Len is how many bytes there are.
func (v *View) Len() int {
	n := 0
	for _, s := range v.Slices {
		n += len(s)
	}
	return n
}

// Release gives the frames back. The bytes are not to be used afterwards.
func (v *View) Release() {
	for i, b := range v.blocks {
		v.cache.releaseRead(b, i < v.whole)
	}
	v.blocks, v.Slices = nil, nil
}
