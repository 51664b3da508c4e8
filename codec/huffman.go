package codec

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/klauspost/compress/fse"
)

// Limits of Huffman coded literals (RFC 8878, sections 3.1.1.3.1.1 and 4.2).
const (
	maxCodeBits   = 11        // longest code
	maxWeightsLog = 6         // accuracy of an FSE coded description
	maxOneStream  = 1<<10 - 1 // most bytes that one stream may code
	jumpTable     = 6         // lengths of the first three of four streams
)

// A symbolCode is the Huffman code of a byte value: the low n bits of code.
type symbolCode struct {
	code, n uint16
}

// A codeTable holds the same for kernels that look up bytes: first the lowest 8
// bits of each value's code; then, in the low four bits, the code's length, and
// in the high four the rest of the code.
type codeTable [512]byte

// A huffman builds a Huffman code for a block and writes streams with it. The
// zero value is ready for use.
type huffman struct {
	count   [256]uint32     // occurrences of each byte value in the block
	codes   [256]symbolCode // n is 0 for values that do not occur
	table   codeTable       // the same
	sorted  [256]uint32     // occurring values by count: count<<8 | value
	lengths [256]int        // code lengths in the order of sorted
	maxBits int             // longest code of this block
	symbols int             // highest occurring value, plus 1
	weights [256]byte       // of the values, as the description has them
	fse     fse.Scratch

	coarse, others [256]uint32 // what survey counts
	stream         []byte      // a stream for which there might be no room

	// Lists of limit.
	level, next [512]uint32
	isLeaf      [maxCodeBits][512]bool
}

// survey counts the values in b, of a long one by samples, so that each that
// occurs has a count. It reports false for bytes that look random. If an optimal
// code is a field, it returns that instead of counts.
func (h *huffman) survey(b []byte) (f field, isField, worth bool) {
	n := len(b)
	if n < sampleFrom {
		countBytes(&h.count, b)
		clear(h.others[:])
		f, isField = flatField(&h.count, &h.others, n)
		return f, isField, true
	}
	if looksRandom(b) {
		return f, false, false
	}
	n = countSample(&h.coarse, b, coarseStep)
	countOthers(&h.others, b, &h.coarse)
	if f, isField = flatField(&h.coarse, &h.others, n); isField {
		return f, true, true
	}
	occurring := 0
	for v, c := range h.coarse {
		if c != 0 || h.others[v] != 0 {
			occurring++
		}
	}
	if occurring > manyValues {
		countBytes(&h.count, b)
		return f, false, true
	}
	n += countSample(&h.count, b, fineStep)
	for v := range h.count {
		if h.others[v] != 0 {
			h.count[v] = h.others[v]
		} else {
			h.count[v] = uint32(uint64(h.count[v]+h.coarse[v]) * uint64(len(b)) / uint64(n))
		}
	}
	return f, false, true
}

// build sets the codes for the counts, which hold at least two values, and
// returns the number of bits that the block will take with them.
func (h *huffman) build() (bits int) {
	k := 0
	for v, c := range h.count {
		h.codes[v] = symbolCode{}
		if c != 0 {
			h.sorted[k] = c<<8 | uint32(v)
			h.symbols = v + 1
			k++
		}
	}
	sorted, lengths := h.sorted[:k], h.lengths[:k]
	slices.Sort(sorted)
	for i, s := range sorted {
		lengths[i] = int(s >> 8)
	}
	codeLengths(lengths)
	if lengths[0] > maxCodeBits {
		h.limit(sorted, lengths)
	}
	var perLength [maxCodeBits + 1]uint16
	for _, n := range lengths {
		perLength[n]++
	}

	// Codes are numbered from the longest to the shortest, and by value within
	// a length (RFC 8878, section 4.2.1.3).
	var next [maxCodeBits + 2]uint16
	h.maxBits = lengths[0]
	for n := h.maxBits; n > 1; n-- {
		next[n-1] = (next[n] + perLength[n]) >> 1
	}
	for i, s := range sorted {
		h.codes[byte(s)].n = uint16(lengths[i])
		bits += lengths[i] * int(s>>8)
	}
	for v := range h.symbols {
		c := &h.codes[v]
		if c.n != 0 {
			c.code = next[c.n]
			next[c.n]++
		}
		h.table[v] = byte(c.code)
		h.table[256+v] = byte(c.code>>8)<<4 | byte(c.n)
	}
	return bits
}

// codeLengths replaces counts, in ascending order and at least two, by the
// lengths of an optimal prefix code: the in-place method of Moffat and
// Katajainen ("In-Place Calculation of Minimum-Redundancy Codes", 1995).
func codeLengths(a []int) {
	n := len(a)
	// Pair the two rarest again and again; a[next] is the weight of a node until
	// the node gets a parent, then the parent's index.
	a[0] += a[1]
	root, leaf := 0, 2
	for next := 1; next < n-1; next++ {
		if leaf >= n || a[root] < a[leaf] {
			a[next] = a[root]
			a[root] = next
			root++
		} else {
			a[next] = a[leaf]
			leaf++
		}
		if leaf >= n || root < next && a[root] < a[leaf] {
			a[next] += a[root]
			a[root] = next
			root++
		} else {
			a[next] += a[leaf]
			leaf++
		}
	}
	// From parents to depths of the inner nodes.
	a[n-2] = 0
	for next := n - 3; next >= 0; next-- {
		a[next] = a[a[next]] + 1
	}
	// From inner nodes to leaves.
	free, used, depth := 1, 0, 0
	root = n - 2
	for next := n - 1; free > 0; depth++ {
		for root >= 0 && a[root] == depth {
			used++
			root--
		}
		for ; free > used; free-- {
			a[next] = depth
			next--
		}
		free, used = 2*used, 0
	}
}

// limit sets lengths to those of an optimal prefix code without codes longer
// than maxCodeBits for the counts in sorted: the package-merge method of Larmore
// and Hirschberg ("A Fast Algorithm for Optimal Length-Limited Huffman Codes",
// 1990).
func (h *huffman) limit(sorted []uint32, lengths []int) {
	// A level is a list of leaves and packages by weight; a package is a pair of
	// neighbours in the list of the level before. Only kinds are kept of all.
	k := len(sorted)
	level := h.level[:0]
	for n := range maxCodeBits {
		next := h.next[:0]
		leaf, pack := 0, 0
		for leaf < k || 2*pack+1 < len(level) {
			weight := uint32(math.MaxUint32)
			if 2*pack+1 < len(level) {
				weight = level[2*pack] + level[2*pack+1]
			}
			isLeaf := leaf < k && sorted[leaf]>>8 <= weight
			if isLeaf {
				weight = sorted[leaf] >> 8
				leaf++
			} else {
				pack++
			}
			h.isLeaf[n][len(next)] = isLeaf
			next = append(next, weight)
		}
		copy(h.level[:], next)
		level = h.level[:len(next)]
	}
	// The cheapest 2k-2 of the last level, and what is packed in them: each time
	// that a value occurs makes its code one bit longer.
	clear(lengths)
	take := 2*k - 2
	for n := maxCodeBits - 1; n >= 0; n-- {
		leaves := 0
		for _, isLeaf := range h.isLeaf[n][:take] {
			if isLeaf {
				lengths[leaves]++
				leaves++
			}
		}
		take = 2 * (take - leaves)
	}
}

// buildField sets the codes of f.
func (h *huffman) buildField(f field) {
	clear(h.codes[:])
	for i := range 1 << f.bits {
		v := int(f.base) | i<<f.shift
		h.codes[v] = symbolCode{uint16(i), uint16(f.bits)}
		h.symbols = v + 1
	}
	h.maxBits = f.bits
}

// appendTable appends the description of the codes (RFC 8878, section 4.2.1).
// It reports false if they cannot be described.
func (h *huffman) appendTable(dst []byte) ([]byte, bool) {
	// The weight of the last value is implied.
	n := h.symbols - 1
	weights := &h.weights
	weights[n] = 0 // pads an odd number of them
	hist := h.fse.Histogram()
	clear(hist[:maxCodeBits+1])
	top := 0
	for v := range n {
		w := 0
		if bits := int(h.codes[v].n); bits != 0 {
			w = h.maxBits + 1 - bits
		}
		weights[v] = byte(w)
		hist[w]++
		top = max(top, w)
	}
	if n > 2 {
		most := slices.Max(hist[:top+1])
		h.fse.HistogramFinished(uint8(top), int(most))
		h.fse.TableLog = maxWeightsLog
		if b, err := fse.Compress(weights[:n], &h.fse); err == nil && len(b) < 128 && (n > 128 || len(b) < (n+1)/2) {
			return append(append(dst, byte(len(b))), b...), true
		}
	}
	if n > 128 {
		return dst, false
	}
	dst = append(dst, byte(127+n))
	for v := 0; v < n; v += 2 {
		dst = append(dst, weights[v]<<4|weights[v+1])
	}
	return dst, true
}

// appendStreams appends src, coded by f or else with the codes of build, to dst:
// as one stream, or as four and their jump table. It reports false if there is no
// room for them.
func (h *huffman) appendStreams(dst, src []byte, f *field) ([]byte, bool) {
	if len(src) <= maxOneStream {
		return h.appendStream(dst, src, f)
	}
	part := (len(src) + 3) / 4
	at := len(dst)
	dst = append(dst, make([]byte, jumpTable)...)
	for k := range 4 {
		from := len(dst)
		var ok bool
		if dst, ok = h.appendStream(dst, src[k*part:min((k+1)*part, len(src))], f); !ok {
			return dst, false
		}
		if k < 3 {
			binary.LittleEndian.PutUint16(dst[at+2*k:], uint16(len(dst)-from))
		}
	}
	return dst, true
}

// appendStream appends src, coded, to dst, if it has room for that and 8 bytes
// more: kernels store words.
func (h *huffman) appendStream(dst, src []byte, f *field) ([]byte, bool) {
	pos, room := len(dst), cap(dst)-len(dst)
	most := len(src)*h.maxBits/8 + 1 + 8
	if most <= room {
		return dst[:pos+h.encode(dst[pos:cap(dst)], src, f)], true
	}
	h.stream = resize(h.stream, most)
	n := h.encode(h.stream, src, f)
	if n+8 > room {
		return dst, false
	}
	return append(dst, h.stream[:n]...), true
}

// encode writes the stream of src to dst and returns its length.
func (h *huffman) encode(dst, src []byte, f *field) int {
	if f != nil {
		return f.pack(dst, src)
	}
	return h.encodeStream(dst, src)
}

// encodeStream writes the codes of src to dst and returns the number of bytes.
// A stream is read from its end, so the last byte comes first, and a 1 bit
// follows the first byte's code (RFC 8878, section 4.2.2). dst has room for the
// stream and 8 bytes more.
func (h *huffman) encodeStream(dst, src []byte) int {
	rest, pos, acc, n := h.encodeStreamVector(dst, src)
	return encodeStreamGo(dst, src[:rest], &h.codes, pos, acc, n)
}

// encodeStreamGo writes the codes of src, and the 1 bit, to dst, of which pos
// bytes and n bits, less than 8, are written already: those in acc.
func encodeStreamGo(dst, src []byte, codes *[256]symbolCode, pos int, acc uint64, n uint) int {
	i := len(src)
	for ; i&3 != 0; i-- {
		c := codes[src[i-1]]
		acc |= uint64(c.code) << (n & 63)
		n += uint(c.n)
	}
	for ; i >= 4; i -= 4 {
		// At most 7 bits stay, so four codes of 11 fit.
		binary.LittleEndian.PutUint64(dst[pos:], acc)
		pos += int(n >> 3)
		acc >>= n &^ 7 & 63
		n &= 7

		s := src[i-4 : i]
		c3, c2, c1, c0 := codes[s[3]], codes[s[2]], codes[s[1]], codes[s[0]]
		n2 := uint(c3.n)
		n1 := n2 + uint(c2.n)
		n0 := n1 + uint(c1.n)
		v := uint64(c3.code) | uint64(c2.code)<<(n2&63) | uint64(c1.code)<<(n1&63) | uint64(c0.code)<<(n0&63)
		acc |= v << (n & 63)
		n += n0 + uint(c0.n)
	}
	acc |= 1 << (n & 63)
	binary.LittleEndian.PutUint64(dst[pos:], acc)
	return pos + int(n>>3) + 1
}
