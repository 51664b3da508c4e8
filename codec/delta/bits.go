package delta

import (
	"encoding/binary"
	"math/bits"
)

// A bitWriter appends bits to a buffer, the first at the lowest bit of a byte.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint // bits in acc, less than 8 between calls
}

// bits appends the low n bits of v, which has no others; n is at most 56.
func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

// number appends v, less than 2^30, in an exponential Golomb code of order k.
func (w *bitWriter) number(v uint64, k uint) {
	v += 1 << k
	n := uint(bits.Len64(v)) - 1 // at least k
	w.bits(1<<(n-k), n-k+1)      // zeros, then a one
	w.bits(v&(1<<n-1), n)
}

// signed appends v as a number.
func (w *bitWriter) signed(v int, k uint) { w.number(uint64(zigzag(int64(v))), k) }

// flush pads with zeros to a whole byte and returns the buffer.
func (w *bitWriter) flush() []byte {
	if w.n > 0 {
		w.out = append(w.out, byte(w.acc))
		w.acc, w.n = 0, 0
	}
	return w.out
}

// A bitReader reads what a bitWriter wrote. Past the end it reads zeros and
// sets over.
type bitReader struct {
	in   []byte
	acc  uint64
	n    uint // bits in acc
	over bool
}

// bits returns the next n bits, at most 56.
func (r *bitReader) bits(n uint) uint64 {
	if r.n < n {
		r.fill(n)
	}
	v := r.acc & (1<<n - 1)
	r.acc >>= n
	r.n -= n
	return v
}

// fill makes acc hold n bits or more.
func (r *bitReader) fill(n uint) {
	if len(r.in) >= 8 {
		r.acc |= binary.LittleEndian.Uint64(r.in) << r.n
		taken := (63 - r.n) >> 3
		r.in = r.in[taken:]
		r.n += taken * 8
		r.acc &= 1<<r.n - 1
		return
	}
	for r.n < n {
		if len(r.in) == 0 {
			r.over = true
			r.n = 64
			return
		}
		r.acc |= uint64(r.in[0]) << r.n
		r.in = r.in[1:]
		r.n += 8
	}
}

// number reads what [bitWriter.number] wrote; a longer one reads as 0 and sets
// over.
func (r *bitReader) number(k uint) uint64 {
	n := k
	for r.bits(1) == 0 {
		if n++; n > 30 || r.over {
			r.over = true
			return 0
		}
	}
	return r.bits(n) + 1<<n - 1<<k
}

// signed reads what [bitWriter.signed] wrote.
func (r *bitReader) signed(k uint) int { return int(unzigzag(r.number(k))) }

// rest returns the bytes after the one that holds the last bit that was read.
func (r *bitReader) rest(from []byte) []byte {
	unread := len(r.in) + int(r.n/8)
	if r.over || unread > len(from) {
		return nil
	}
	return from[len(from)-unread:]
}

// zigzag maps 0, -1, 1, -2, … to 0, 1, 2, 3, …
func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func unzigzag(z uint64) int64 { return int64(z>>1) ^ -int64(z&1) }
