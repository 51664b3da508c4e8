package delta

import (
	"encoding/binary"

	"github.com/mithrilfs/mithrilfs/codec"
)

// appendDifference appends the plan and the codec frame of the differences of
// src and base, elements of one type that residuals are not coded for.
func (e *Encoder) appendDifference(dst []byte, src Elements, base []byte) []byte {
	w := src.Type.Size()
	e.try = grow(e.try, 2*len(src.Data))
	diff, planes := e.try[:len(src.Data)], e.try[len(src.Data):]
	subtract(diff, src.Data, base, w, src.Type == codec.F64)
	if err := codec.ByteGroup(planes, diff, w); err != nil {
		panic(err) // widths of DTypes are valid
	}
	dst = binary.AppendUvarint(dst, uint64(len(src.Data)))
	dst, plan := e.other.AppendFrame(dst, planes, codec.Bytes)
	if plan != 0 {
		panic("delta: bytes have a plan") // Bytes are coded as they are
	}
	return dst
}

// subtract sets dst to the zigzagged differences of the elements of a and b, of w
// bytes, or of their ordinals.
func subtract(dst, a, b []byte, w int, ordered bool) {
	for i := 0; i+w <= len(a); i += w {
		x, y := load(a[i:], w), load(b[i:], w)
		if ordered {
			x, y = order64(x), order64(y)
		}
		shift := 64 - 8*w
		put(dst[i:], zigzag(int64((x-y)<<shift)>>shift), w)
	}
}

// add undoes subtract, in place.
func add(dst, b []byte, w int, ordered bool) {
	for i := 0; i+w <= len(dst); i += w {
		d, y := uint64(unzigzag(load(dst[i:], w))), load(b[i:], w)
		if ordered {
			put(dst[i:], unorder64(order64(y)+d), w)
			continue
		}
		put(dst[i:], y+d, w)
	}
}

func order64(u uint64) uint64 {
	if u>>63 != 0 {
		return ^u
	}
	return u | 1<<63
}

func unorder64(o uint64) uint64 {
	if o>>63 != 0 {
		return o &^ (1 << 63)
	}
	return ^o
}

// load returns the integer in the first w bytes of b: 1, 2, 4 or 8.
func load(b []byte, w int) uint64 {
	switch w {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// put undoes load.
func put(b []byte, v uint64, w int) {
	switch w {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}

// castElements sets dst to the elements of src, rounded to type to.
func castElements(dst []byte, to codec.DType, src Elements) {
	from, n := src.Type.Size(), to.Size()
	for i := range len(dst) / n {
		u := float32Of(uint32(load(src.Data[i*from:], from)), src.Type)
		put(dst[i*n:], uint64(fromFloat32(u, to)), n)
	}
}
