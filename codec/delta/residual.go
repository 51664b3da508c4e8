package delta

import (
	"encoding/binary"
	"math/bits"
)

// residuals is how the elements of a frame differ from their predictions: a
// symbol for each, and the raw bits that some symbols ask for.
type residuals struct {
	syms []uint8
	raw  bitWriter
}

// fold returns a residual, with a sign that is relative to that of the step, as
// an integer of T's width: small for small residuals.
func fold[T ordinal](difference T, down bool) T {
	if down {
		difference = -difference
	}
	z := difference << 1
	if difference > ^T(0)>>1 {
		z = ^z
	}
	return z
}

// unfold undoes fold.
func unfold[T ordinal](z T, down bool) T {
	d := z>>1 ^ -(z & 1)
	if down {
		d = -d
	}
	return d
}

// setResiduals finds the symbols of the elements with ordinals want.
func setResiduals[T ordinal](r *residuals, want, guess []T, move []uint8, direct, parts uint) {
	r.syms = grow(r.syms, len(want))
	r.raw = bitWriter{out: r.raw.out[:0]}
	guess, move = guess[:len(want)], move[:len(want)]
	syms := r.syms[:len(want)]
	for i, o := range want {
		z := uint32(fold(o-guess[i], move[i] >= moveDown))
		if z < 1<<direct {
			syms[i] = uint8(z)
			continue
		}
		sym, low, n := escape(z, direct, parts)
		syms[i] = sym
		r.raw.bits(low, n)
	}
}

// escape returns the symbol of z, at least 1<<direct, and its n low bits, which
// the symbol does not tell.
func escape(z uint32, direct, parts uint) (sym uint8, low uint64, n uint) {
	octave := uint(bits.Len32(z)) - 1
	n = octave - parts
	sym = uint8(1<<direct + (octave-direct)<<parts + uint(z>>n)&(1<<parts-1))
	return sym, uint64(z & (1<<n - 1)), n
}

// unescape undoes escape: it returns z without its n low bits.
func unescape(sym uint8, direct, parts uint) (z uint32, n uint) {
	s := uint(sym) - 1<<direct
	octave := direct + s>>parts
	n = octave - parts
	return (1<<parts | uint32(s&(1<<parts-1))) << n, n
}

// restore sets guess to the ordinals of the elements, given their symbols.
func restore[T ordinal](guess []T, syms, move []uint8, raw *bitReader, l *float) {
	n := addDirectVector(guess, syms, move)
	addDirectGo(guess[n:], syms[n:], move[n:])
	for from := 0; from < len(syms); from += 8 {
		if from+8 <= len(syms) && binary.LittleEndian.Uint64(syms[from:])&0xf0f0f0f0f0f0f0f0 == 0 {
			continue // no escapes
		}
		for i := from; i < min(from+8, len(syms)); i++ {
			s := syms[i]
			if s < 1<<l.direct {
				continue
			}
			high, n := unescape(s, l.direct, l.parts)
			z := high | uint32(raw.bits(n))
			guess[i] += unfold(T(z), move[i] >= moveDown) - unfold(T(s), move[i] >= moveDown)
		}
	}
}

// addDirectGo adds residuals as if all symbols were direct.
func addDirectGo[T ordinal](guess []T, syms, move []uint8) {
	syms, move = syms[:len(guess)], move[:len(guess)]
	for i, s := range syms {
		guess[i] += unfold(T(s), move[i] >= moveDown)
	}
}
