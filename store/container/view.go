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
	v := &View{cache: r.cache}
	together := together{r: r}
	defer together.release()
	r.announce(off, min(off+int64(n), size))
	for end := min(off+int64(n), size); off < end; {
		together.reach(ctx, off, end)
		p, b, err := r.piece(ctx, off, end)
		if err != nil {
			v.Release()
			return nil, err
		}
		v.Slices = append(v.Slices, p)
		if b != nil {
			v.blocks = append(v.blocks, b)
		}
		off += int64(len(p))
	}
	return v, nil
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
