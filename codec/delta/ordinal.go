package delta

import (
	"encoding/binary"

	"github.com/mithrilfs/mithrilfs/codec"
)

// ordinals sets dst to the ordinals of src, elements of type from, rounded to
// type to, whose width is T's.
func ordinals[T ordinal](dst []T, src []byte, from, to codec.DType) {
	if from != to {
		castOrdinals(dst, src, from, to)
		return
	}
	switch dst := any(dst).(type) {
	case []uint16:
		src = src[:2*len(dst)]
		for i := orderVector(dst, src); i < len(dst); i++ {
			dst[i] = order(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case []uint32:
		src = src[:4*len(dst)]
		for i := range dst {
			dst[i] = order(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

func castOrdinals[T ordinal](dst []T, src []byte, from, to codec.DType) {
	w := from.Size()
	for i := range dst {
		var u uint32
		if w == 2 {
			u = uint32(binary.LittleEndian.Uint16(src[2*i:]))
		} else {
			u = binary.LittleEndian.Uint32(src[4*i:])
		}
		dst[i] = order(T(fromFloat32(float32Of(u, from), to)))
	}
}

// order returns the ordinal of an element's bits.
func order[T ordinal](u T) T {
	top := ^(^T(0) >> 1)
	if u&top != 0 {
		return ^u
	}
	return u | top
}

// unorder undoes order.
func unorder[T ordinal](o T) T {
	top := ^(^T(0) >> 1)
	if o&top != 0 {
		return o &^ top
	}
	return ^o
}

// magnitude returns the bits, but for the sign, of the element with ordinal o.
func magnitude[T ordinal](o T) T {
	top := ^(^T(0) >> 1)
	if o&top != 0 {
		return o &^ top
	}
	return ^o &^ top
}

// store writes the elements with these ordinals to dst.
func store[T ordinal](dst []byte, ords []T) {
	switch ords := any(ords).(type) {
	case []uint16:
		dst = dst[:2*len(ords)]
		for i := unorderVector(dst, ords); i < len(ords); i++ {
			binary.LittleEndian.PutUint16(dst[2*i:], unorder(ords[i]))
		}
	case []uint32:
		dst = dst[:4*len(ords)]
		for i, o := range ords {
			binary.LittleEndian.PutUint32(dst[4*i:], unorder(o))
		}
	}
}
