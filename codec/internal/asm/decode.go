package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lookUps is how many words of the table are looked up for one of input: each
// takes at most 11 bits, of at least 57 minus the one that marks the end.
const lookUps = 5

// decodeKernel decodes four streams in turn, so that the processor works on one
// while it waits for the tables of the others. It needs every register.
func decodeKernel() {
	TEXT("decodeFourBMI2", NOSPLIT, "func(dst, src *byte, table *[2048]uint64, streams *[8]int, rounds int)")
	Pragma("noescape")
	Doc("decodeFourBMI2 is decodeFourGo for slices that begin at dst and src.")
	AllocLocal(8) // so that the frame pointer is saved

	// A word of input holds the unread bits at its top. Below them is a single 1
	// bit, then zeros: their number is how many bits were read.
	in := []reg.GPPhysical{reg.RCX, reg.RDX, reg.RSI, reg.RDI}
	word := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}
	out := []reg.GPPhysical{reg.R12, reg.R13, reg.R14, reg.R15}
	entry, count, table := reg.RAX, reg.RBX, reg.RBP
	argument := func(name string, k int) Op { return NewParamAddr(name, 8*k) }
	dst, src, states, rounds := argument("dst", 0), argument("src", 1), argument("streams", 3), argument("rounds", 4)

	MOVQ(states, reg.RBX)
	for k := range 4 {
		MOVQ(Mem{Base: reg.RBX, Disp: 8*k + 32}, out[k])
		ADDQ(dst, out[k])
		// The last byte that has unread bits is the word's highest.
		pos := reg.RAX
		MOVQ(Mem{Base: reg.RBX, Disp: 8 * k}, pos)
		LEAQ(Mem{Base: pos, Disp: 7}, in[k])
		SHRQ(Imm(3), in[k])
		SUBQ(Imm(8), in[k])
		ADDQ(src, in[k])
		NEGQ(pos)
		ANDQ(Imm(7), pos)
		MOVQ(U32(1), word[k])
		SHLXQ(pos, word[k], word[k])
	}
	MOVQ(argument("table", 2), table)

	Label("loop")
	DECQ(rounds)
	JLT(LabelRef("done"))
	for k := range 4 {
		read, step := reg.RAX, reg.RBX
		TZCNTQ(word[k], read)
		MOVQ(read, step)
		SHRQ(Imm(3), step)
		SUBQ(step, in[k])
		ANDL(Imm(7), read.As32())
		MOVQ(Mem{Base: in[k]}, word[k])
		ORQ(Imm(1), word[k])
		SHLXQ(read, word[k], word[k])
	}
	for range lookUps {
		for k := range 4 {
			MOVQ(word[k], entry)
			SHRQ(Imm(64-11), entry)
			MOVQ(Mem{Base: table, Index: entry, Scale: 8}, entry)
			SHLXQ(entry, word[k], word[k])
			MOVBLZX(reg.AH, count.As32())
			SHRQ(Imm(32), entry)
			MOVL(entry.As32(), Mem{Base: out[k]})
			ADDQ(count, out[k])
		}
	}
	JMP(LabelRef("loop"))

	Label("done")
	MOVQ(states, reg.RBX)
	for k := range 4 {
		SUBQ(dst, out[k])
		MOVQ(out[k], Mem{Base: reg.RBX, Disp: 8*k + 32})
		SUBQ(src, in[k])
		LEAQ(Mem{Base: in[k], Disp: 8}, in[k])
		SHLQ(Imm(3), in[k])
		TZCNTQ(word[k], word[k])
		SUBQ(word[k], in[k])
		MOVQ(in[k], Mem{Base: reg.RBX, Disp: 8 * k})
	}
	RET()
}
