package codec

import "encoding/binary"

// Of the floats whose exponents have 8 bits, trained weights use few exponents:
// below 2 and above 2^-63 the highest two bits are 01. A rotation by 3 takes
// those two out of the byte of the exponent, and the highest two of the mantissa
// in: Huffman codes fit the larger symbols better, and what is left of the
// mantissa, the sign and two constant bits are a field, which costs nothing. All
// in all that is 0.5 % smaller than a rotation by 1.
const narrowRotation = 3

// An elementSample counts the values of each byte of a sample of elements.
type elementSample struct {
	count [maxWidth][256]uint32
	n     int // elements
}

// A sample has at least choiceElements, in at least choiceRuns runs of sampleRun
// bytes: one in each page of a frame, which is then faster to copy.
const (
	choiceElements = 1024
	choiceRuns     = 64
)

// take samples the elements of width bytes in src, which has sampleFrom bytes for
// each of them.
func (s *elementSample) take(src []byte, width int) {
	clear(s.count[:width])
	runs := max(choiceRuns, choiceElements*width/sampleRun)
	s.n = runs * sampleRun / width
	step := (len(src)/width/runs - 1) | 1 // odd: out of step with rows
	var of [8]*[256]uint32                // counts for the bytes of 8 bytes
	for j := range of {
		of[j] = &s.count[j%width]
	}
	// Loads first: counting between them would keep them from overlapping.
	var sample [choiceElements * maxWidth]byte
	for r := range runs {
		copy(sample[r*sampleRun:][:sampleRun], src[r*step*width:])
	}
	for b := sample[:runs*sampleRun]; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		of[0][byte(x)]++
		of[1][byte(x>>8)]++
		of[2][byte(x>>16)]++
		of[3][byte(x>>24)]++
		of[4][byte(x>>32)]++
		of[5][byte(x>>40)]++
		of[6][byte(x>>48)]++
		of[7][byte(x>>56)]++
	}
}

// random reports whether no byte of elements of width bytes seems to gain
// anything.
func (s *elementSample) random(width int) bool {
	for k := width - 1; k >= 0; k-- {
		if collisions(&s.count[k], s.n) > 1.1/256 {
			return false
		}
	}
	return true
}

// narrow reports whether the elements of src, of width bytes, floats with 8 bits
// of exponent, are better rotated by narrowRotation.
func (s *elementSample) narrow(src []byte, width int) bool {
	var exponents [4]int // by their highest two bits, below the sign
	for v, c := range s.count[width-1] {
		exponents[v>>5&3] += int(c)
	}
	if max(exponents[0], exponents[1], exponents[2], exponents[3]) < s.n-s.n/64 {
		return false
	}
	// Mantissas with fewer than 6 bits of entropy are better left in one byte.
	if collisions(&s.count[width-2], s.n) >= 1.0/64 {
		return false
	}
	// Where the lowest byte has few values, as in narrower floats made wide, its
	// codes are short. Then a single other exponent makes one of them longer,
	// and that costs more than the rotation gains.
	return collisions(&s.count[0], s.n) < 1.0/32 || sameHighExponent(src, width)
}

// sameHighExponent reports whether the highest two bits of the exponents of 8
// bits are the same in all elements of src, of 2 or 4 bytes.
func sameHighExponent(src []byte, width int) bool {
	src = src[:len(src)/width*width]
	if len(src) < 8 {
		return true
	}
	var first, mask uint64
	if width == 2 {
		first, mask = ones16*uint64(binary.LittleEndian.Uint16(src)), ones16*0x6000
	} else {
		first, mask = ones32*uint64(binary.LittleEndian.Uint32(src)), ones32*0x60000000
	}
	// The last word may overlap the one before.
	a := binary.LittleEndian.Uint64(src[len(src)-8:]) ^ first
	var b, c, d uint64
	for ; len(src) >= 32; src = src[32:] {
		a |= binary.LittleEndian.Uint64(src) ^ first
		b |= binary.LittleEndian.Uint64(src[8:]) ^ first
		c |= binary.LittleEndian.Uint64(src[16:]) ^ first
		d |= binary.LittleEndian.Uint64(src[24:]) ^ first
	}
	for ; len(src) >= 8; src = src[8:] {
		a |= binary.LittleEndian.Uint64(src) ^ first
	}
	return (a|b|c|d)&mask == 0
}

// choosePlan returns the plan for elements of type d, and whether they look
// random.
func (s *elementSample) choosePlan(src []byte, d DType) (plan Plan, random bool) {
	plan = d.Plan()
	w := plan.Width()
	if w == 1 || len(src) < sampleFrom*w {
		return plan, false
	}
	s.take(src, w)
	if s.random(w) {
		return plan, true
	}
	if (d == BF16 || d == F32) && s.narrow(src, w) {
		plan = makePlan(w, narrowRotation)
	}
	return plan, false
}

// Repeats are looked for by words that begin every so many bytes, in repeatRuns
// runs of sparseGrid bytes, at each of which a word begins. The sparse grid finds
// long repeats in bytes that look random, the dense one such as those of a text.
const (
	sparseGrid = 256
	denseGrid  = 64
	repeatRuns = 8
	repeatBits = 12
)

// hasRepeats reports whether a sample of b has words that occur elsewhere in b. A
// word of one value has to occur twice in a row: where a value is common, there are
// short runs of it by chance.
func hasRepeats(b []byte, grid int) bool {
	if len(b) < repeatRuns*2*sparseGrid {
		return true // for who finds short ones too
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
	slot := func(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 >> (64 - repeatBits) }
	var table [1 << repeatBits]int32 // positions
	for i := 0; i+8 <= len(b); i += grid {
		table[slot(word(i))] = int32(i)
	}
	for r := range repeatRuns {
		from := len(b) / repeatRuns * r
		for i := from; i < from+sparseGrid; i++ {
			w := word(i)
			if j := int(table[slot(w)]); j != i && word(j) == w && (w != uint64(b[i])*ones8 || word(i+8) == w) {
				return true
			}
		}
	}
	return false
}
