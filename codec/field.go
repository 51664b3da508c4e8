package codec

import (
	"encoding/binary"
	"math/bits"
)

// A field is a range of bits of a byte. In a block where it takes every value
// about as often, and all other bits stay the same, an optimal Huffman code is
// the field itself: streams are packed bits.
type field struct {
	base  byte // the other bits
	shift int  // position of its lowest bit
	bits  int  // 1 to 7
}

// fieldOf returns the field of bytes that are like base but for the bits that
// are set in varying. It reports false if those are none, all, or have others
// between them.
func fieldOf(base, varying byte) (field, bool) {
	if varying == 0 || varying == 0xff {
		return field{}, false
	}
	f := field{base: base &^ varying, shift: bits.TrailingZeros8(varying), bits: bits.OnesCount8(varying)}
	return f, varying>>f.shift == 1<<f.bits-1
}

// flatField returns the field in which the values of count, of which there are
// n, and of others differ, if Huffman codes would gain nothing over the field.
func flatField(count, others *[256]uint32, n int) (field, bool) {
	// With a few of each, a code would fit their noise.
	first, k, varying := 0, 0, 0
	for v, c := range count {
		if c == 0 && others[v] == 0 {
			continue
		}
		if k == 0 {
			first = v
		}
		varying |= v ^ first
		k++
	}
	f, ok := fieldOf(byte(first), byte(varying))
	return f, ok && k == 1<<f.bits && n >= k && collisions(count, n)*float64(k) < flatCollisions
}

// flatCollisions is how much more likely two bytes of a flat field may be equal
// than by mere chance: the field is then at most 0.04 bits longer than ideal.
const flatCollisions = 1.03

// pack writes the fields of src to dst as a stream, which is
// len(src)*f.bits/8+1 bytes long, and returns its length. dst has room for 8
// bytes more.
func (f field) pack(dst, src []byte) int {
	rest, pos := f.packVector(dst, src)
	return f.packGo(dst, src[:rest], pos)
}

// packGo writes the fields of src, from the last to the first, after pos bytes
// of dst, and the 1 bit that ends a stream.
func (f field) packGo(dst, src []byte, pos int) int {
	mask := byte(1<<f.bits - 1)
	i := len(src)
	for ; i >= 8; i -= 8 {
		var word uint64
		for _, x := range src[i-8 : i] {
			word = word<<f.bits | uint64(x>>f.shift&mask)
		}
		binary.LittleEndian.PutUint64(dst[pos:], word)
		pos += f.bits
	}
	word := uint64(1)
	for _, x := range src[:i] {
		word = word<<f.bits | uint64(x>>f.shift&mask)
	}
	binary.LittleEndian.PutUint64(dst[pos:], word)
	return pos + i*f.bits/8 + 1
}

// unpack undoes pack: it fills dst from the stream src.
func (f field) unpack(dst, src []byte) {
	done := f.unpackVector(dst, src)
	f.unpackGo(dst[:len(dst)-done], src[done*f.bits/8:])
}

// unpackGo is unpack.
func (f field) unpackGo(dst, src []byte) {
	mask := uint64(1<<f.bits - 1)
	for len(dst) > 0 {
		var word uint64
		if len(src) >= 8 {
			word = binary.LittleEndian.Uint64(src)
		} else {
			for i, x := range src {
				word |= uint64(x) << (8 * i)
			}
		}
		n := min(len(dst), 8)
		to := dst[len(dst)-n:]
		for i := n - 1; i >= 0; i-- {
			to[i] = f.base | byte(word&mask)<<f.shift
			word >>= f.bits
		}
		dst = dst[:len(dst)-n]
		src = src[min(f.bits, len(src)):]
	}
}
