package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// fieldBytes is constant data for fields of 0 to 7 bits: 64 bytes for each.
func fieldBytes(name string, value func(bits, i int) int) Mem {
	m := GLOBL(name, 8|16) // RODATA|NOPTR
	for bits := range 8 {
		for i := range 64 {
			DATA(64*bits+i, U8(value(bits, i)))
		}
	}
	return m
}

// fieldArguments loads what both kernels need: the addresses, the number of
// groups of 64 fields, and for fields of bits: a register with bits, the mask of
// a group's packed bytes, fields' mask, their shift, and a row of table.
func fieldArguments(table Mem) (dst, src, n, bits reg.GPVirtual, group reg.OpmaskVirtual, mask, shift, row reg.VecVirtual) {
	dst, src, n, bits = GP64(), GP64(), GP64(), GP64()
	Load(Param("dst"), dst)
	Load(Param("src"), src)
	Load(Param("n"), n)
	Load(Param("bits"), bits)
	g, h := GP64(), GP64()
	group = K()
	MOVQ(I32(-1), g)
	LEAQ(Mem{Base: bits, Index: bits, Scale: 1}, h)
	LEAQ(Mem{Base: h, Index: h, Scale: 1}, h)
	SHLQ(Imm(1), h) // 8 bits, at most 56 of 64
	SHLXQ(h, g, g)
	NOTQ(g)
	KMOVQ(g, group)

	mask = ZMM()
	MOVQ(I32(-1), g)
	SHLXQ(bits, g, g)
	NOTQ(g)
	VPBROADCASTB(g.As32(), mask)

	shift = XMM()
	s := GP64()
	Load(Param("shift"), s)
	MOVQ(s, shift)

	row = ZMM()
	at := GP64()
	LEAQ(table, at)
	MOVQ(bits, h)
	SHLQ(Imm(6), h)
	VMOVDQU64(Mem{Base: at, Index: h, Scale: 1}, row)
	return dst, src, n, bits, group, mask, shift, row
}

// reversed is the bytes of a register from the last to the first.
func reversed() reg.VecVirtual {
	v := ZMM()
	VMOVDQU64(lanes("reverse", 1, func(i int) int { return 63 - i }), v)
	return v
}

// packKernel joins neighbours until a lane of 64 bits holds eight fields, and
// then moves the lanes' bytes together.
func packKernel() {
	TEXT("packAVX512", NOSPLIT, "func(dst, src *byte, n, bits, shift int)")
	Pragma("noescape")
	Doc("packAVX512 writes the fields of the n bytes at src, a multiple of 64 and not 0,",
		"to the n*bits/8 bytes at dst, from the last to the first.")
	gather := fieldBytes("gather", func(bits, i int) int {
		if i >= 8*bits {
			return 0
		}
		return i/bits*8 + i%bits
	})
	dst, src, n, bits, group, mask, shift, row := fieldArguments(gather)
	reverse := reversed()
	ADDQ(n, src)

	// Multipliers for pairs of 8 and of 16 bits, and the shift for 32.
	pair8, pair16, low32, shift4 := ZMM(), ZMM(), ZMM(), XMM()
	one, t := GP64(), GP64()
	MOVQ(U32(1), one)
	SHLXQ(bits, one, t)
	SHLQ(Imm(8), t)
	ORQ(one, t)
	VPBROADCASTW(t.As32(), pair8)
	SHLXQ(bits, one, t)
	SHLXQ(bits, t, t)
	SHLQ(Imm(16), t)
	ORQ(one, t)
	VPBROADCASTD(t.As32(), pair16)
	MOVL(U32(0xffffffff), t.As32())
	VPBROADCASTQ(t, low32)
	MOVQ(bits, t)
	SHLQ(Imm(2), t)
	MOVQ(t, shift4)
	step := GP64()
	MOVQ(bits, step)
	SHLQ(Imm(3), step)

	Label("loop")
	SUBQ(Imm(64), src)
	x, high := ZMM(), ZMM()
	VPERMB(Mem{Base: src}, reverse, x)
	VPSRLW(shift, x, x)
	VPANDQ(mask, x, x)
	VPMADDUBSW(x, pair8, x) // x is the signed one: fields are below 128
	VPMADDWD(pair16, x, x)
	VPSRLQ(Imm(32), x, high)
	VPSLLQ(shift4, high, high)
	VPTERNLOGQ(U8(0xf8), low32, x, high) // x&low32 | high
	VPERMB(high, row, high)
	VMOVDQU8(high, group, Mem{Base: dst})
	ADDQ(step, dst)
	SUBQ(Imm(64), n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// unpackKernel spreads the bytes over lanes of 64 bits, in each of which eight
// fields begin, and selects those.
func unpackKernel() {
	TEXT("unpackAVX512", NOSPLIT, "func(dst, src *byte, n, bits, shift int, base byte)")
	Pragma("noescape")
	Doc("unpackAVX512 undoes packAVX512, and adds base to every byte. It reads no more",
		"than n*bits/8 bytes.")
	spread := fieldBytes("spread", func(bits, i int) int { return min(i/8*bits+i%8, 63) })
	dst, src, n, bits, group, mask, shift, row := fieldArguments(spread)
	reverse := reversed()
	base, b := ZMM(), GP32()
	Load(Param("base"), b)
	VPBROADCASTB(b, base)
	// The positions 0, bits, 2*bits … of the fields in a lane.
	positions, t := ZMM(), GP64()
	MOVQ(U64(0x0706050403020100), t)
	IMULQ(bits, t)
	VPBROADCASTQ(t, positions)
	step := GP64()
	MOVQ(bits, step)
	SHLQ(Imm(3), step)
	ADDQ(n, dst)

	Label("loop")
	SUBQ(Imm(64), dst)
	x := ZMM()
	VMOVDQU8_Z(Mem{Base: src}, group, x)
	VPERMB(x, row, x)
	VPMULTISHIFTQB(x, positions, x)
	VPANDQ(mask, x, x)
	VPSLLW(shift, x, x)
	VPORQ(base, x, x)
	VPERMB(x, reverse, x)
	VMOVDQU64(x, Mem{Base: dst})
	ADDQ(step, src)
	SUBQ(Imm(64), n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// packBMI2Kernel takes the fields of eight bytes out by PEXT.
func packBMI2Kernel() {
	TEXT("packBMI2", NOSPLIT, "func(dst, src *byte, n, bits int, mask uint64)")
	Pragma("noescape")
	Doc("packBMI2 writes the fields of the n bytes at src, a multiple of 8 and not 0, to",
		"the n*bits/8 bytes at dst, from the last to the first. mask has the bits of",
		"eight fields. The 8 bytes after those may be overwritten too.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	bits := Load(Param("bits"), GP64())
	mask := Load(Param("mask"), GP64())
	x := GP64()
	Label("loop")
	MOVQ(Mem{Base: src, Index: n, Scale: 1, Disp: -8}, x)
	BSWAPQ(x)
	PEXTQ(mask, x, x)
	MOVQ(x, Mem{Base: dst})
	ADDQ(bits, dst)
	SUBQ(Imm(8), n)
	JNE(LabelRef("loop"))
	RET()
}

// unpackBMI2Kernel puts the fields of eight bytes in their places by PDEP.
func unpackBMI2Kernel() {
	TEXT("unpackBMI2", NOSPLIT, "func(dst, src *byte, n, bits int, mask, base uint64)")
	Pragma("noescape")
	Doc("unpackBMI2 undoes packBMI2, and adds base to every eight bytes. It reads at most",
		"8-bits bytes more than n*bits/8.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	bits := Load(Param("bits"), GP64())
	mask := Load(Param("mask"), GP64())
	base := Load(Param("base"), GP64())
	x := GP64()
	Label("loop")
	MOVQ(Mem{Base: src}, x)
	PDEPQ(mask, x, x)
	ORQ(base, x)
	BSWAPQ(x)
	MOVQ(x, Mem{Base: dst, Index: n, Scale: 1, Disp: -8})
	ADDQ(bits, src)
	SUBQ(Imm(8), n)
	JNE(LabelRef("loop"))
	RET()
}
