package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// view is the answer to a READ whose bytes go from the cache of decoded frames
// to the kernel without another copy: go-fuse writes the Slices of an answer
// that has them.
type view struct{ v *container.View }

var _ fuse.ReadResult = view{}

// Slices are the bytes.
func (r view) Slices() ([][]byte, fuse.Status) { return r.v.Slices, fuse.OK }

// Size is how many there are.
func (r view) Size() int { return r.v.Len() }

// Done lets go of them.
func (r view) Done() { r.v.Release() }

// Bytes copies them, for whoever does not know Slices.
func (r view) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:0]
	for _, s := range r.v.Slices {
		buf = append(buf, s...)
	}
	return buf, fuse.OK
}
