package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// byteTable is a table of 256 bytes in four registers.
type byteTable [4]reg.VecVirtual

func loadTable(m Mem) (t byteTable) {
	for k := range t {
		t[k] = ZMM()
		VMOVDQU64(m.Offset(64*k), t[k])
	}
	return t
}

// lookUp returns the table's bytes for those of x; upper has the highest bits
// of x.
func (t byteTable) lookUp(x reg.VecVirtual, upper reg.OpmaskVirtual) reg.VecVirtual {
	a, b := ZMM(), ZMM()
	VMOVDQA64(x, a)
	VPERMI2B(t[1], t[0], a)
	VMOVDQA64(x, b)
	VPERMI2B(t[3], t[2], b)
	VMOVDQU8(b, upper, a)
	return a
}

// othersKernel looks up 64 bytes at a time.
func othersKernel() {
	TEXT("othersAVX512", NOSPLIT, "func(dst, src *byte, n int, known *[256]byte) int")
	Pragma("noescape")
	Doc("othersAVX512 copies those of the n bytes at src, a multiple of 64 and not 0, for",
		"which known is 0 to dst, and returns their number. The 64 bytes after them may",
		"be overwritten too.")
	dst := Load(Param("dst"), GP64())
	src := Load(Param("src"), GP64())
	n := Load(Param("n"), GP64())
	known := loadTable(Mem{Base: Load(Param("known"), GP64())})
	out := GP64()
	MOVQ(dst, out)
	Label("loop")
	x := ZMM()
	VMOVDQU64(Mem{Base: src}, x)
	upper, other := K(), K()
	VPMOVB2M(x, upper)
	y := known.lookUp(x, upper)
	VPTESTNMB(y, y, other)
	KTESTQ(other, other)
	JE(LabelRef("next"))
	compress(x, other, y)
	VMOVDQU64(y, Mem{Base: out})
	count := GP64()
	KMOVQ(other, count)
	POPCNTQ(count, count)
	ADDQ(count, out)
	Label("next")
	ADDQ(Imm(64), src)
	SUBQ(Imm(64), n)
	JNE(LabelRef("loop"))
	SUBQ(dst, out)
	Store(out, ReturnIndex(0))
	VZEROUPPER()
	RET()
}

// compress appends VPCOMPRESSB (AVX512_VBMI2), which avo does not know, with
// zeros after the bytes that k selects.
func compress(x, k, to reg.Register) {
	Instruction(&ir.Instruction{
		Opcode:   "VPCOMPRESSB",
		Suffixes: []string{"Z"},
		Operands: []Op{x, k, to},
		Inputs:   []Op{x, k},
		Outputs:  []Op{to},
	})
}
