package delta

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// FrameSize is the number of logical bytes that a frame should hold. Longer
// frames are hardly smaller, and who reads a few bytes at the end of a chain of
// bases decodes a whole frame of each.
const FrameSize = 1 << 20

// MaxContent is the greatest number of logical bytes in one frame.
const MaxContent = 4 << 20

// What the first byte of a frame's content says, with the number of bases above
// it.
const (
	kindEqual      = 0 // the same as the base
	kindResidual   = 1
	kindDifference = 2

	maxBases = 3
)

// Sizes of zstd's framing (RFC 8878, section 3.1.1).
const (
	maxBlock    = 128 << 10
	blockHeader = 3
)

// headerSize returns the length of the header of a frame with n bytes of content.
func headerSize(n int) int {
	switch {
	case n < 256:
		return 6
	case n < 256+1<<16:
		return 7
	}
	return 9
}

// frameSize returns the length of a frame with n bytes of content, at least 1.
func frameSize(n int) int { return headerSize(n) + (n+maxBlock-1)/maxBlock*blockHeader + n }

// appendFrame appends a zstd frame of raw blocks that hold content.
func appendFrame(dst, content []byte) []byte {
	h := zstd.Header{SingleSegment: true, HasFCS: true, FrameContentSize: uint64(len(content))}
	dst, err := h.AppendTo(dst)
	if err != nil {
		panic(err) // only a skippable frame can fail
	}
	for len(content) > 0 {
		n := min(len(content), maxBlock)
		header := n << 3
		if n == len(content) {
			header |= 1 // the last block
		}
		dst = append(dst, byte(header), byte(header>>8), byte(header>>16))
		dst = append(dst, content[:n]...)
		content = content[n:]
	}
	return dst
}

// contentOf returns the content of frame, which is one zstd frame of raw blocks:
// a part of frame, or all of them put together in buf's memory.
func contentOf(buf, frame []byte) (content, scratch []byte, err error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, buf, corrupt("no zstd frame header", err)
	}
	if h.Skippable || !h.HasFCS || h.HasCheckSum || h.DictionaryID != 0 || h.FrameContentSize > uint64(len(frame)) {
		return nil, buf, corrupt("not a frame of raw blocks", nil)
	}
	rest := frame[h.HeaderSize:]
	buf = buf[:0]
	for {
		if len(rest) < blockHeader {
			return nil, buf, corrupt("cut short in a block header", nil)
		}
		b := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		n := b >> 3
		rest = rest[blockHeader:]
		if b>>1&3 != 0 || n > maxBlock || n > len(rest) {
			return nil, buf, corrupt("not a raw block, or cut short", nil)
		}
		content, rest = rest[:n:n], rest[n:]
		last := b&1 != 0
		if !last || len(buf) > 0 {
			buf = append(buf, content...)
			content = buf
		}
		if last {
			break
		}
	}
	if len(rest) != 0 || uint64(len(content)) != h.FrameContentSize {
		return nil, buf, corrupt(fmt.Sprintf("%d bytes of content instead of %d", len(content), h.FrameContentSize), nil)
	}
	return content, buf, nil
}
