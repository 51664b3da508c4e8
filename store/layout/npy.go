package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mithrilfs/mithrilfs/codec"
)

// FormatNPY is the name of numpy's format for one array.
const FormatNPY = "npy"

// An array is
//
//	magic "\x93NUMPY" | version, 2 bytes | length of the header, 2 bytes from
//	version 2 on 4 | header: a Python dict of descr, fortran_order and shape |
//	elements
//
// numpy.save on an open file appends one array after the other.
const npyMagic = "\x93NUMPY"

var errNotNPY = errors.New("no array begins here")

func detectNPY(head []byte, src Source) Layout {
	if _, _, err := npyHeader(head[:min(len(head), 1<<16)]); err != nil {
		return nil
	}
	count := 0
	return newPieces(FormatNPY, src, func(b []byte) (piece, int, error) {
		t, need, err := npyHeader(b)
		if err != nil || need > len(b) {
			return piece{}, need, err
		}
		t.Name = fmt.Sprintf("arr_%d", count) // as numpy.savez calls what has no name
		count++
		return piece{length: t.End, tensor: t}, need, nil
	})
}

// npyHeader reads the header that b begins with. It returns how many bytes it
// must see; if b has as many, also the array without its name, whose offsets
// count from the beginning of b.
func npyHeader(b []byte) (t *Tensor, need int, err error) {
	const prelude = len(npyMagic) + 2
	if string(b[:min(len(b), len(npyMagic))]) != npyMagic[:min(len(b), len(npyMagic))] {
		return nil, 0, errNotNPY
	}
	if len(b) < prelude {
		return nil, prelude + 2, nil
	}
	lengthSize := 4
	switch version := b[len(npyMagic)]; version {
	case 1:
		lengthSize = 2
	case 2, 3:
	default:
		return nil, 0, fmt.Errorf("version %d of the format is not known", version)
	}
	if len(b) < prelude+lengthSize {
		return nil, prelude + lengthSize, nil
	}
	text := b[prelude+lengthSize:]
	n := int64(binary.LittleEndian.Uint16(b[prelude:]))
	if lengthSize == 4 {
		n = int64(binary.LittleEndian.Uint32(b[prelude:]))
	}
	if n > maxHeader-16 {
		return nil, 0, fmt.Errorf("a header of %d bytes is too long", n)
	}
	need = prelude + lengthSize + int(n)
	if int64(len(text)) < n {
		return nil, need, nil
	}
	t, err = npyArray(string(text[:n]), int64(need))
	return t, need, err
}

// npyArray reads a header's dict. The elements begin at start.
func npyArray(text string, start int64) (*Tensor, error) {
	v, err := parseLiteral(text)
	if err != nil {
		return nil, err
	}
	dict, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the header is not a dict")
	}
	size, err := npyItemSize(dict["descr"], 0)
	if err != nil {
		return nil, err
	}
	dims, ok := dict["shape"].([]any)
	if !ok || len(dims) > npyMaxRank {
		return nil, errors.New("the header has no shape, or an impossible one")
	}
	t := &Tensor{Begin: start}
	if t.DType, ok = dict["descr"].(string); !ok || len(t.DType) > maxDTypeName || !utf8.ValidString(t.DType) {
		t.DType = fmt.Sprintf("|V%d", size) // numpy's name for structures
	}
	for _, d := range dims {
		n, ok := d.(uint64)
		if !ok {
			return nil, errors.New("a dimension is not a number")
		}
		t.Shape = append(t.Shape, n)
	}
	length, ok := product(size, t.Shape)
	if !ok || length > math.MaxInt64-uint64(start) {
		return nil, fmt.Errorf("an array of %d elements of %d bytes is too long", t.Shape, size)
	}
	t.End = start + int64(length)
	return t, nil
}

const (
	maxDTypeName = 64
	npyMaxRank   = 64 // numpy's own limit
)

// product multiplies; a dimension of 0 makes it 0.
func product(size uint64, shape []uint64) (n uint64, ok bool) {
	n, ok = size, true
	for _, d := range shape {
		if d == 0 {
			return 0, true
		}
		hi, lo := bits.Mul64(n, d)
		n, ok = lo, ok && hi == 0
	}
	return n, ok
}

// npyItemSize returns the size in bytes of what descr describes: a string for
// simple types, a list of fields, each a name, a type and perhaps a shape, for
// structures.
func npyItemSize(descr any, depth int) (uint64, error) {
	if depth > 8 {
		return 0, errors.New("structures in structures are too deep")
	}
	switch d := descr.(type) {
	case string:
		kind, size, ok := npyType(d)
		if !ok {
			return 0, fmt.Errorf("elements of type %.40q have no size", d)
		}
		if kind == 'U' {
			size *= 4
		}
		return size, nil
	case []any:
		var sum uint64
		for _, f := range d {
			size, err := npyFieldSize(f, depth)
			if err != nil {
				return 0, err
			}
			if sum += size; sum > math.MaxInt32 {
				return 0, errors.New("a structure is too long")
			}
		}
		return sum, nil
	}
	return 0, errors.New("the header has no type")
}

func npyFieldSize(field any, depth int) (uint64, error) {
	f, ok := field.([]any)
	if !ok || len(f) < 2 || len(f) > 3 {
		return 0, errors.New("a field is not a name and a type")
	}
	size, err := npyItemSize(f[1], depth+1)
	if err != nil || len(f) == 2 {
		return size, err
	}
	dims, ok := f[2].([]any)
	if !ok {
		dims = []any{f[2]}
	}
	var shape []uint64
	for _, d := range dims {
		n, ok := d.(uint64)
		if !ok {
			return 0, errors.New("a dimension of a field is not a number")
		}
		shape = append(shape, n)
	}
	size, ok = product(size, shape)
	if !ok || size > math.MaxInt32 {
		return 0, errors.New("a field is too long")
	}
	return size, nil
}

// npyType takes a simple type apart: byte order, kind, size, and for times a
// unit. The size of 'U' counts characters of 4 bytes. Python objects have none.
func npyType(s string) (kind byte, size uint64, ok bool) {
	s = strings.TrimLeft(s, "<>|=")
	if s == "" || !strings.ContainsRune("?biufcmMSaUV", rune(s[0])) {
		return 0, 0, false
	}
	kind = s[0]
	digits, _, _ := strings.Cut(s[1:], "[")
	if kind == '?' && digits == "" {
		return kind, 1, true
	}
	size, err := strconv.ParseUint(digits, 10, 31)
	return kind, size, err == nil
}

// npyElement maps numpy's types to the codec's. Structures, strings and what
// is a byte wide are bytes. Of big-endian numbers the bytes are grouped, as
// those of integers.
func npyElement(s string) codec.DType {
	kind, size, ok := npyType(s)
	if !ok || !strings.ContainsRune("<>|=", rune(s[0])) {
		return codec.Bytes
	}
	if kind == 'c' {
		size /= 2 // a pair of floats
	}
	swapped := s[0] == '>'
	switch {
	case kind == 'V' && size == 2:
		return codec.BF16 // as ml_dtypes saves it
	case strings.IndexByte("iufcmM", kind) < 0:
		return codec.Bytes
	case size == 2 && kind == 'f' && !swapped:
		return codec.F16
	case size == 4 && (kind == 'f' || kind == 'c') && !swapped:
		return codec.F32
	case size == 8 && (kind == 'f' || kind == 'c') && !swapped:
		return codec.F64
	case size == 2:
		return codec.I16
	case size == 4:
		return codec.I32
	case size == 8:
		return codec.I64
	}
	return codec.Bytes
}
