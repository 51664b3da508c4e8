package delta

import (
	"encoding/binary"
	"math/bits"
)

// The entropy coder: states of 32 bits in [stateLow, 2^32), from which words of
// 16 bits are taken, and frequencies that sum up to 1<<freqBits. Element i is
// coded by state i % states.
const (
	freqBits = 12
	freqSum  = 1 << freqBits
	stateLow = 1 << 16
	states   = 32
)

// An entry tells what a decoder does in one slot: frequency, slot less the
// symbol's first slot, symbol.
type entry uint32

func makeEntry(freq, offset, sym int) entry {
	return entry(freq | offset<<13 | sym<<25)
}

// maxSyms is the most symbols that fit an entry.
const maxSyms = 128

// A coding is what the encoder needs of one symbol of one class.
type coding struct {
	reciprocal uint64 // 2^64 / freq, rounded up
	most       uint64 // states from here on shed a word first
	bias       uint32
	complement uint32 // freqSum - freq
}

func makeCoding(start, freq uint32) coding {
	c := coding{most: uint64(freq) << (32 - freqBits), complement: freqSum - freq}
	if freq == 1 {
		// The quotient comes out one too low; bias makes up for it.
		c.reciprocal, c.bias = 1<<64-1, start+freqSum-1
		return c
	}
	c.reciprocal, c.bias = (1<<64-1)/uint64(freq)+1, start
	return c
}

// put returns the state after x has taken up the symbol.
func (c *coding) put(x uint32) uint32 {
	q, _ := bits.Mul64(uint64(x), c.reciprocal)
	return x + c.bias + uint32(q)*c.complement
}

// encodeSymbols codes syms, each in the class of its cell, and appends states
// and words. codings holds maxSyms for each class.
func encodeSymbols(dst []byte, syms, cells []uint8, classes *[maxCells]uint8, codings []coding) []byte {
	var x [states]uint32
	for i := range x {
		x[i] = stateLow
	}
	start := len(dst)
	dst = append(dst, make([]byte, 4*states+2*len(syms))...)
	pos := len(dst)
	cells = cells[:len(syms)]
	for i := len(syms) - 1; i >= 0; i-- {
		c := &codings[int(classes[cells[i]])*maxSyms+int(syms[i])&(maxSyms-1)]
		s := x[i%states]
		if uint64(s) >= c.most {
			pos -= 2
			binary.LittleEndian.PutUint16(dst[pos:], uint16(s))
			s >>= 16
		}
		x[i%states] = c.put(s)
	}
	for i := states - 1; i >= 0; i-- {
		pos -= 4
		binary.LittleEndian.PutUint32(dst[pos:], x[i])
	}
	n := copy(dst[start:], dst[pos:])
	return dst[:start+n]
}

// decodeSymbols undoes encodeSymbols: it sets syms and reports whether coded
// held exactly them. entries holds freqSum for each class.
func decodeSymbols(syms, classes []uint8, entries []entry, coded []byte) bool {
	if len(coded) < 4*states {
		return false
	}
	var x [states]uint32
	for i := range x {
		x[i] = binary.LittleEndian.Uint32(coded[4*i:])
		if x[i] < stateLow {
			return false
		}
	}
	coded = coded[4*states:]
	classes = classes[:len(syms)]
	done, used := symbolsVector(syms, classes, entries, coded, &x)
	coded = coded[used:]
	for ; done+states <= len(syms) && len(coded) >= 2*states; done += states {
		out, in := syms[done:done+states], classes[done:done+states]
		pos := 0
		for k := range states {
			s := x[k]
			t := entries[int(in[k])<<freqBits|int(s&(freqSum-1))]
			out[k] = uint8(t >> 25)
			s = uint32(t&(1<<13-1))*(s>>freqBits) + uint32(t>>13&(freqSum-1))
			if s < stateLow {
				s = s<<16 | uint32(binary.LittleEndian.Uint16(coded[pos:]))
				pos += 2
			}
			x[k] = s
		}
		coded = coded[pos:]
	}
	for ; done < len(syms); done++ {
		s := x[done%states]
		t := entries[int(classes[done])<<freqBits|int(s&(freqSum-1))]
		syms[done] = uint8(t >> 25)
		s = uint32(t&(1<<13-1))*(s>>freqBits) + uint32(t>>13&(freqSum-1))
		if s < stateLow {
			if len(coded) < 2 {
				return false
			}
			s = s<<16 | uint32(binary.LittleEndian.Uint16(coded))
			coded = coded[2:]
		}
		x[done%states] = s
	}
	for _, s := range x {
		if s != stateLow {
			return false
		}
	}
	return len(coded) == 0
}
