package delta

import (
	"unsafe"

	"github.com/mithrilfs/mithrilfs/codec"
	"golang.org/x/sys/cpu"
)

// What the kernels need. Each has a function in Go beside it that gives the same
// values.
var (
	hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasPOPCNT
	hasVBMI   = hasAVX512 && cpu.X86.HasAVX512VBMI
)

// hasKernels is false in tests that want the functions in Go.
var hasKernels = true

// measureVector is measureBlockGo, or reports false.
func measureVector[T ordinal](f *features[T], p *params, l *float, from, to, column int) (sum uint64, ok bool) {
	if !hasAVX512 || to-from != block {
		return 0, false
	}
	w := int(l.width / 8)
	var bases [maxBases]*byte
	for i, b := range f.bases {
		bases[i] = &b[from*w : to*w][0]
	}
	guess, exponent, move, trend := (*byte)(unsafe.Pointer(&f.guess[from])), &f.exponent[from], &f.move[from], &f.trend[from]
	columns, first, scale := &f.columns[column:][:block][0], p.firstExponent, l.activityScale(p.firstExponent)
	// Not by a function value, through which everything would escape to the heap.
	switch l.dtype {
	case codec.F16:
		sum = uint64(measuref16AVX512(&bases, guess, exponent, move, trend, columns, &f.gains, first, scale))
	case codec.F32:
		sum = uint64(measuref32AVX512(&bases, guess, exponent, move, trend, columns, &f.gains, first, scale))
	default:
		sum = uint64(measurebf16AVX512(&bases, guess, exponent, move, trend, columns, &f.gains, first, scale))
	}
	return sum, true
}

// cellsVector is setBlockCellsGo, or reports false.
func (s *scoring) cellsVector(cells, exponent, move, trend, columns []uint8, active activeScores, floor int) bool {
	if !hasVBMI || len(cells) != block {
		return false
	}
	cellsAVX512(&cells[0], &exponent[:block][0], &move[:block][0], &trend[:block][0], &columns[:block][0], &s.exponent[0],
		active.stayed, active.moved, uint8(floor))
	return true
}

// orderVector orders elements of src, from the first one, and returns their
// number.
func orderVector[T ordinal](dst []T, src []byte) int {
	n := vectored(dst)
	if n == 0 {
		return 0
	}
	from := unsafe.Pointer(&src[:n*int(unsafe.Sizeof(dst[0]))][0])
	switch dst := any(dst).(type) {
	case []uint16:
		order16AVX512(&dst[0], (*uint16)(from), n)
	case []uint32:
		order32AVX512(&dst[0], (*uint32)(from), n)
	}
	return n
}

// unorderVector undoes orderVector.
func unorderVector[T ordinal](dst []byte, src []T) int {
	n := vectored(src)
	if n == 0 {
		return 0
	}
	to := unsafe.Pointer(&dst[:n*int(unsafe.Sizeof(src[0]))][0])
	switch src := any(src).(type) {
	case []uint16:
		unorder16AVX512((*uint16)(to), &src[0], n)
	case []uint32:
		unorder32AVX512((*uint32)(to), &src[0], n)
	}
	return n
}

// addDirectVector is addDirectGo for elements from the first one, whose number it
// returns.
func addDirectVector[T ordinal](guess []T, syms, move []uint8) int {
	n := vectored(guess)
	if n == 0 {
		return 0
	}
	switch g := any(guess).(type) {
	case []uint16:
		add16AVX512(&g[0], &syms[:n][0], &move[:n][0], n)
	case []uint32:
		add32AVX512(&g[0], &syms[:n][0], &move[:n][0], n)
	}
	return n
}

// vectored returns how many elements of s, from the first one, fill vectors of 64
// bytes; 0 if there are no kernels for them.
func vectored[T ordinal](s []T) int {
	if !hasAVX512 {
		return 0
	}
	return len(s) &^ 31
}

// symbolsVector decodes symbols from the first one, as long as coded has plenty of
// bytes, and returns how many symbols and how many bytes they took. Every class
// has its slots among entries.
func symbolsVector(syms, classes []uint8, entries []entry, coded []byte, x *[states]uint32) (done, used int) {
	rounds := len(syms) / states
	if !hasKernels || rounds == 0 || len(coded) < 2*states {
		return 0, 0
	}
	kernel := symbolsAMD64
	if hasAVX512 {
		kernel = symbolsAVX512
	}
	left, rest := kernel(&syms[0], &classes[:len(syms)][0], (*uint32)(&entries[0]), &coded[0], x, rounds, len(coded))
	return (rounds - left) * states, len(coded) - rest
}
