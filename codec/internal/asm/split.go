package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// planesType is the type of the planes' argument; a slice takes 24 bytes.
const planesType = "*[8][]byte"

// splitKernel reads W registers of elements, rotates them, and separates their
// halves until each register holds bytes of one plane.
func splitKernel(t tier, width int) {
	TEXT(fmt.Sprintf("split%d%s", width, t.name), NOSPLIT, "func(planes "+planesType+", src *byte, n, rot int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("split%d%s is split%dGo of n elements, a multiple of %d.", width, t.name, width, t.bytes))
	rotate, planes, src, end := prepare(t, width, "src")

	var separate []func(a, b reg.VecVirtual)
	for w := width / 2; w >= 1; w /= 2 {
		separate = append(separate, t.separater(w))
	}
	i := GP64()
	XORQ(i, i)
	Label("loop")
	CMPQ(i, end)
	JGE(LabelRef("done"))
	v := make([]reg.VecVirtual, width)
	for k := range v {
		v[k] = t.reg()
		t.load(Mem{Base: src, Disp: k * t.bytes}, v[k])
		rotate(v[k])
	}
	// The even and odd lanes of neighbours become the first and second half of
	// a group. Element order is kept by pairing 0 with 1, 2 with 3, then groups.
	groups := [][]reg.VecVirtual{v}
	for _, f := range separate {
		var next [][]reg.VecVirtual
		for _, g := range groups {
			var even, odd []reg.VecVirtual
			for k := 0; k < len(g); k += 2 {
				f(g[k], g[k+1])
				even, odd = append(even, g[k]), append(odd, g[k+1])
			}
			next = append(next, even, odd)
		}
		groups = next
	}
	for k, g := range groups {
		t.load(g[0], Mem{Base: planes[k], Index: i, Scale: 1})
	}
	ADDQ(U32(width*t.bytes), src)
	ADDQ(U32(t.bytes), i)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// mergeKernel reads a register of each plane, interleaves them until each
// register holds elements, and rotates those.
func mergeKernel(t tier, width int) {
	TEXT(fmt.Sprintf("merge%d%s", width, t.name), NOSPLIT, "func(dst *byte, planes "+planesType+", n, rot int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("merge%d%s is merge%dGo of n elements, a multiple of %d, each rotated left", width, t.name, width, t.bytes),
		"by rot bits, less than its own.")
	rotate, planes, dst, end := prepare(t, width, "dst")

	var interleave []func(a, b reg.VecVirtual)
	for w := 1; w < width; w *= 2 {
		interleave = append(interleave, t.interleaver(w))
	}
	i := GP64()
	XORQ(i, i)
	Label("loop")
	CMPQ(i, end)
	JGE(LabelRef("done"))
	groups := make([][]reg.VecVirtual, width)
	for k := range groups {
		v := t.reg()
		t.load(Mem{Base: planes[k], Index: i, Scale: 1}, v)
		groups[k] = []reg.VecVirtual{v}
	}
	for _, f := range interleave {
		var next [][]reg.VecVirtual
		for k := 0; k < len(groups); k += 2 {
			var g []reg.VecVirtual
			for j := range groups[k] {
				a, b := groups[k][j], groups[k+1][j]
				f(a, b)
				g = append(g, a, b)
			}
			next = append(next, g)
		}
		groups = next
	}
	for k, v := range groups[0] {
		rotate(v)
		t.load(v, Mem{Base: dst, Disp: k * t.bytes})
	}
	ADDQ(U32(width*t.bytes), dst)
	ADDQ(U32(t.bytes), i)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// prepare loads the arguments that the kernels have in common.
func prepare(t tier, width int, elements string) (rotate func(reg.VecVirtual), planes []reg.Register, ptr, end reg.Register) {
	rot := GP64()
	Load(Param("rot"), rot)
	rotate = t.rotater(width, rot)
	base := Load(Param("planes"), GP64())
	for k := range width {
		p := GP64()
		MOVQ(Mem{Base: base, Disp: 24 * k}, p)
		planes = append(planes, p)
	}
	return rotate, planes, Load(Param(elements), GP64()), Load(Param("n"), GP64())
}
