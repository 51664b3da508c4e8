package delta

import "golang.org/x/sys/cpu"

// What the kernels need. Each has a function in Go beside it that gives the same
// values.
var hasAVX512 = cpu.X86.HasAVX512F && cpu.X86.HasAVX512CD

// measureVector is measureBlockGo of the block at from, or reports false.
func measureVector[T ordinal](f *features[T], p *params, l *float, from, to int) (sum uint64, ok bool) {
	g, ok := any(f).(*features[uint16])
	if !ok || !hasAVX512 || to-from != block || l.coarse != 0 {
		return 0, false
	}
	return measureAVX512(&g.base[from], &g.before[from], &g.earlier[from], &g.guess[from], &g.exponent[from], &g.move[from],
		&g.trend[from], &g.acts[0], &g.gains, int(l.mantissa), p.firstExponent), true
}
