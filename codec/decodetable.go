package codec

import (
	"errors"
	"math/bits"

	"github.com/klauspost/compress/fse"
)

// tableBits is the number of bits that a decodeTable is looked up with: the
// longest code.
const tableBits = maxCodeBits

// mostSymbols is how many bytes one entry of a decodeTable holds.
const mostSymbols = 4

// A decodeTable decodes one Huffman code: for the next tableBits bits of a
// stream, entries has as many bytes as have their whole code in them.
//
//	bits  0-5   length of their codes
//	bits  8-15  number of bytes: 1 to mostSymbols
//	bits 32-63  the bytes, the first in the lowest bits
//
// The zero value is ready for use.
type decodeTable struct {
	entries [1 << tableBits]uint64
	lengths [256]uint8  // of the values' codes, 0 for values without
	weights [256]uint8  // of the values, as the description has them
	sorted  [256]uint8  // values with codes, from the longest to the shortest
	symbols int         // number of those
	fse     fse.Scratch // reads descriptions

	// parts[i][1<<m+x] is what entries would have for the m bits x alone, and at
	// most i+1 bytes. It is empty if x holds no whole code.
	parts [mostSymbols - 1][1 << tableBits]uint64
}

// Errors of decodeTable.read; callers say where.
var (
	errTableShort   = errors.New("code table cut short")
	errTableWeights = errors.New("code table does not describe a code")
)

// read reads the description of a code (RFC 8878, section 4.2.1) at the start of
// b and returns what follows it. Then build must be called.
func (t *decodeTable) read(b []byte) (rest []byte, err error) {
	if len(b) < 2 {
		return nil, errTableShort
	}
	size := int(b[0])
	b = b[1:]
	n := 0 // weights in the description
	if size < 128 {
		if len(b) < size {
			return nil, errTableShort
		}
		if b[0]&15+5 > maxWeightsLog {
			return nil, errTableWeights
		}
		t.fse.DecompressLimit = 255
		t.fse.Out = t.weights[:0]
		w, err := fse.Decompress(b[:size], &t.fse)
		t.fse.Out = nil
		if err != nil {
			return nil, err
		}
		if n = len(w); n > 255 {
			return nil, errTableWeights
		}
		copy(t.weights[:], w)
	} else {
		n = size - 127
		size = (n + 1) / 2
		if len(b) < size {
			return nil, errTableShort
		}
		for i := range n {
			t.weights[i] = b[i/2] >> (4 &^ (i << 2)) & 15
		}
	}
	return b[size:], t.assign(n)
}

// assign sets lengths, sorted and symbols from the first n weights.
func (t *decodeTable) assign(n int) error {
	var perWeight [maxCodeBits + 1]int
	total := 0
	for _, w := range t.weights[:n] {
		if w > maxCodeBits {
			return errTableWeights
		}
		perWeight[w]++
		total += 1 << w >> 1
	}
	// The last weight makes the sum a power of two.
	if total == 0 {
		return errTableWeights
	}
	maxBits := bits.Len(uint(total))
	left := 1<<maxBits - total
	if maxBits > maxCodeBits || left&(left-1) != 0 {
		return errTableWeights
	}
	last := bits.Len(uint(left))
	t.weights[n] = uint8(last)
	perWeight[last]++
	if perWeight[1] < 2 || perWeight[1]&1 != 0 {
		return errTableWeights
	}

	// Codes are numbered from the longest to the shortest, and by value within
	// a length.
	var next [maxCodeBits + 2]int
	for w := 1; w <= maxCodeBits; w++ {
		next[w+1] = next[w] + perWeight[w]
	}
	t.symbols = n + 1 - perWeight[0]
	clear(t.lengths[n+1:])
	for v, w := range t.weights[:n+1] {
		if w == 0 {
			t.lengths[v] = 0
			continue
		}
		t.lengths[v] = uint8(maxBits + 1 - int(w))
		t.sorted[next[w]] = uint8(v)
		next[w]++
	}
	return nil
}

// build sets the entries, with most bytes in each: 1 to mostSymbols.
func (t *decodeTable) build(most int) {
	shortest := int(t.lengths[t.sorted[t.symbols-1]])
	for i := range most - 1 {
		// The longest part that entries of one more byte are made of.
		for m := range tableBits - (most-1-i)*shortest + 1 {
			t.fill(t.parts[i][1<<m:2<<m], m, i)
		}
	}
	t.fill(t.entries[:], tableBits, most-1)
}

// fill sets entries for m bits, of one byte and what parts[i-1] has for the bits
// after it.
func (t *decodeTable) fill(entries []uint64, m, i int) {
	// The shares of codes that are too long come first. Together they are a whole
	// number of entries.
	at, k := 0, 0
	for ; k < t.symbols && int(t.lengths[t.sorted[k]]) > m; k++ {
		at += 1 << (tableBits - t.lengths[t.sorted[k]])
	}
	at >>= tableBits - m
	clear(entries[:at])

	const low = 1<<32 - 1
	for _, v := range t.sorted[k:t.symbols] {
		n := int(t.lengths[v])
		first := uint64(v)<<32 + 1<<8 + uint64(n)
		to := entries[at : at+1<<(m-n)]
		at += len(to)
		if i == 0 {
			for x := range to {
				to[x] = first
			}
			continue
		}
		for x, e := range t.parts[i-1][1<<(m-n):][:len(to)] {
			to[x] = e&low + e&^low<<8 + first
		}
	}
}

// field returns the field of the bytes with codes, if those are all that such a
// field can have, and if their codes are of the same length: then their order
// makes the codes equal to the field.
func (t *decodeTable) field() (field, bool) {
	first := t.sorted[0]
	if t.lengths[first] != t.lengths[t.sorted[t.symbols-1]] {
		return field{}, false
	}
	var varying uint8
	for _, v := range t.sorted[1:t.symbols] {
		varying |= v ^ first
	}
	f, ok := fieldOf(first, varying)
	return f, ok && t.symbols == 1<<f.bits
}
