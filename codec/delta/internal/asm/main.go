// Command asm writes the assembly kernels of package delta. It is a module of its
// own, so that package delta does not depend on the assembler. From the directory
// of package delta:
//
//	go generate
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	orderKernel("order", false)
	orderKernel("unorder", true)
	addKernel()
	measureKernel()
	symbolsKernel()
	Generate()
}

// broadcast returns a register whose 16 lanes are v.
func broadcast(v uint32) reg.VecVirtual {
	g, z := GP32(), ZMM()
	MOVL(U32(v), g)
	VPBROADCASTD(g, z)
	return z
}

// orderKernel maps 32 elements at a time. Those whose sign is set change all bits
// when ordered, and those whose sign is not set when ordered back; others only
// the sign.
func orderKernel(name string, back bool) {
	TEXT(name+"AVX512", NOSPLIT, "func(dst, src *uint16, n int)")
	Pragma("noescape")
	Doc(name + "AVX512 sets n elements at dst, a multiple of 32 and not 0, to " + name + " of those at src.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	top, ones := broadcast(0x80008000), broadcast(0xffffffff)
	i := GP64()
	XORQ(i, i)
	Label("loop")
	x, sign := ZMM(), ZMM()
	VMOVDQU16(Mem{Base: src, Index: i, Scale: 2}, x)
	VPSRAW(U8(15), x, sign)
	if back {
		VPXORD(ones, sign, sign)
	}
	VPORD(top, sign, sign)
	VPXORD(sign, x, x)
	VMOVDQU16(x, Mem{Base: dst, Index: i, Scale: 2})
	ADDQ(Imm(32), i)
	CMPQ(i, n)
	JB(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// addKernel works on 32 elements at a time.
func addKernel() {
	TEXT("addAVX512", NOSPLIT, "func(guess *uint16, syms, move *uint8, n int)")
	Pragma("noescape")
	Doc("addAVX512 is addDirectGo for n elements, a multiple of 32 and not 0.")
	guess := Load(Param("guess"), GP64())
	syms := Load(Param("syms"), GP64())
	move := Load(Param("move"), GP64())
	n := Load(Param("n"), GP64())
	zero, one := ZMM(), broadcast(0x00010001)
	VPXORD(zero, zero, zero)
	i := GP64()
	XORQ(i, i)
	Label("loop")
	z, low, sign, o := ZMM(), ZMM(), ZMM(), ZMM()
	VPMOVZXBW(Mem{Base: syms, Index: i, Scale: 1}, z)
	VPANDD(one, z, low)
	VPSUBW(low, zero, low)
	VPSRLW(U8(1), z, z)
	VPXORD(low, z, z)
	VPMOVSXBW(Mem{Base: move, Index: i, Scale: 1}, sign)
	VPSRAW(U8(15), sign, sign)
	VPXORD(sign, z, z)
	VPSUBW(sign, z, z)
	VMOVDQU16(Mem{Base: guess, Index: i, Scale: 2}, o)
	VPADDW(z, o, o)
	VMOVDQU16(o, Mem{Base: guess, Index: i, Scale: 2})
	ADDQ(Imm(32), i)
	CMPQ(i, n)
	JB(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// measureKernel works on 16 elements at a time, each in a lane of 32 bits.
func measureKernel() {
	TEXT("measureAVX512", NOSPLIT, "func(base, before, earlier, guess *uint16, exponent, move, trend *uint8, acts *uint32, gains *[64]int32, mantissa, first int) uint64")
	Pragma("noescape")
	Doc("measureAVX512 is measureBlockGo for a block of 128 elements of two bytes. gains are",
		"the first gains and then the second ones.")
	pointers := map[string]reg.Register{}
	for _, name := range []string{"base", "before", "earlier", "guess", "exponent", "move", "trend", "acts"} {
		pointers[name] = Load(Param(name), GP64())
	}
	gains := Load(Param("gains"), GP64())
	shift, first := XMM(), ZMM()
	MOVQ(Load(Param("mantissa"), GP64()), shift)
	VPBROADCASTD(Load(Param("first"), GP64()).(reg.GPVirtual).As32(), first)
	var gain [4]reg.VecVirtual
	for k := range gain {
		gain[k] = ZMM()
		VMOVDQU32(Mem{Base: gains, Disp: 64 * k}, gain[k])
	}
	zero := ZMM()
	VPXORD(zero, zero, zero)
	ones, magnitude := broadcast(0xffffffff), broadcast(0x7fff)
	thirtyOne, thirtyTwo, most, twelve := broadcast(31), broadcast(32), broadcast(4095), broadcast(12)
	down, seven, minusSeven, eight, sixteen, four, one := broadcast(0x80), broadcast(7), broadcast(0xfffffff9), broadcast(8), broadcast(16), broadcast(4), broadcast(1)
	sum := ZMM()
	VPXORQ(sum, sum, sum)
	i := GP64()
	XORQ(i, i)
	at := func(name string, scale uint8) Mem {
		return Mem{Base: pointers[name], Index: i, Scale: scale}
	}

	Label("loop")
	o, p, q := ZMM(), ZMM(), ZMM()
	VPMOVZXWD(at("base", 2), o)
	VPMOVZXWD(at("before", 2), p)
	VPMOVZXWD(at("earlier", 2), q)

	e := ZMM()
	VPSLLD(U8(16), o, e)
	VPSRAD(U8(31), e, e)
	VPXORD(ones, e, e)
	VPXORD(o, e, e)
	VPANDD(magnitude, e, e)
	VPSRLD(shift, e, e)
	VPSUBD(first, e, e)
	VPMAXSD(zero, e, e)
	VPMINSD(thirtyOne, e, e)

	step, last, sign := ZMM(), ZMM(), ZMM()
	VPSUBD(p, o, step)
	VPSUBD(q, p, last)
	VMOVDQA32(step, sign)
	stayed := K()
	VPTESTNMD(step, step, stayed)
	VMOVDQA32(last, stayed, sign)
	VPSRAD(U8(31), sign, sign)
	for _, v := range []reg.VecVirtual{step, last} {
		VPXORD(sign, v, v)
		VPSUBD(sign, v, v)
	}

	// A shift by a negative number of bits, which is a great one, gives 0.
	act, bits, right := ZMM(), ZMM(), ZMM()
	VPMINUD(most, step, act)
	VPSUBD(e, twelve, bits)
	VPSRLVD(bits, act, right)
	VPSUBD(twelve, e, bits)
	VPSLLVD(bits, act, act)
	VPORD(right, act, act)
	VMOVDQU32(act, at("acts", 4))
	VPSRLQ(U8(32), act, right)
	VPADDQ(right, sum, sum)
	VPSLLQ(U8(32), act, act)
	VPSRLQ(U8(32), act, act)
	VPADDQ(act, sum, sum)

	length, second, m := ZMM(), ZMM(), ZMM()
	VPLZCNTD(step, length)
	VPSUBD(length, thirtyTwo, length)
	VPSLLD(U8(2), step, second)
	VPSRLVD(length, second, second)
	VPANDD(one, second, second)
	VPADDD(length, length, m)
	VPADDD(second, m, m)
	VPANDD(down, sign, length)
	VPORD(length, m, m)
	VPMOVDB(m, at("move", 1))

	t := ZMM()
	VPMINSD(seven, last, t)
	VPMAXSD(minusSeven, t, t)
	VPADDD(eight, t, t)
	VPMOVDB(t, at("trend", 1))

	x, y := ZMM(), ZMM()
	VMOVDQA32(e, x)
	VPERMI2D(gain[1], gain[0], x)
	VMOVDQA32(e, y)
	VPERMI2D(gain[3], gain[2], y)
	VPMULLD(step, x, x)
	VPMULLD(last, y, y)
	VPADDD(y, x, x)
	VPADDD(sixteen, x, x)
	VPSRAD(U8(5), x, x)
	VPXORD(sign, x, x)
	VPSUBD(sign, x, x)
	far := K()
	VPCMPUD(U8(5), four, step, far) // not less
	VPADDD(x, o, far, o)
	VPMOVDW(o, at("guess", 2))

	moved := K()
	VPTESTMD(step, step, moved)
	VPORD(thirtyTwo, e, moved, e)
	VPMOVDB(e, at("exponent", 1))

	ADDQ(Imm(16), i)
	CMPQ(i, Imm(128))
	JB(LabelRef("loop"))

	// The sum of the eight lanes.
	half := YMM()
	VEXTRACTI64X4(U8(1), sum, half)
	VPADDQ(half, sum.AsY(), half)
	quarter := XMM()
	VEXTRACTI128(U8(1), half, quarter)
	VPADDQ(quarter, half.AsX(), quarter)
	other, total := GP64(), GP64()
	MOVQ(quarter, total)
	VPEXTRQ(U8(1), quarter, other)
	ADDQ(other, total)
	Store(total, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// symbolsKernel decodes a symbol of each state in turn. The states are in memory:
// each waits for its own last step only.
func symbolsKernel() {
	TEXT("symbolsAMD64", NOSPLIT, "func(syms, classes *uint8, entries *uint32, coded *byte, x *[8]uint32, rounds, avail int) (left, rest int)")
	Pragma("noescape")
	Doc("symbolsAMD64 decodes 8 symbols in each of at most rounds rounds, more than 0, as long",
		"as 16 of the avail bytes at coded are left. It returns the rounds and bytes left.")
	syms := Load(Param("syms"), GP64())
	classes := Load(Param("classes"), GP64())
	entries := Load(Param("entries"), GP64())
	coded := Load(Param("coded"), GP64())
	x := Load(Param("x"), GP64())
	rounds := Load(Param("rounds"), GP64())
	end := Load(Param("avail"), GP64())
	ADDQ(coded, end)
	limit := GP64()
	LEAQ(Mem{Base: end, Disp: -16}, limit)
	Label("loop")
	CMPQ(coded, limit)
	JA(LabelRef("done"))
	for k := range 8 {
		s, slot, t, class, word := GP64(), GP64(), GP64(), GP64(), GP64()
		MOVL(Mem{Base: x, Disp: 4 * k}, s.As32())
		MOVBLZX(Mem{Base: classes, Disp: k}, class.As32())
		SHLL(Imm(12), class.As32())
		MOVL(s.As32(), slot.As32())
		ANDL(U32(4095), slot.As32())
		ORL(class.As32(), slot.As32())
		MOVL(Mem{Base: entries, Index: slot, Scale: 4}, t.As32())
		SHRL(Imm(12), s.As32())
		freq := GP64()
		MOVL(t.As32(), freq.As32())
		ANDL(U32(1<<13-1), freq.As32())
		IMULL(freq.As32(), s.As32())
		MOVL(t.As32(), freq.As32())
		SHRL(Imm(25), t.As32())
		MOVB(t.As8(), Mem{Base: syms, Disp: k})
		SHRL(Imm(13), freq.As32())
		ANDL(U32(4095), freq.As32())
		ADDL(freq.As32(), s.As32())
		MOVWLZX(Mem{Base: coded}, word.As32())
		MOVL(s.As32(), t.As32())
		SHLL(Imm(16), t.As32())
		ORL(word.As32(), t.As32())
		// Below 2^16 a state takes up a word.
		shift := GP64()
		CMPL(s.As32(), U32(1<<16))
		CMOVLCS(t.As32(), s.As32())
		SBBQ(shift, shift)
		ADDQ(shift, shift)
		SUBQ(shift, coded)
		MOVL(s.As32(), Mem{Base: x, Disp: 4 * k})
	}
	ADDQ(Imm(8), syms)
	ADDQ(Imm(8), classes)
	DECQ(rounds)
	JNE(LabelRef("loop"))
	Label("done")
	SUBQ(coded, end)
	Store(rounds, Return("left"))
	Store(end, Return("rest"))
	RET()
}
