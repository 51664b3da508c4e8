package store

import (
	"math"
	"sort"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// piece is what one frame of a container that is coded anew will hold: elements
// of one type.
type piece struct {
	begin, end int64
	dtype      codec.DType
	row        int // elements in a row of the tensor, 0 where it is not known
}

// nextPiece returns the piece that begins at off of a file of size bytes. Pieces
// are cut as saving cuts them, but of up to frame bytes: from a region's first byte
// on, and small neighbours of one type share one.
func nextPiece(l layout.Layout, off, size, frame int64) (piece, error) {
	r, err := l.Region(off)
	if err != nil {
		return piece{}, err
	}
	p := piece{begin: off, dtype: r.DType}
	into := off - r.Begin
	if into%int64(r.DType.Size()) != 0 {
		p.dtype = codec.Bytes
	}
	p.end = min(r.End, off-into%frame+frame, size)
	for p.end < size && p.end == r.End {
		if r, err = l.Region(p.end); err != nil {
			return piece{}, err
		}
		if r.Begin != p.end || r.End == math.MaxInt64 || r.End > size || r.DType != p.dtype || r.End-off > frame ||
			(p.end-off)%int64(r.DType.Size()) != 0 {
			break
		}
		p.end = r.End
	}
	if (p.end-off)%int64(p.dtype.Size()) != 0 {
		p.dtype = codec.Bytes // the file ends within an element
	}
	return p, nil
}

// rowOf is the last dimension of the tensor that holds the byte off. Tensors are
// in file order.
func rowOf(tensors []container.Tensor, off int64) int {
	i := sort.Search(len(tensors), func(i int) bool { return tensors[i].End > off })
	if i == len(tensors) || tensors[i].Begin > off || len(tensors[i].Shape) < 2 {
		return 0
	}
	row := tensors[i].Shape[len(tensors[i].Shape)-1]
	if row > math.MaxInt32 {
		return 0
	}
	return int(row)
}
