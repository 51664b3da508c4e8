package codec

import "bytes"

// Blocks of a zstd frame (RFC 8878, section 3.1.1.2).
const (
	maxBlock = 128 << 10 // most bytes that a block may stand for

	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2

	blockHeader = 3

	literalsHuffman = 2 // type of a literals section with a code of its own

	// minLiterals is the least number of bytes for which a code is tried: a
	// header, a table, a stream and the sequence count take 8 bytes at least.
	minLiterals = 16

	// A coded block must save more than one part in 128 of its bytes.
	savingShift = 7
)

func appendBlockHeader(dst []byte, kind, size int, last bool) []byte {
	h := uint32(size)<<3 | uint32(kind)<<1
	if last {
		h |= 1
	}
	return append(dst, byte(h), byte(h>>8), byte(h>>16))
}

// appendRaw appends b, of any length, as raw blocks.
func appendRaw(dst, b []byte, last bool) []byte {
	for {
		n := min(len(b), maxBlock)
		dst = appendBlockHeader(dst, blockRaw, n, last && n == len(b))
		dst = append(dst, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return dst
		}
	}
}

// appendBlock appends b, of 1 to maxBlock bytes, as the smallest of an RLE
// block, a raw block, a sequence of both and one of Huffman coded literals.
func (e *Encoder) appendBlock(dst, b []byte, last bool) []byte {
	if len(b) > 1 && constant(b) {
		dst = appendBlockHeader(dst, blockRLE, len(b), last)
		return append(dst, b[0])
	}
	if out, ok := e.appendRuns(dst, b, last); ok {
		return out
	}
	if len(b) >= minLiterals {
		if out, ok := e.appendLiterals(dst, b, last); ok {
			return out
		}
	}
	return appendRaw(dst, b, last)
}

// constant reports whether all bytes of b, which is not empty, are the same.
func constant(b []byte) bool {
	last := len(b) - 1
	return b[0] == b[last] && b[0] == b[last/2] && bytes.Equal(b[1:], b[:last])
}

// appendLiterals appends b, which has two different bytes at least, as a
// compressed block with Huffman coded literals and no sequences. It reports
// false, and appends nothing, if that would not save enough. dst has room for b
// and headers.
func (e *Encoder) appendLiterals(dst, b []byte, last bool) ([]byte, bool) {
	h := &e.huffman
	field, isField, worth := h.survey(b)
	if !worth {
		return dst, false
	}
	bits, f := 0, &field
	if isField {
		h.buildField(field)
		bits = len(b) * field.bits
	} else {
		bits, f = h.build(), nil
	}
	limit := len(b) - len(b)>>savingShift
	if bits/8 >= limit {
		return dst, false
	}

	// Header lengths depend only on len(b) (RFC 8878, section 3.1.1.3.1.1).
	format, sizeBits := 0, 10
	switch {
	case len(b) <= maxOneStream:
	case len(b) < 1<<14:
		format, sizeBits = 2, 14
	default:
		format, sizeBits = 3, 18
	}
	header := (4 + 2*sizeBits + 7) / 8

	start := len(dst)
	out := append(dst, make([]byte, blockHeader+header)...)
	literals := len(out)
	out, ok := h.appendTable(out)
	if !ok || len(out)-start-blockHeader+bits/8 >= limit {
		return dst, false
	}
	if out, ok = h.appendStreams(out, b, f); !ok {
		return dst, false
	}
	coded := len(out) - literals
	out = append(out, 0) // no sequences
	size := len(out) - start - blockHeader
	if size >= limit {
		return dst, false
	}
	appendBlockHeader(out[:start], blockCompressed, size, last)
	v := uint64(literalsHuffman|format<<2) | uint64(len(b))<<4 | uint64(coded)<<(4+sizeBits)
	for i := range header {
		out[start+blockHeader+i] = byte(v >> (8 * i))
	}
	return out, true
}
