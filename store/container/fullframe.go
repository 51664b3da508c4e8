package container

import (
	"io"

	"github.com/mithrilfs/mithrilfs/codec"
)

// Lender is a Storage that has memory of its own, which suits the disk better
// than its caller's.
type Lender interface {
	// Lend returns n bytes from off on, to be given back by the function, or nil
	// where ReadAt is the better way, or the only one, or has an error to tell.
	Lend(off, n int64) ([]byte, func())
}

// fullFrame is a frame that needs no other.
type fullFrame struct {
	Frame
	generation Generation
}

// missingFrame is a frame that is not in the cache, and the block that waits for
// it.
type missingFrame struct {
	fullFrame
	block *block
}

// fillFrames decodes frames into their blocks. What lies side by side is read at
// once.
func (c *Cache) fillFrames(src io.ReaderAt, missing []missingFrame) {
	for len(missing) > 0 {
		n := c.fillRun(src, missing)
		missing = missing[n:]
	}
}

// maxRun is how many stored bytes are read at once, about what the frames of a
// request have: what a Lender lends, with the blocks at both ends.
const maxRun = 1<<20 - 8<<10

// fillRun decodes the first of some frames, and those that come right after it
// in the container. It returns how many.
func (c *Cache) fillRun(src io.ReaderAt, missing []missingFrame) int {
	begin, end, n := missing[0].DataPosition(), missing[0].DataEnd(), 1
	for n < len(missing) && missing[n].Position == end && missing[n].DataEnd()-begin <= maxRun {
		end = missing[n].DataEnd()
		n++
	}
	var p []byte
	if lender, ok := src.(Lender); ok {
		var giveBack func()
		if p, giveBack = lender.Lend(begin, end-begin); p != nil {
			defer giveBack()
		}
	}
	for i := range missing[:n] {
		f := &missing[i]
		c.fill(f.block, func(dst []byte) error {
			if p == nil {
				return c.decode(src, &f.Frame, f.generation, dst)
			}
			at := f.DataPosition() - begin
			return c.decodeStored(p[at:at+int64(f.Stored)], &f.Frame, f.generation, dst)
		})
	}
	return n
}

// decode reads a frame from src into dst, of f.Length bytes, and checks it.
func (c *Cache) decode(src io.ReaderAt, f *Frame, g Generation, dst []byte) error {
	stored := sized(&c.stored, int(f.Stored))
	defer c.stored.Put(stored)
	if err := readFull(src, stored.B, f.DataPosition()); err != nil {
		return err
	}
	return c.decodeStored(stored.B, f, g, dst)
}

// decodeStored decodes a frame's zstd bytes into dst and checks it.
func (c *Cache) decodeStored(stored []byte, f *Frame, g Generation, dst []byte) error {
	d := c.decoders.Get().(*codec.Decoder)
	err := d.DecodeFrame(dst, stored, f.Plan)
	c.decoders.Put(d)
	if err != nil {
		return &DamageError{Part: PartFrame, Position: f.Position, Frame: f, Reason: "it does not decode", Err: err}
	}
	if contentSum(dst, g, f.Number, f.Offset) != f.Sum {
		return &DamageError{Part: PartFrame, Position: f.Position, Frame: f, Reason: "its checksum does not match"}
	}
	return nil
}
