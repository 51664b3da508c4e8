package container

import (
	"context"
	"io"

	"github.com/mithrilfs/mithrilfs/codec"
)

// View is a run of logical bytes where they lie: in decoded frames of the cache,
// which stay until Release, and in zeros.
type View struct {
	Slices [][]byte // in logical order; not to be written to
	cache  *Cache
	blocks []*block
}

// zeros is what a hole shows.
var zeros [codec.FrameSize]byte

// View returns n logical bytes from off on, fewer at the end of the file, where
// the error is io.EOF if there is none. A frame that is damaged gives a
// DamageError, and no bytes. The error unix.EINTR is that of ReadAtContext.
func (r *Reader) View(ctx context.Context, off int64, n int) (*View, error) {
	if off < 0 {
		return nil, errNegativeOffset
	}
	size := r.Size()
	if off >= size {
		return nil, io.EOF
	}
	v := &View{cache: r.cache}
	r.announce(off, min(off+int64(n), size))
	for end := min(off+int64(n), size); off < end; {
		b, err := v.add(ctx, r, off, end)
		if err != nil {
			v.Release()
			return nil, err
		}
		v.Slices = append(v.Slices, b)
		off += int64(len(b))
	}
	return v, nil
}

// add returns bytes of the extent or hole at off, up to end at most.
func (v *View) add(ctx context.Context, r *Reader, off, end int64) ([]byte, error) {
	r.mu.RLock()
	e, next, ok := r.log.Extents.At(off)
	var g Generation
	if ok {
		g = r.log.generation(&e.Frame)
	}
	r.mu.RUnlock()
	if !ok {
		if next >= 0 {
			end = min(end, next)
		}
		return zeros[:min(int64(len(zeros)), end-off)], nil
	}
	b, err := r.block(ctx, &e, g)
	if err != nil {
		return nil, err
	}
	v.blocks = append(v.blocks, b)
	return b.buf.B[off-e.Frame.Offset : min(end, e.End())-e.Frame.Offset], nil
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
	for _, b := range v.blocks {
		v.cache.release(b)
	}
	v.blocks, v.Slices = nil, nil
}
