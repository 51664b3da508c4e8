package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A tier is a set of vector instructions: how a register is made, loaded and
// stored, its lanes rotated, and two registers interleaved and separated.
type tier struct {
	name  string
	bytes int // in a register
	reg   func() reg.VecVirtual
	load  func(from, to Op)
	// rotater returns a function that rotates the lanes of width bytes of a
	// register left by rot bits.
	rotater func(width int, rot reg.GPVirtual) func(v reg.VecVirtual)
	// separater returns a function that moves the even lanes of width bytes of a
	// and b, in this order, to a, and their odd ones to b.
	separater func(width int) func(a, b reg.VecVirtual)
	// interleaver returns a function that undoes a separater's.
	interleaver func(width int) func(a, b reg.VecVirtual)
}

var avx512 = tier{
	name:  "AVX512",
	bytes: 64,
	reg:   ZMM,
	load:  func(from, to Op) { VMOVDQU64(from, to) },
	rotater: func(width int, rot reg.GPVirtual) func(reg.VecVirtual) {
		switch width {
		case 4:
			count := ZMM()
			VPBROADCASTD(rot.As32(), count)
			return func(v reg.VecVirtual) { VPROLVD(count, v, v) }
		case 8:
			count := ZMM()
			VPBROADCASTQ(rot, count)
			return func(v reg.VecVirtual) { VPROLVQ(count, v, v) }
		}
		left, right := shiftCounts(width, rot)
		t := ZMM()
		return func(v reg.VecVirtual) {
			VPSRLW(right, v, t)
			VPSLLW(left, v, v)
			VPORQ(t, v, v)
		}
	},
	separater: func(width int) func(a, b reg.VecVirtual) {
		even, odd := ZMM(), ZMM()
		VMOVDQU64(lanes(fmt.Sprintf("even%d", width), width, func(i int) int { return 2 * i }), even)
		VMOVDQU64(lanes(fmt.Sprintf("odd%d", width), width, func(i int) int { return 2*i + 1 }), odd)
		return permuter(width, even, odd)
	},
	interleaver: func(width int) func(a, b reg.VecVirtual) {
		low, high := ZMM(), ZMM()
		n := 64 / width
		VMOVDQU64(lanes(fmt.Sprintf("low%d", width), width, func(i int) int { return i/2 + i%2*n }), low)
		VMOVDQU64(lanes(fmt.Sprintf("high%d", width), width, func(i int) int { return n/2 + i/2 + i%2*n }), high)
		return permuter(width, low, high)
	},
}

// permuter returns a function that sets a and b to the lanes of a and b, taken
// together, that first and second select.
func permuter(width int, first, second reg.VecVirtual) func(a, b reg.VecVirtual) {
	permute := map[int]func(...Op){1: VPERMT2B, 2: VPERMT2W, 4: VPERMT2D}[width]
	t := ZMM()
	return func(a, b reg.VecVirtual) {
		VMOVDQA64(a, t)
		permute(b, first, a)
		permute(b, second, t)
		VMOVDQA64(t, b)
	}
}

var lanesMade = map[string]Mem{}

// lanes is constant data: a register with lanes of width bytes.
func lanes(name string, width int, value func(i int) int) Mem {
	if m, ok := lanesMade[name]; ok {
		return m
	}
	m := GLOBL(name, 8|16) // RODATA|NOPTR
	for i := range 64 / width {
		switch width {
		case 1:
			DATA(i, U8(value(i)))
		case 2:
			DATA(2*i, U16(value(i)))
		default:
			DATA(4*i, U32(value(i)))
		}
	}
	lanesMade[name] = m
	return m
}

var avx2 = tier{
	name:  "AVX2",
	bytes: 32,
	reg:   YMM,
	load:  func(from, to Op) { VMOVDQU(from, to) },
	rotater: func(width int, rot reg.GPVirtual) func(reg.VecVirtual) {
		left, right := shiftCounts(width, rot)
		shl := map[int]func(...Op){2: VPSLLW, 4: VPSLLD, 8: VPSLLQ}[width]
		shr := map[int]func(...Op){2: VPSRLW, 4: VPSRLD, 8: VPSRLQ}[width]
		return func(v reg.VecVirtual) {
			t := YMM()
			shr(right, v, t)
			shl(left, v, v)
			VPOR(t, v, v)
		}
	},
	separater: func(width int) func(a, b reg.VecVirtual) {
		const order = 0b11_01_10_00 // undoes what packing within halves does
		if width == 4 {
			return func(a, b reg.VecVirtual) {
				t := YMM()
				VSHUFPS(U8(0b11_01_11_01), b, a, t)
				VSHUFPS(U8(0b10_00_10_00), b, a, a)
				VPERMQ(U8(order), a, a)
				VPERMQ(U8(order), t, b)
			}
		}
		mask := YMM()
		VPCMPEQB(mask, mask, mask)
		shift, pack := VPSRLW, VPACKUSWB
		if width == 2 {
			shift, pack = VPSRLD, VPACKUSDW
		}
		shift(U8(8*width), mask, mask)
		return func(a, b reg.VecVirtual) {
			t, u := YMM(), YMM()
			shift(U8(8*width), a, t)
			shift(U8(8*width), b, u)
			VPAND(mask, a, a)
			VPAND(mask, b, b)
			pack(b, a, a)
			pack(u, t, t)
			VPERMQ(U8(order), a, a)
			VPERMQ(U8(order), t, b)
		}
	},
	interleaver: func(width int) func(a, b reg.VecVirtual) {
		low := map[int]func(...Op){1: VPUNPCKLBW, 2: VPUNPCKLWD, 4: VPUNPCKLDQ}[width]
		high := map[int]func(...Op){1: VPUNPCKHBW, 2: VPUNPCKHWD, 4: VPUNPCKHDQ}[width]
		return func(a, b reg.VecVirtual) {
			t := YMM()
			low(b, a, t)
			high(b, a, b)
			VPERM2I128(U8(0x20), b, t, a)
			VPERM2I128(U8(0x31), b, t, b)
		}
	},
}

// shiftCounts returns rot and the rest of a lane's bits, for shifts of lanes by
// a register. Such shifts by a whole lane give 0.
func shiftCounts(width int, rot reg.GPVirtual) (left, right reg.VecVirtual) {
	left, right = XMM(), XMM()
	rest := GP64()
	MOVQ(U32(8*width), rest)
	SUBQ(rot, rest)
	MOVQ(rot, left)
	MOVQ(rest, right)
	return left, right
}
