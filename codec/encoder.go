package codec

import (
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Sizes of frames.
const (
	// FrameSize is the number of logical bytes that a caller should give to one
	// frame, the last of a region aside. Larger frames compress no better; any
	// read decodes a frame whole.
	FrameSize = 256 << 10

	// MaxContent is the greatest number of logical bytes in one frame.
	MaxContent = 64 << 20

	frameHeader = 4 + 1 + 8 // longest: magic number, descriptor, content size
	maxScratch  = 1 << 20   // buffers longer than this are not kept
)

// MaxFrameSize returns the length that a frame of n logical bytes never
// exceeds: n, a frame header, and a block header for each plane, for each
// 128 KiB and for the tail.
func MaxFrameSize(n int) int {
	return n + frameHeader + blockHeader*(n/maxBlock+maxWidth+1)
}

// An Encoder makes frames. It keeps scratch memory between them, and then
// allocates nothing: 20 KiB, as much as the longest frame of up to 1 MiB, and at
// most 45 KiB for a stream that nearly fills a block; from the first [Bytes] with
// repeats on 3.5 MiB more, and as much as the longest frame of those. It must not be used by two goroutines at once; make
// one for each. The zero value is ready for use.
type Encoder struct {
	content  []byte // planes of the frame at hand
	other    []byte // a second attempt at the frame at hand
	huffman  huffman
	elements elementSample
	general  *zstd.Encoder // nil until needed
}

// NewEncoder returns an Encoder.
func NewEncoder() *Encoder { return &Encoder{} }

// AppendFrame appends to dst one frame that holds src, elements of type d, and
// returns the extended slice and the plan that [Decoder.DecodeFrame] needs
// to read the frame. src may begin or end within an element, at some cost in
// ratio, and may be empty. It is neither changed nor kept.
//
// AppendFrame always succeeds and appends at most MaxFrameSize(len(src)) bytes.
// It panics if src is longer than [MaxContent].
func (e *Encoder) AppendFrame(dst, src []byte, d DType) (frame []byte, plan Plan) {
	if len(src) > MaxContent {
		panic(fmt.Sprintf("codec: %d bytes in one frame, the most is %d", len(src), MaxContent))
	}
	plan, random := e.elements.choosePlan(src, d)
	if random {
		return appendStored(dst, src), 0
	}
	return e.appendFrame(dst, src, d, plan), plan
}

// appendStored appends a frame of raw blocks.
func appendStored(dst, src []byte) []byte {
	dst = slices.Grow(dst, MaxFrameSize(len(src)))
	return appendRaw(appendFrameHeader(dst, len(src)), src, true)
}

// appendFrame is AppendFrame with a plan.
func (e *Encoder) appendFrame(dst, src []byte, d DType, plan Plan) []byte {
	if d == Bytes || !d.Valid() {
		return e.appendBytes(dst, src)
	}
	dst = slices.Grow(dst, MaxFrameSize(len(src)))
	if plan == 0 {
		return e.appendPlanes(dst, src, 1)
	}
	e.content = resize(e.content, len(src))
	plan.split(e.content, src)
	dst = e.appendPlanes(dst, e.content, plan.Width())
	e.content = release(e.content)
	return dst
}

// appendPlanes appends a frame of which each block lies within one plane.
func (e *Encoder) appendPlanes(dst, content []byte, width int) []byte {
	dst = appendFrameHeader(dst, len(content))
	if len(content) == 0 {
		return appendRaw(dst, nil, true)
	}
	n := len(content) / width
	tail := content[n*width:]
	if n > 0 {
		for k := range width {
			dst = e.appendPart(dst, content[k*n:(k+1)*n], k == width-1 && len(tail) == 0)
		}
	}
	return e.appendPart(dst, tail, true)
}

// appendPart appends a plane, or nothing for an empty one, in blocks, of which
// long runs are some.
func (e *Encoder) appendPart(dst, b []byte, last bool) []byte {
	for len(b) > 0 {
		n := min(len(b), maxBlock)
		if from, to := findRun(b[:n], longRun); from > 0 {
			n = from
		} else if to > 0 {
			n = to
		}
		dst = e.appendBlock(dst, b[:n], last && n == len(b))
		b = b[n:]
	}
	return dst
}

// appendBytes appends a frame of bytes of no known structure: stored if they look
// random; as one plane if they have no repeats, as integers of one byte, which a
// general zstd encoder makes no smaller, and more slowly; else the smaller of that
// and of what the general encoder makes.
func (e *Encoder) appendBytes(dst, src []byte) []byte {
	dst = slices.Grow(dst, MaxFrameSize(len(src)))
	if looksRandom(src) {
		// To copy it first brings it into the cache.
		if out := appendStored(dst, src); !hasRepeats(src, sparseGrid) {
			return out
		}
	} else if len(src) == 0 || !hasRepeats(src, denseGrid) {
		return e.appendPlanes(dst, src, 1)
	}
	if e.general == nil {
		e.general = newGeneralEncoder()
	}
	start := len(dst)
	dst = e.general.EncodeAll(src, dst)
	e.other = slices.Grow(e.other[:0], MaxFrameSize(len(src)))
	e.other = e.appendPlanes(e.other, src, 1)
	if len(e.other) <= len(dst)-start {
		dst = append(dst[:start], e.other...)
	}
	e.other = release(e.other)
	return dst
}

func newGeneralEncoder() *zstd.Encoder {
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithAllLitEntropyCompression(true), // else bytes without matches stay raw
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(FrameSize), // by default it keeps 16 MiB of history
	)
	if err != nil {
		panic(err) // constant options
	}
	return z
}

// resize returns a slice of n bytes, of b's memory if that is enough.
func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// release returns b for later use, or nil if it is too large to keep.
func release(b []byte) []byte {
	if cap(b) > maxScratch {
		return nil
	}
	return b[:0]
}
