package container

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/mithrilfs/mithrilfs/codec/delta"
)

// A zstd frame's magic, and the longest header of one (RFC 8878, section 3.1.1).
const (
	zstdMagic         = 0xFD2FB528
	maxZstdHeaderSize = 18
)

// contentSize returns how many bytes the zstd frame of stored bytes at offset at
// says that it holds, -1 if it does not say.
func contentSize(r io.ReaderAt, at, stored int64) (int64, error) {
	b := make([]byte, min(maxZstdHeaderSize, stored))
	if err := readFull(r, b, at); err != nil {
		return 0, err
	}
	return zstdContentSize(b), nil
}

// zstdContentSize is contentSize of a frame that begins with b.
func zstdContentSize(b []byte) int64 {
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != zstdMagic || b[4]&3 != 0 {
		return -1
	}
	flag, single := b[4]>>6, b[4]>>5&1
	field := b[5:]
	if single == 0 {
		field = field[min(1, len(field)):] // the window
	}
	n := 1 << flag // 1, 2, 4 or 8 bytes
	if flag == 0 && single == 0 || len(field) < n {
		return -1
	}
	var b8 [8]byte
	copy(b8[:], field[:n])
	size := int64(binary.LittleEndian.Uint64(b8[:]))
	if flag == 1 {
		size += 256
	}
	if size < 0 || size > MaxFrameLength {
		return -1
	}
	return size
}

// decodeDelta reads a delta frame from src into dst, of f.Length bytes, given the
// elements of its bases, and checks it.
func (c *Cache) decodeDelta(src io.ReaderAt, f *Frame, g Generation, bases []delta.Elements, dst []byte) error {
	stored := sized(&c.stored, int(f.Stored))
	defer c.stored.Put(stored)
	if err := readFull(src, stored.B, f.DataPosition()); err != nil {
		return err
	}
	if err := c.decodeDifferences(dst, stored.B, bases); err != nil {
		reason := "it does not decode"
		if errors.Is(err, delta.ErrBase) {
			reason = "its bases are of another kind"
		}
		return &DamageError{Part: PartFrame, Position: f.Position, Frame: f, Reason: reason, Err: err}
	}
	if contentSum(dst, g, f.Number, f.Offset) != f.Sum {
		return &DamageError{Part: PartFrame, Position: f.Position, Frame: f, Reason: "its checksum does not match"}
	}
	return nil
}

// decodeDifferences decodes a delta frame's bytes, when it is its turn.
func (c *Cache) decodeDifferences(dst, stored []byte, bases []delta.Elements) error {
	c.deltaSlots <- struct{}{} // nothing that waits for a disk holds one
	defer func() { <-c.deltaSlots }()
	d := c.deltaDecoders.Get().(*delta.Decoder)
	err := d.DecodeFrame(dst, stored, bases)
	c.deltaDecoders.Put(d)
	return err
}
