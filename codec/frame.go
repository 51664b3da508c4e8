package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// appendFrameHeader appends the header of a frame of size bytes (RFC 8878,
// section 3.1.1.1).
func appendFrameHeader(dst []byte, size int) []byte {
	h := zstd.Header{SingleSegment: true, HasFCS: true, FrameContentSize: uint64(size)}
	dst, err := h.AppendTo(dst)
	if err != nil {
		panic(err) // only a skippable frame can fail
	}
	return dst
}

// A frameInfo is what the headers of a frame and of its blocks say.
type frameInfo struct {
	blocks int // offset of the first block
	end    int // length of the frame
	simple bool
	// simple frames have no checksum, and each block is raw, RLE or of literals
	// with a Huffman code of its own. Then the blocks' sizes sum up to the
	// content's.
}

// scanFrame walks over the frame at the start of b, whose content must be size
// bytes long. It reads headers only.
func scanFrame(b []byte, size int) (frameInfo, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return frameInfo{}, corrupt(0, "no zstd frame header", err)
	}
	switch {
	case h.Skippable:
		return frameInfo{}, corrupt(0, "a skippable frame", nil)
	case h.DictionaryID != 0:
		return frameInfo{}, corrupt(0, "a frame that needs a dictionary", nil)
	case !h.HasFCS:
		return frameInfo{}, corrupt(0, "a frame without content size", nil)
	case h.FrameContentSize != uint64(size):
		return frameInfo{}, corrupt(0, fmt.Sprintf("a frame of %d bytes, not %d", h.FrameContentSize, size), nil)
	}
	f := frameInfo{blocks: h.HeaderSize, simple: !h.HasCheckSum}
	pos, total := f.blocks, 0
	for last := false; !last; {
		blk, next, err := nextBlock(b, pos)
		if err != nil {
			return frameInfo{}, err
		}
		f.simple = f.simple && blk.simple()
		if total += blk.size; total > size {
			return frameInfo{}, corrupt(pos, "blocks exceed the content size", nil)
		}
		pos, last = next, blk.last
	}
	if f.simple && total != size {
		return frameInfo{}, corrupt(pos, "blocks fall short of the content size", nil)
	}
	if h.HasCheckSum {
		pos += 4
		if pos > len(b) {
			return frameInfo{}, corrupt(len(b), "frame cut short in its checksum", nil)
		}
	}
	f.end = pos
	return f, nil
}

// A block is one block of a frame.
type block struct {
	kind    int
	last    bool
	size    int    // bytes of content; 0 if not known without decoding
	body    []byte // what follows the header
	coded   []byte // Huffman table and streams, nil if not of that shape
	streams int    // 1 or 4
}

// simple reports whether the block is of a shape that Decoder knows.
func (k *block) simple() bool { return k.kind != blockCompressed || k.coded != nil }

// nextBlock reads the headers of the block at pos and returns the offset after
// the block.
func nextBlock(b []byte, pos int) (blk block, next int, err error) {
	if len(b)-pos < blockHeader {
		return blk, 0, corrupt(pos, "frame cut short in a block header", nil)
	}
	h := int(b[pos]) | int(b[pos+1])<<8 | int(b[pos+2])<<16
	blk.last, blk.kind = h&1 != 0, h>>1&3
	size := h >> 3
	if size > maxBlock {
		return blk, 0, corrupt(pos, "block too large", nil)
	}
	stored := size
	switch blk.kind {
	case blockRaw:
		blk.size = size
	case blockRLE:
		blk.size, stored = size, 1
	case blockCompressed:
	default:
		return blk, 0, corrupt(pos, "reserved block type", nil)
	}
	if len(b)-pos-blockHeader < stored {
		return blk, 0, corrupt(pos, "frame cut short in a block", nil)
	}
	next = pos + blockHeader + stored
	blk.body = b[pos+blockHeader : next]
	if blk.kind == blockCompressed {
		blk.readLiterals()
	}
	return blk, next, nil
}

// readLiterals sets size, coded and streams if the block consists of Huffman
// coded literals and no sequences.
func (k *block) readLiterals() {
	b := k.body
	if len(b) < 5 || b[0]&3 != literalsHuffman {
		return
	}
	streams, sizeBits, header := 4, 10, 3
	switch b[0] >> 2 & 3 {
	case 0:
		streams = 1
	case 2:
		sizeBits, header = 14, 4
	case 3:
		sizeBits, header = 18, 5
	}
	var v uint64
	for i := range header {
		v |= uint64(b[i]) << (8 * i)
	}
	mask := uint64(1)<<sizeBits - 1
	size := int(v >> 4 & mask)
	coded := int(v >> (4 + sizeBits) & mask)
	// One byte, 0, says that there are no sequences. The general decoder may
	// judge odd sizes.
	if len(b) != header+coded+1 || b[len(b)-1] != 0 || size < minLiterals || size > maxBlock {
		return
	}
	k.size, k.coded, k.streams = size, b[header:header+coded], streams
}
