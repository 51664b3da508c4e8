package delta

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// What the kernels need. Each has a function in Go beside it that gives the same
// values.
var hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512CD

// hasKernels is false in tests that want the functions in Go.
var hasKernels = true

// measureVector is measureBlockGo of the block at from, or reports false.
func measureVector[T ordinal](f *features[T], p *params, l *float, from, to int) (sum uint64, ok bool) {
	g, ok := any(f).(*features[uint16])
	if !ok || !hasAVX512 || to-from != block || l.coarse != 0 {
		return 0, false
	}
	return measureAVX512(&g.base[from], &g.before[from], &g.earlier[from], &g.guess[from], &g.exponent[from], &g.move[from],
		&g.trend[from], &g.acts[0], &g.gains, int(l.mantissa), p.firstExponent), true
}

// orderVector orders elements of src, from the first one, and returns their
// number.
func orderVector(dst []uint16, src []byte) int {
	n := len(dst) &^ 31
	if !hasAVX512 || n == 0 {
		return 0
	}
	orderAVX512(&dst[0], (*uint16)(unsafe.Pointer(&src[:2*n][0])), n)
	return n
}

// unorderVector undoes orderVector.
func unorderVector(dst []byte, src []uint16) int {
	n := len(src) &^ 31
	if !hasAVX512 || n == 0 {
		return 0
	}
	unorderAVX512((*uint16)(unsafe.Pointer(&dst[:2*n][0])), &src[0], n)
	return n
}

// addDirectVector is addDirectGo for elements from the first one, whose number it
// returns.
func addDirectVector[T ordinal](guess []T, syms, move []uint8) int {
	g, ok := any(guess).([]uint16)
	n := len(g) &^ 31
	if !ok || !hasAVX512 || n == 0 {
		return 0
	}
	addAVX512(&g[0], &syms[:n][0], &move[:n][0], n)
	return n
}

// symbolsVector decodes symbols from the first one, as long as coded has plenty of
// bytes, and returns how many symbols and how many bytes they took. Every class
// has its slots among entries.
func symbolsVector(syms, classes []uint8, entries []entry, coded []byte, x *[states]uint32) (done, used int) {
	rounds := len(syms) / states
	if !hasKernels || rounds == 0 || len(coded) < 2*states {
		return 0, 0
	}
	left, rest := symbolsAMD64(&syms[0], &classes[:len(syms)][0], (*uint32)(&entries[0]), &coded[0], x, rounds, len(coded))
	return (rounds - left) * states, len(coded) - rest
}
