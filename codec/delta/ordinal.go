package delta

import (
	"encoding/binary"
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
)

// ordinals sets dst to the ordinals of src, elements of T's width.
func ordinals[T ordinal](dst []T, src []byte) {
	switch dst := any(dst).(type) {
	case []uint16:
		src = src[:2*len(dst)]
		for i := orderVector(dst, src); i < len(dst); i++ {
			dst[i] = order(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case []uint32:
		src = src[:4*len(dst)]
		for i := orderVector(dst, src); i < len(dst); i++ {
			dst[i] = order(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

// values sets dst to the values of src, elements of type d.
func values(dst []float32, src []byte, d codec.DType) {
	switch d {
	case codec.BF16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case codec.F16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(float32OfHalf(uint32(binary.LittleEndian.Uint16(src[2*i:]))))
		}
	case codec.F32:
		src = src[:4*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
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
		for i := unorderVector(dst, ords); i < len(ords); i++ {
			binary.LittleEndian.PutUint32(dst[4*i:], unorder(ords[i]))
		}
	}
}
