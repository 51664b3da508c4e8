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
	code uint16
	n    uint8
}

// A huffman builds a Huffman code for a block and writes streams with it. The
// zero value is ready for use.
type huffman struct {
	count   [256]uint32     // occurrences of each byte value in the block
	codes   [256]symbolCode // n is 0 for values that do not occur
	sorted  [256]uint32     // occurring values by count: count<<8 | value
	lengths [256]int        // code lengths in the order of sorted
	maxBits int             // longest code of this block
	symbols int             // highest occurring value, plus 1
	weights [256]byte       // of the values, as the description has them
	fse     fse.Scratch

	// Lists of limit.
	level, next [512]uint32
	isLeaf      [maxCodeBits][512]bool
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
		h.codes[byte(s)].n = uint8(lengths[i])
		bits += lengths[i] * int(s>>8)
	}
	for v := range h.symbols {
		c := &h.codes[v]
		if c.n != 0 {
			c.code = next[c.n]
			next[c.n]++
		}
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

// appendStreams appends src, coded, to dst: as one stream, or as four and their
// jump table. bits is the result of build.
func (h *huffman) appendStreams(dst, src []byte, bits int) []byte {
	// The kernel stores 8 bytes at a time.
	dst = slices.Grow(dst, bits/8+jumpTable+4+8)
	out := dst[:cap(dst)]
	pos := len(dst)
	if len(src) <= maxOneStream {
		pos += encodeStream(out[pos:], src, &h.codes)
		return out[:pos]
	}
	jump := out[pos : pos+jumpTable]
	pos += jumpTable
	part := (len(src) + 3) / 4
	for i := range 3 {
		n := encodeStream(out[pos:], src[:part], &h.codes)
		binary.LittleEndian.PutUint16(jump[2*i:], uint16(n))
		src = src[part:]
		pos += n
	}
	pos += encodeStream(out[pos:], src, &h.codes)
	return out[:pos]
}

// encodeStream writes the codes of src to dst and returns the number of bytes.
// A stream is read from its end, so the last byte comes first, and a 1 bit
// follows the first byte's code (RFC 8878, section 4.2.2). dst has room for the
// stream and 8 bytes more.
func encodeStream(dst, src []byte, codes *[256]symbolCode) int {
	var acc uint64
	var n uint // bits in acc
	pos := 0
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
