package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// flush stores the n bits in acc, less than 64, at out, and keeps those that are
// no whole byte.
func flush(out, acc, n reg.GPVirtual) {
	t := GP64()
	MOVQ(acc, Mem{Base: out})
	MOVQ(n, t)
	SHRQ(Imm(3), t)
	ADDQ(t, out)
	MOVQ(n, t)
	ANDQ(I8(-8), t)
	SHRXQ(t, acc, acc)
	ANDL(Imm(7), n.As32())
}

// encodeScalarKernel appends five codes to the word between stores: at most 7
// bits stay, and 55 follow.
func encodeScalarKernel() {
	TEXT("encodeStreamBMI2", NOSPLIT, "func(dst, src *byte, n int, codes *uint16) (length int, acc uint64, accBits int)")
	Pragma("noescape")
	Doc("encodeStreamBMI2 is encodeStreamAVX512 for n a multiple of 5 and not 0. codes are",
		"a code and its length for each byte value.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	left := Load(Param("n"), GP64())
	codes := Load(Param("codes"), GP64())
	out := GP64()
	MOVQ(dst, out)
	acc, n := GP64(), GP64()
	XORQ(acc, acc)
	XORQ(n, n)
	Label("loop")
	for k := 1; k <= 5; k++ {
		x, code, bits := GP64(), GP64(), GP64()
		MOVBQZX(Mem{Base: src, Index: left, Scale: 1, Disp: -k}, x)
		MOVWQZX(Mem{Base: codes, Index: x, Scale: 4}, code)
		MOVWQZX(Mem{Base: codes, Index: x, Scale: 4, Disp: 2}, bits)
		SHLXQ(n, code, code)
		ORQ(code, acc)
		ADDQ(bits, n)
	}
	flush(out, acc, n)
	SUBQ(Imm(5), left)
	JNE(LabelRef("loop"))
	SUBQ(dst, out)
	Store(out, Return("length"))
	Store(acc, Return("acc"))
	Store(n, Return("accBits"))
	RET()
}

// encodeKernel looks up the codes of 64 bytes at a time, and concatenates those
// of 2, 4 and 8 neighbours in vector registers. What remains for general
// registers is to append 8 codes at a time to the stream.
func encodeKernel() {
	TEXT("encodeStreamAVX512", NOSPLIT, "func(dst, src *byte, n int, table *[512]byte) (length int, acc uint64, accBits int)")
	Pragma("noescape")
	Doc("encodeStreamAVX512 writes the codes of the n bytes at src, a multiple of 64 and",
		"not 0, to dst, from the last to the first. It returns the number of whole bytes",
		"written, and the at most 7 bits that follow them. The 8 bytes after those may be",
		"overwritten too. Every byte has a code.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	ptr := Load(Param("n"), GP64())
	table := Load(Param("table"), GP64())
	ADDQ(src, ptr)

	code := loadTable(Mem{Base: table})
	bits := loadTable(Mem{Base: table, Disp: 256})
	reverse := reversed()
	constant := func(width int, v uint64) reg.VecVirtual {
		z, g := ZMM(), GP64()
		MOVQ(U64(v), g)
		switch width {
		case 1:
			VPBROADCASTB(g.As32(), z)
		case 2:
			VPBROADCASTW(g.As32(), z)
		case 4:
			VPBROADCASTD(g.As32(), z)
		default:
			VPBROADCASTQ(g, z)
		}
		return z
	}
	low4 := constant(1, 15)
	ones8 := constant(1, 1)
	ones16 := constant(2, 1)
	low8of16 := constant(2, 0xff)
	low16of32 := constant(4, 0xffff)
	low32of64 := constant(8, 0xffffffff)
	most := constant(8, 56)
	zero := ZMM()
	VPXORQ(zero, zero, zero)

	local := AllocLocal(4 * 64)
	out := GP64()
	MOVQ(dst, out)
	acc, n := GP64(), GP64()
	XORQ(acc, acc)
	XORQ(n, n)

	// put appends the codes at one place in local, their number of bits at
	// another. At most 7 bits stay, so they may have 56:
	// a shift by 64 would be none.
	put := func(codes, lens int) {
		v := GP64()
		SHLXQ(n, local.Offset(codes), v)
		ORQ(v, acc)
		ADDQ(local.Offset(lens), n)
		flush(out, acc, n)
	}

	Label("loop")
	SUBQ(Imm(64), ptr)
	x := ZMM()
	VPERMB(Mem{Base: ptr}, reverse, x) // the first to write comes first
	upper := K()
	VPMOVB2M(x, upper)
	lo := code.lookUp(x, upper)
	len1 := bits.lookUp(x, upper)
	hi := ZMM()
	VPSRLW(Imm(4), len1, hi)
	VPANDQ(low4, hi, hi)
	VPANDQ(low4, len1, len1)

	// Lengths of 2, 4 and 8.
	len2, len4, len8 := ZMM(), ZMM(), ZMM()
	VPMADDUBSW(ones8, len1, len2)
	VPMADDWD(ones16, len2, len4)
	VPSADBW(zero, len1, len8)
	long := K()
	VPCMPUQ(U8(6), most, len8, long) // not less or equal

	// join makes pairs of lanes one: the second, shifted by the length of the
	// first, over the first.
	join := func(v, lens, mask reg.VecVirtual, shr, sllv func(...Op), width uint64) {
		second := ZMM()
		shr(Imm(width), v, second)
		sllv(lens, second, second)
		VPTERNLOGQ(U8(0xf8), mask, v, second) // v&mask | second
		VMOVDQA64(second, v)
	}
	// Unpacking takes the lanes of each 128 bits apart: lower holds 0 to 7 of 16,
	// higher 8 to 15.
	lower, higher := ZMM(), ZMM()
	VPUNPCKLBW(hi, lo, lower)
	VPUNPCKHBW(hi, lo, higher)

	first, a, b := ZMM(), ZMM(), ZMM()
	VPANDQ(low8of16, len1, first)
	VPUNPCKLWD(zero, first, a)
	VPUNPCKHWD(zero, first, b)
	join(lower, a, low16of32, VPSRLD, VPSLLVD, 16)
	join(higher, b, low16of32, VPSRLD, VPSLLVD, 16)

	VPANDQ(low16of32, len2, first)
	VPUNPCKLDQ(zero, first, a)
	VPUNPCKHDQ(zero, first, b)
	join(lower, a, low32of64, VPSRLQ, VPSLLVQ, 32)
	join(higher, b, low32of64, VPSRLQ, VPSLLVQ, 32)

	four, next := ZMM(), ZMM() // codes of 0 to 3 and of 4 to 7
	VPUNPCKLQDQ(higher, lower, four)
	VPUNPCKHQDQ(higher, lower, next)
	lenFour := ZMM()
	VPANDQ(low32of64, len4, lenFour)
	KORTESTB(long, long)
	JNE(LabelRef("long"))

	VPSLLVQ(lenFour, next, next)
	VPORQ(four, next, next)
	VMOVDQU64(next, local)
	VMOVDQU64(len8, local.Offset(64))
	for k := range 8 {
		put(8*k, 64+8*k)
	}
	CMPQ(ptr, src)
	JA(LabelRef("loop"))
	JMP(LabelRef("done"))

	// Some eight codes have more than 56 bits: append four at a time.
	Label("long")
	VPSRLQ(Imm(32), len4, len4)
	VMOVDQU64(four, local)
	VMOVDQU64(lenFour, local.Offset(64))
	VMOVDQU64(next, local.Offset(128))
	VMOVDQU64(len4, local.Offset(192))
	for k := range 8 {
		put(8*k, 64+8*k)
		put(128+8*k, 192+8*k)
	}
	CMPQ(ptr, src)
	JA(LabelRef("loop"))

	Label("done")
	SUBQ(dst, out)
	Store(out, Return("length"))
	Store(acc, Return("acc"))
	Store(n, Return("accBits"))
	VZEROUPPER()
	RET()
}
