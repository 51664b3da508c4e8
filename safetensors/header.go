package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// MaxHeaderSize is the longest header, in bytes, without the eight bytes of
// its length in front. The limit is the reference implementation's.
const MaxHeaderSize = 100_000_000

// UnknownSize stands for the size of a file that is still arriving.
const UnknownSize = -1

// metadataKey is the one key of a header that is not a tensor.
const metadataKey = "__metadata__"

// prefixSize is the number of bytes in front of the header.
const prefixSize = 8

// Tensor is one entry of a header.
type Tensor struct {
	Name  string
	DType DType
	Shape []uint64 // row-major; empty, not nil, for a scalar

	// Begin and End are byte offsets in the FILE, not in the data buffer: the
	// tensor's bytes are file[Begin:End]. Both fit in an int64.
	Begin, End uint64
}

// Header is a valid header. Its tensors cover the file from DataStart to
// DataEnd without holes or overlaps.
type Header struct {
	// DataStart is the offset in the file of the data buffer: 8+N bytes.
	DataStart int64
	// Tensors are in the order of their offsets. Those with equal offsets,
	// which are empty, stay in the order of the JSON.
	Tensors []Tensor
	// Metadata is the content of "__metadata__"; nil if there is none.
	Metadata map[string]string
}

// DataEnd returns the offset in the file where the last tensor ends, which is
// the size that a whole file has.
func (h *Header) DataEnd() int64 {
	if len(h.Tensors) == 0 {
		return h.DataStart
	}
	return int64(h.Tensors[len(h.Tensors)-1].End)
}

// HeaderLength returns N, the length in bytes of the JSON, from a file's first
// eight bytes; more are ignored. It gives ErrShort for fewer, and a
// *HeaderError with RuleHeaderSize if N exceeds MaxHeaderSize.
func HeaderLength(prefix []byte) (n int64, err error) {
	if len(prefix) < prefixSize {
		return 0, fmt.Errorf("%w: %d of the first %d bytes", ErrShort, len(prefix), prefixSize)
	}
	claim := binary.LittleEndian.Uint64(prefix)
	if claim > MaxHeaderSize {
		return 0, &HeaderError{
			Rule:   RuleHeaderSize,
			Detail: fmt.Sprintf("it claims to be %d bytes long; the limit is %d", claim, MaxHeaderSize),
		}
	}
	return int64(claim), nil
}

// Recognize reports whether a file that begins with prefix may be a
// safetensors file, and if so where its data buffer would start. It needs nine
// bytes: a plausible length and the '{' after it. Only ReadHeader can tell for
// sure.
func Recognize(prefix []byte) (dataStart int64, ok bool) {
	if len(prefix) <= prefixSize || prefix[prefixSize] != '{' {
		return 0, false
	}
	n, err := HeaderLength(prefix)
	if err != nil || n < int64(len("{}")) {
		return 0, false
	}
	return prefixSize + n, true
}

// ReadHeader parses the header of the file r, size bytes long. A negative
// size, such as UnknownSize, means that the file is still arriving; then the
// rules RulePastEnd and RuleTrailing are not checked. It reads nothing but the
// header.
//
// Errors are a *HeaderError for a broken rule, ErrShort for a header that is
// not all there, and otherwise those of r.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	limit := size
	if size < 0 {
		limit = math.MaxInt64
	}
	return ReadHeaderFrom(io.NewSectionReader(r, 0, limit), size)
}

// ReadHeaderFrom is ReadHeader for a stream positioned at a file's first byte.
// It never reads past the header: when it succeeds, r stands at DataStart.
func ReadHeaderFrom(r io.Reader, size int64) (*Header, error) {
	n, err := readLength(r, size)
	if err != nil {
		return nil, err
	}
	p := newParser(r, n)
	if err := p.parse(); err != nil {
		return nil, err
	}
	h := &Header{DataStart: prefixSize + n, Tensors: p.tensors, Metadata: p.metadata}
	if err := h.arrange(size); err != nil {
		return nil, err
	}
	return h, nil
}

// readLength reads the first eight bytes of r and returns the header's length,
// which fits in a file of the given size.
func readLength(r io.Reader, size int64) (n int64, err error) {
	var prefix [prefixSize]byte
	got, err := io.ReadFull(r, prefix[:])
	if err != nil && !ended(err) {
		return 0, fmt.Errorf("safetensors: read header length: %w", err)
	}
	n, err = HeaderLength(prefix[:got])
	if err != nil {
		return 0, err
	}
	if size >= 0 && n > size-prefixSize {
		return 0, fmt.Errorf("%w: it claims to be %d bytes long, in a file of %d", ErrShort, n, size)
	}
	return n, nil
}

// ended reports whether a read failed because there are no more bytes.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
