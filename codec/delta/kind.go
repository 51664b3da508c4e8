package delta

import (
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
)

// An ordinal is an element's bits, mapped to an integer that rises with the
// value: that of -0 is one less than that of 0.
type ordinal interface{ uint16 | uint32 }

// A float is a layout of floating-point numbers that residuals are coded for.
type float struct {
	dtype    codec.DType
	width    uint // bits
	mantissa uint // bits
	fraction uint // bits of a unit of the lowest exponent that activity does not count
	moves    int  // how many movements elements can make
	direct   uint // zigzagged residuals below 1<<direct have a symbol each
	parts    uint // above, each octave has 1<<parts symbols
	syms     int
	lowest   int // that the encoder takes for the first exponent
}

var floats = [...]float{
	codec.BF16: {dtype: codec.BF16, width: 16, mantissa: 7, fraction: 12, moves: 48, direct: 4, parts: 1, syms: 16 + 2*12, lowest: minFirst},
	codec.F16:  {dtype: codec.F16, width: 16, mantissa: 10, moves: 48, direct: 4, parts: 1, syms: 16 + 2*12, lowest: 113},
	codec.F32:  {dtype: codec.F32, width: 32, mantissa: 23, fraction: 20, moves: 64, direct: 4, parts: 2, syms: 16 + 4*28, lowest: minFirst},
}

// isFloat reports whether residuals are coded for d.
func isFloat(d codec.DType) bool { return int(d) < len(floats) && floats[d].syms != 0 }

// float32Of returns the bits of a float32 of the same value as u, which is of
// type d; all that is not a number keeps the upper bits of its mantissa.
func float32Of(u uint32, d codec.DType) uint32 {
	switch d {
	case codec.BF16:
		return u << 16
	case codec.F16:
		return float32OfHalf(u)
	}
	return u
}

func float32OfHalf(u uint32) uint32 {
	sign, exp, frac := u>>15<<31, u>>10&31, u&0x3ff
	switch exp {
	case 31:
		return sign | 0xff<<23 | frac<<13
	case 0:
		// frac * 2^-24, which is exact.
		return sign | math.Float32bits(float32(frac)*(1.0/(1<<24)))
	}
	return sign | (exp+112)<<23 | frac<<13
}

// fromFloat32 rounds a float32 to type d: to nearest, ties to even. What is no
// number becomes one with the upper bits of its mantissa, or the quiet NaN
// without others if they are 0.
func fromFloat32(u uint32, d codec.DType) uint32 {
	switch d {
	case codec.BF16:
		if u&0x7fffffff > 0xff<<23 {
			return nan(u>>16, 0x7f, 0x40)
		}
		return (u + 0x7fff + u>>16&1) >> 16
	case codec.F16:
		return halfOfFloat32(u)
	}
	return u
}

// nan returns u if the bits of its mantissa are not all 0, or else sets quiet.
func nan(u, mantissa, quiet uint32) uint32 {
	if u&mantissa == 0 {
		return u | quiet
	}
	return u
}

func halfOfFloat32(u uint32) uint32 {
	sign, mag := u>>31<<15, u&0x7fffffff
	switch {
	case mag > 0xff<<23:
		return nan(sign|0x7c00|mag>>13&0x3ff, 0x3ff, 0x200)
	case mag >= 143<<23: // 2^16
		return sign | 0x7c00
	case mag >= 113<<23: // 2^-14
		mag -= 112 << 23
		return sign | (mag+0xfff+mag>>13&1)>>13 // may round up to infinity
	case mag < 102<<23: // 2^-25
		return sign
	}
	frac, shift := mag&(1<<23-1)|1<<23, 126-mag>>23
	return sign | (frac+1<<(shift-1)-1+frac>>shift&1)>>shift
}
