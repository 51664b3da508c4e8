// Command asm writes the assembly kernels of package delta. It is a module of its
// own, so that package delta does not depend on the assembler. From the directory
// of package delta:
//
//	go generate
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	for _, w := range []int{16, 32} {
		orderKernel("order", w, false)
		orderKernel("unorder", w, true)
	}
	addKernel16()
	addKernel32()
	for _, k := range []kind{bf16, f16, f32} {
		measureKernel(k)
	}
	cellsKernel()
	symbolsVectorKernel()
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

var constants = map[uint32]Mem{}

// constant returns where v is in memory.
func constant(v uint32) Mem {
	if _, ok := constants[v]; !ok {
		constants[v] = ConstData(fmt.Sprintf("constant%x", v), U32(v))
	}
	return constants[v]
}

// orderKernel maps 64 bytes at a time. Elements whose sign is set change all bits
// when ordered, and those whose sign is not set when ordered back; others only
// the sign.
func orderKernel(name string, width int, back bool) {
	full := fmt.Sprintf("%s%dAVX512", name, width)
	TEXT(full, NOSPLIT, fmt.Sprintf("func(dst, src *uint%d, n int)", width))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s sets n elements at dst, a multiple of %d and not 0, to %s of those at src.", full, 512/width, name))
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	top, ones := broadcast(0x80008000), broadcast(0xffffffff)
	if width == 32 {
		top = broadcast(0x80000000)
	}
	i := GP64()
	XORQ(i, i)
	Label("loop")
	x, sign := ZMM(), ZMM()
	VMOVDQU32(Mem{Base: src, Index: i, Scale: uint8(width / 8)}, x)
	if width == 16 {
		VPSRAW(U8(15), x, sign)
	} else {
		VPSRAD(U8(31), x, sign)
	}
	if back {
		VPXORD(ones, sign, sign)
	}
	VPORD(top, sign, sign)
	VPXORD(sign, x, x)
	VMOVDQU32(x, Mem{Base: dst, Index: i, Scale: uint8(width / 8)})
	ADDQ(Imm(uint64(512/width)), i)
	CMPQ(i, n)
	JB(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// addKernel16 works on 32 elements at a time.
func addKernel16() {
	TEXT("add16AVX512", NOSPLIT, "func(guess *uint16, syms, move *uint8, n int)")
	Pragma("noescape")
	Doc("add16AVX512 is addDirectGo for n elements, a multiple of 32 and not 0.")
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

// addKernel32 works on 16 elements at a time.
func addKernel32() {
	TEXT("add32AVX512", NOSPLIT, "func(guess *uint32, syms, move *uint8, n int)")
	Pragma("noescape")
	Doc("add32AVX512 is addDirectGo for n elements, a multiple of 16 and not 0.")
	guess := Load(Param("guess"), GP64())
	syms := Load(Param("syms"), GP64())
	move := Load(Param("move"), GP64())
	n := Load(Param("n"), GP64())
	zero, one := ZMM(), broadcast(1)
	VPXORD(zero, zero, zero)
	i := GP64()
	XORQ(i, i)
	Label("loop")
	z, low, sign := ZMM(), ZMM(), ZMM()
	VPMOVZXBD(Mem{Base: syms, Index: i, Scale: 1}, z)
	VPANDD(one, z, low)
	VPSUBD(low, zero, low)
	VPSRLD(U8(1), z, z)
	VPXORD(low, z, z)
	VPMOVSXBD(Mem{Base: move, Index: i, Scale: 1}, sign)
	VPSRAD(U8(31), sign, sign)
	VPXORD(sign, z, z)
	VPSUBD(sign, z, z)
	VPADDD(Mem{Base: guess, Index: i, Scale: 4}, z, z)
	VMOVDQU32(z, Mem{Base: guess, Index: i, Scale: 4})
	ADDQ(Imm(16), i)
	CMPQ(i, n)
	JB(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// A kind is a type of elements.
type kind struct {
	name            string
	width, mantissa int
	moves           uint32
}

var (
	bf16 = kind{"bf16", 16, 7, 48}
	f16  = kind{"f16", 16, 10, 48}
	f32  = kind{"f32", 32, 23, 64}
)

// load returns the bits of 16 elements, each in a lane of 32 bits, and their
// values.
func (k kind) load(m Mem) (raw, value reg.VecVirtual) {
	raw, value = ZMM(), ZMM()
	switch k.name {
	case "bf16":
		VPMOVZXWD(m, raw)
		VPSLLD(U8(16), raw, value)
	case "f16":
		VPMOVZXWD(m, raw)
		VCVTPH2PS(m, value)
	default:
		VMOVDQU32(m, raw)
		return raw, raw
	}
	return raw, value
}

// guess stores 16 ordinals: of the values x in the lanes of far, or else of raw.
func (k kind) guess(raw, x reg.VecVirtual, far reg.Register, m Mem, one reg.VecVirtual) {
	u, sign := ZMM(), ZMM()
	VMOVDQA32(raw, u)
	switch k.name {
	case "bf16":
		r := ZMM()
		VPSRLD(U8(16), x, r)
		VPANDD(one, r, r)
		VPADDD(x, r, r)
		VPADDD_BCST(constant(0x7fff), r, r)
		VPSRLD(U8(16), r, far, u)
	case "f16":
		VCVTPS2PH(U8(0), x, sign.AsY()) // to nearest, ties to even
		VPMOVZXWD(sign.AsY(), far, u)
	default:
		VMOVDQA32(x, far, u)
	}
	if k.width == 32 {
		VPSRAD(U8(31), u, sign)
		VPORD_BCST(constant(0x80000000), sign, sign)
		VPXORD(sign, u, u)
		VMOVDQU32(u, m)
		return
	}
	VPSLLD(U8(16), u, sign)
	VPSRAD(U8(31), sign, sign)
	VPORD_BCST(constant(0x8000), sign, sign)
	VPXORD(sign, u, u)
	VPMOVDW(u, m)
}

// Comparisons, for VCMPPS.
const (
	equal    = 0
	less     = 1
	notEqual = 4
	notLess  = 13 // and not unordered
)

// measureKernel works on 16 elements at a time, each in a lane of 32 bits.
func measureKernel(k kind) {
	TEXT("measure"+k.name+"AVX512", NOSPLIT, "func(bases *[3]*byte, guess *byte, exponent, move, trend *uint8, columns *uint64, gains *[64]float32, first int, scale float32) uint32")
	Pragma("noescape")
	Doc("measure" + k.name + "AVX512 is measureBlockGo for a block of 128 elements.")
	list := Load(Param("bases"), GP64())
	var bases [3]reg.Register
	for i := range bases {
		bases[i] = GP64()
		MOVQ(Mem{Base: list, Disp: 8 * i}, bases[i])
	}
	pointers := map[string]reg.Register{}
	for _, name := range []string{"guess", "exponent", "move", "trend", "columns"} {
		pointers[name] = Load(Param(name), GP64())
	}
	gains := Load(Param("gains"), GP64())
	first, scale, inverse := ZMM(), ZMM(), ZMM()
	scalar := Load(Param("scale"), XMM())
	VBROADCASTSS(scalar.(reg.VecVirtual), scale)
	lowest := Load(Param("first"), GP64()).(reg.GPVirtual)
	VPBROADCASTD(lowest.As32(), first)
	NEGQ(lowest)
	ADDQ(U32(uint32(254+k.mantissa)), lowest)
	VPBROADCASTD(lowest.As32(), inverse) // less e, the exponent of units
	var gain [4]reg.VecVirtual
	for i := range gain {
		gain[i] = ZMM()
		VMOVUPS(Mem{Base: gains, Disp: 64 * i}, gain[i])
	}
	zero := ZMM()
	VPXORD(zero, zero, zero)
	infinity, magnitude, minus := broadcast(0x7f800000), broadcast(0x7fffffff), broadcast(0x80000000)
	thirtyOne, thirtyTwo, one := broadcast(31), broadcast(32), broadcast(1)
	most, four := broadcast(0x4b800000), broadcast(0x40800000) // 2^24, 4
	sum := ZMM()
	VPXORD(sum, sum, sum)
	i := GP64()
	XORQ(i, i)
	at := func(name string, scale uint8) Mem {
		return Mem{Base: pointers[name], Index: i, Scale: scale}
	}
	size := uint8(k.width / 8)

	Label("loop")
	raw, v := k.load(Mem{Base: bases[0], Index: i, Scale: size})
	_, p := k.load(Mem{Base: bases[1], Index: i, Scale: size})
	_, q := k.load(Mem{Base: bases[2], Index: i, Scale: size})
	step, last, abs := ZMM(), ZMM(), ZMM()
	isFinite := K()
	for _, d := range []struct{ a, b, to reg.VecVirtual }{{v, p, step}, {p, q, last}} {
		VSUBPS(d.b, d.a, d.to)
		VPANDD(magnitude, d.to, abs)
		VPCMPD(U8(1), infinity, abs, isFinite) // less
		VMOVAPS_Z(d.to, isFinite, d.to)
	}
	down, lastDown := K(), K()
	VCMPPS(U8(equal), zero, step, lastDown)
	VCMPPS(U8(less), zero, last, lastDown, lastDown)
	VCMPPS(U8(less), zero, step, down)
	KORW(lastDown, down, down)
	VPXORD(minus, step, down, step)
	VPXORD(minus, last, down, last)

	exponentOf := func(v reg.VecVirtual) reg.VecVirtual {
		e := ZMM()
		VPSLLD(U8(1), v, e)
		VPSRLD(U8(24), e, e)
		VPSUBD(first, e, e)
		VPMAXSD(zero, e, e)
		VPMINSD(thirtyOne, e, e)
		return e
	}
	unitsOf := func(e reg.VecVirtual) reg.VecVirtual {
		u := ZMM()
		VPSUBD(e, inverse, u)
		VPSLLD(U8(23), u, u)
		return u
	}
	e := exponentOf(v)
	units := unitsOf(e)
	far, x, y := K(), ZMM(), ZMM()
	VMULPS(units, step, x)
	VCMPPS(U8(notLess), four, x, far)
	VMOVDQA32(e, x)
	VPERMI2PS(gain[1], gain[0], x)
	VMOVDQA32(e, y)
	VPERMI2PS(gain[3], gain[2], y)
	VMULPS(step, x, x)
	VMULPS(last, y, y)
	VADDPS(y, x, x)
	VCMPPS(U8(notEqual), zero, x, far, far)
	VPXORD(minus, x, down, x)
	VADDPS(x, v, x)
	VPANDD(magnitude, x, abs)
	VPCMPD(U8(1), infinity, abs, far, far)
	next := ZMM()
	VMOVDQA32(v, next)
	VMOVDQA32(x, far, next)
	k.guess(raw, x, far, at("guess", size), one)

	e = exponentOf(next)
	units = unitsOf(e)
	moved := K()
	VCMPPS(U8(notEqual), zero, step, moved)
	m := ZMM()
	VMULPS(units, step, m)
	VPSRLD(U8(22), m, m)
	VPSUBD_BCST(constant(2*127-2), m, m)
	VPMAXSD(one, m, m)
	VPMINSD_BCST(constant(k.moves-1), m, m)
	VMOVDQA32_Z(m, moved, m)
	VPORD_BCST(constant(0x80), m, down, m)
	VPMOVDB(m, at("move", 1))
	t := ZMM()
	VMULPS(units, last, t)
	VMINPS_BCST(constant(0x40e00000), t, t)
	VMAXPS_BCST(constant(0xc0e00000), t, t)
	VCVTTPS2DQ(t, t)
	VPADDD_BCST(constant(8), t, t)
	VPMOVDB(t, at("trend", 1))
	VPORD(thirtyTwo, e, moved, e)
	VPMOVDB(e, at("exponent", 1))

	act, wide := ZMM(), ZMM()
	VMULPS(scale, step, act)
	VMINPS(most, act, act)
	VCVTTPS2DQ(act, act)
	VPADDD(act, sum, sum)
	for half := range 2 {
		m := at("columns", 8)
		m.Disp = 64 * half
		if half == 1 {
			VEXTRACTI64X4(U8(1), act, act.AsY())
		}
		VPMOVZXDQ(act.AsY(), wide)
		VPADDQ(m, wide, wide)
		VMOVDQU64(wide, m)
	}
	ADDQ(Imm(16), i)
	CMPQ(i, Imm(128))
	JB(LabelRef("loop"))

	half, quarter := YMM(), XMM()
	VEXTRACTI64X4(U8(1), sum, half)
	VPADDD(half, sum.AsY(), half)
	VEXTRACTI128(U8(1), half, quarter)
	VPADDD(quarter, half.AsX(), quarter)
	for _, order := range []uint8{0x4e, 0xb1} {
		other := XMM()
		VPSHUFD(U8(order), quarter, other)
		VPADDD(other, quarter, quarter)
	}
	total := GP32()
	VMOVD(quarter, total)
	Store(total, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// cellsKernel works on 64 elements at a time, each in a lane of 8 bits.
func cellsKernel() {
	TEXT("cellsAVX512", NOSPLIT, "func(cells, exponent, move, trend, columns, scoring *uint8, stayed, moved, floor uint8)")
	Pragma("noescape")
	Doc("cellsAVX512 is setBlockCellsGo for a block of 128 elements. scoring is the first byte",
		"of one, stayed and moved are the scores of the block's activity.")
	pointers := map[string]reg.Register{}
	for _, name := range []string{"cells", "exponent", "move", "trend", "columns"} {
		pointers[name] = Load(Param(name), GP64())
	}
	t := Load(Param("scoring"), GP64())
	var tables [6]reg.VecVirtual
	for k := range tables {
		tables[k] = ZMM()
		VMOVDQU8(Mem{Base: t, Disp: 64 * k}, tables[k])
	}
	exponents, movements, trends, moveKinds, trendKinds, groups := tables[0], tables[1], tables[2], tables[3], tables[4], tables[5]
	var lut [4]reg.VecVirtual
	for k := range lut {
		lut[k] = ZMM()
		VMOVDQU8(Mem{Base: t, Disp: 64 * (len(tables) + k)}, lut[k])
	}
	byteOf := func(name string) reg.VecVirtual {
		g, z := Load(Param(name), GP32()), ZMM()
		VPBROADCASTB(g, z)
		return z
	}
	active, movedScore, floor := byteOf("stayed"), byteOf("moved"), byteOf("floor")
	upper := K()
	mask := GP64()
	MOVQ(U64(0xffffffff00000000), mask)
	KMOVQ(mask, upper)
	VMOVDQU8(movedScore, upper, active)
	VPADDB(active, exponents, exponents)
	highest, sizes := broadcast(0x1f1f1f1f), broadcast(0x3f3f3f3f)
	for half := range 2 {
		at := func(name string) Mem { return Mem{Base: pointers[name], Disp: 64 * half} }
		e, m, tr, s, g, k := ZMM(), ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
		VMOVDQU8(at("exponent"), e)
		VPERMB(exponents, e, s)
		VMOVDQU8(at("move"), m)
		VPANDD(sizes, m, m)
		VMOVDQU8(at("trend"), tr)
		VPERMB(movements, m, k)
		VPADDUSB(k, s, s)
		VPERMB(trends, tr, k)
		VPADDUSB(k, s, s)
		VPADDUSB(at("columns"), s, s)
		VPSUBUSB(floor, s, s)
		VPMINUB(highest, s, s)
		VPERMB(moveKinds, m, g)
		VPERMB(trendKinds, tr, k)
		VPADDB(k, g, g)
		VPERMB(groups, g, g)
		VPORD(g, s, s)
		low, high, top := ZMM(), ZMM(), K()
		VMOVDQA32(s, low)
		VPERMI2B(lut[1], lut[0], low)
		VMOVDQA32(s, high)
		VPERMI2B(lut[3], lut[2], high)
		VPMOVB2M(s, top)
		VMOVDQU8(high, top, low)
		VMOVDQU8(low, at("cells"))
	}
	VZEROUPPER()
	RET()
}

// symbolsVectorKernel decodes a symbol of each state in turn, 16 at a time.
func symbolsVectorKernel() {
	TEXT("symbolsAVX512", NOSPLIT, "func(syms, classes *uint8, entries *uint32, coded *byte, x *[32]uint32, rounds, avail int) (left, rest int)")
	Pragma("noescape")
	Doc("symbolsAVX512 is symbolsAMD64.")
	syms := Load(Param("syms"), GP64())
	classes := Load(Param("classes"), GP64())
	entries := Load(Param("entries"), GP64())
	coded := Load(Param("coded"), GP64())
	x := Load(Param("x"), GP64())
	rounds := Load(Param("rounds"), GP64())
	end := Load(Param("avail"), GP64())
	ADDQ(coded, end)
	limit := GP64()
	LEAQ(Mem{Base: end, Disp: -64}, limit)
	slots, freqs, low := broadcast(1<<12-1), broadcast(1<<13-1), broadcast(1<<16)
	var states [2]reg.VecVirtual
	for half := range states {
		states[half] = ZMM()
		VMOVDQU32(Mem{Base: x, Disp: 64 * half}, states[half])
	}
	Label("loop")
	CMPQ(coded, limit)
	JA(LabelRef("done"))
	for half, s := range states {
		slot, t, freq, class, word := ZMM(), ZMM(), ZMM(), ZMM(), ZMM()
		all, shed := K(), K()
		VPMOVZXBD(Mem{Base: classes, Disp: 16 * half}, class)
		VPSLLD(U8(12), class, class)
		VPANDD(slots, s, slot)
		VPORD(class, slot, slot)
		KXNORW(all, all, all)
		VPXORD(t, t, t)
		VPGATHERDD(Mem{Base: entries, Index: slot, Scale: 4}, all, t)
		VPSRLD(U8(12), s, s)
		VPANDD(freqs, t, freq)
		VPMULLD(freq, s, s)
		VPSRLD(U8(13), t, freq)
		VPANDD(slots, freq, freq)
		VPADDD(freq, s, s)
		VPSRLD(U8(25), t, t)
		VPMOVDB(t, Mem{Base: syms, Disp: 16 * half})
		// Below 2^16 a state takes up a word.
		VPCMPUD(U8(1), low, s, shed)
		VPMOVZXWD(Mem{Base: coded}, word)
		VPEXPANDD_Z(word, shed, word)
		VPSLLD(U8(16), s, shed, s)
		VPORD(word, s, s)
		n := GP32()
		KMOVW(shed, n)
		POPCNTL(n, n)
		LEAQ(Mem{Base: coded, Index: n.As64(), Scale: 2}, coded)
	}
	ADDQ(Imm(32), syms)
	ADDQ(Imm(32), classes)
	DECQ(rounds)
	JNE(LabelRef("loop"))
	Label("done")
	for half, s := range states {
		VMOVDQU32(s, Mem{Base: x, Disp: 64 * half})
	}
	SUBQ(coded, end)
	Store(rounds, Return("left"))
	Store(end, Return("rest"))
	VZEROUPPER()
	RET()
}

// symbolsKernel decodes a symbol of each state in turn. The states are in memory:
// each waits for its own last step only.
func symbolsKernel() {
	TEXT("symbolsAMD64", NOSPLIT, "func(syms, classes *uint8, entries *uint32, coded *byte, x *[32]uint32, rounds, avail int) (left, rest int)")
	Pragma("noescape")
	Doc("symbolsAMD64 decodes 32 symbols in each of at most rounds rounds, more than 0, as long",
		"as 64 of the avail bytes at coded are left. It returns the rounds and bytes left.")
	syms := Load(Param("syms"), GP64())
	classes := Load(Param("classes"), GP64())
	entries := Load(Param("entries"), GP64())
	coded := Load(Param("coded"), GP64())
	x := Load(Param("x"), GP64())
	rounds := Load(Param("rounds"), GP64())
	end := Load(Param("avail"), GP64())
	ADDQ(coded, end)
	limit := GP64()
	LEAQ(Mem{Base: end, Disp: -64}, limit)
	Label("loop")
	CMPQ(coded, limit)
	JA(LabelRef("done"))
	for k := range 32 {
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
	ADDQ(Imm(32), syms)
	ADDQ(Imm(32), classes)
	DECQ(rounds)
	JNE(LabelRef("loop"))
	Label("done")
	SUBQ(coded, end)
	Store(rounds, Return("left"))
	Store(end, Return("rest"))
	RET()
}
