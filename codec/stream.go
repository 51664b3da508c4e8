package codec

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// The header of a stream; the package documentation draws it.
const (
	streamSkippable = 0x184D2A5D
	streamMagic     = "mithrilc"
	streamHeader    = 40

	streamVersion = 0 // a draft, until the first release
)

var (
	encoders = sync.Pool{New: func() any { return NewEncoder() }}
	decoders = sync.Pool{New: func() any { return NewDecoder() }}
)

// Compress appends src, elements of type d, to dst as a stream: a header and
// frames of [FrameSize] logical bytes. [Decompress] reads it; a zstd program
// reads the planes. The result is at most 40 bytes plus a [MaxFrameSize] for
// each frame longer than dst. src is neither changed nor kept, and does not
// overlap dst's capacity.
//
// The error matches [ErrDType] if d is not valid; there is no other.
func Compress(dst, src []byte, d DType) ([]byte, error) {
	if !d.Valid() {
		return dst, fmt.Errorf("%w: %d", ErrDType, uint8(d))
	}
	e := encoders.Get().(*Encoder)
	defer encoders.Put(e)

	plan, _ := e.elements.choosePlan(src, d)
	dst = binary.LittleEndian.AppendUint32(dst, streamSkippable)
	dst = binary.LittleEndian.AppendUint32(dst, streamHeader-8)
	dst = append(dst, streamMagic...)
	dst = append(dst, streamVersion, byte(d), byte(plan), 0)
	dst = binary.LittleEndian.AppendUint32(dst, FrameSize)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(src)))
	dst = binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(src))
	for len(src) > 0 {
		n := min(len(src), FrameSize)
		dst = e.appendFrame(dst, src[:n], d, plan)
		src = src[n:]
	}
	return dst, nil
}

// Decompress appends to dst the bytes that src, all of a stream that [Compress]
// made, holds. d and size, the number of bytes, are what the caller expects;
// Decompress needs no more memory than size bytes and a fixed amount. The
// streams of any version that this package knows can be read. src does not
// overlap dst's capacity.
//
// The error matches [ErrMismatch] if the stream has another dtype or size,
// [ErrVersion] if its version is unknown, [ErrCorrupt] if it is damaged, cut
// short or followed by other bytes, [ErrDType] if d is not valid, and
// [ErrLength] if size is negative. Then dst is returned as it was given, but
// memory beyond its length may have been written to.
func Decompress(dst, src []byte, d DType, size int) ([]byte, error) {
	if !d.Valid() {
		return dst, fmt.Errorf("%w: %d", ErrDType, uint8(d))
	}
	if size < 0 {
		return dst, fmt.Errorf("%w: %d", ErrLength, size)
	}
	h, err := readStreamHeader(src)
	if err != nil {
		return dst, err
	}
	if h.dtype != d {
		return dst, &MismatchError{Property: "dtype", Want: d.String(), Got: h.dtype.String()}
	}
	if h.size != uint64(size) {
		return dst, &MismatchError{Property: "size", Want: strconv.Itoa(size), Got: strconv.FormatUint(h.size, 10)}
	}

	// Measure the frames before any memory is taken for them.
	for pos, left := streamHeader, size; ; {
		if left == 0 {
			if pos != len(src) {
				return dst, corrupt(pos, "bytes after the stream", nil)
			}
			break
		}
		n := min(left, h.frame)
		info, err := scanFrame(src[pos:], n)
		if err != nil {
			return dst, corrupt(pos, "bad frame", err)
		}
		pos += info.end
		left -= n
	}

	z := decoders.Get().(*Decoder)
	defer decoders.Put(z)
	start := len(dst)
	out := slices.Grow(dst, size)[:start+size]
	for pos, rest := streamHeader, out[start:]; len(rest) > 0; {
		n := min(len(rest), h.frame)
		info, err := scanFrame(src[pos:], n)
		if err == nil {
			err = z.DecodeFrame(rest[:n], src[pos:pos+info.end], h.plan)
		}
		if err != nil {
			return dst, corrupt(pos, "bad frame", err)
		}
		pos += info.end
		rest = rest[n:]
	}
	if xxhash.Sum64(out[start:]) != h.sum {
		return dst, corrupt(streamHeader-8, "wrong XXH64 of the content", nil)
	}
	return out, nil
}

// A streamInfo is what the header of a stream says.
type streamInfo struct {
	dtype DType
	plan  Plan
	frame int    // logical bytes in each frame but the last
	size  uint64 // logical bytes in all
	sum   uint64 // XXH64 of them
}

func readStreamHeader(b []byte) (h streamInfo, err error) {
	le := binary.LittleEndian
	if len(b) < 17 || le.Uint32(b) != streamSkippable || string(b[8:16]) != streamMagic {
		return h, corrupt(0, "not a stream of this package", nil)
	}
	if v := b[16]; v != streamVersion {
		return h, &VersionError{Version: v}
	}
	if len(b) < streamHeader || le.Uint32(b[4:]) != streamHeader-8 {
		return h, corrupt(4, "stream header of the wrong length", nil)
	}
	h = streamInfo{
		dtype: DType(b[17]),
		plan:  Plan(b[18]),
		size:  le.Uint64(b[24:]),
		sum:   le.Uint64(b[32:]),
	}
	if !h.plan.Valid() || b[19] != 0 {
		return h, corrupt(18, "invalid plan", nil)
	}
	frame := le.Uint32(b[20:])
	if frame == 0 || frame > MaxContent {
		return h, corrupt(20, "invalid frame length", nil)
	}
	h.frame = int(frame)
	return h, nil
}
