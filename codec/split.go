package codec

import (
	"encoding/binary"
	"math/bits"
)

// The kernels in this file and in merge.go handle eight elements at a time in
// 64-bit words. A network of exchanges, of 32-bit halves, then of 16-bit lanes,
// then of bytes, transposes a block of 8 elements by W bytes. Every exchange
// pairs lanes of the same position, so the elements stay in order.

const (
	mask8  = 0x00ff00ff00ff00ff // the even bytes of a word
	mask16 = 0x0000ffff0000ffff // the even 16-bit lanes of a word
	mask32 = 0x00000000ffffffff // the low half of a word

	ones8  = 0x0101010101010101 // the lowest bit of each byte
	ones16 = 0x0001000100010001 // the lowest bit of each 16-bit lane
	ones32 = 0x0000000100000001 // the lowest bit of each 32-bit lane
)

// mix8 interleaves the even bytes of a and b, and their odd bytes. It is its
// own inverse, as mix16 and mix32 are.
func mix8(a, b uint64) (even, odd uint64) {
	return a&mask8 | b&mask8<<8, a>>8&mask8 | b&^mask8
}

// mix16 interleaves the even 16-bit lanes of a and b, and their odd lanes.
func mix16(a, b uint64) (even, odd uint64) {
	return a&mask16 | b&mask16<<16, a>>16&mask16 | b&^mask16
}

// mix32 pairs the low halves of a and b, and their high halves.
func mix32(a, b uint64) (even, odd uint64) {
	return a&mask32 | b<<32, a>>32 | b&^mask32
}

// rotate16 rotates each 16-bit lane of x left by rot; low has the lowest rot
// bits of every lane set.
func rotate16(x uint64, rot uint, low uint64) uint64 {
	return x<<(rot&15)&^low | x>>((16-rot)&31)&low
}

// rotate32 rotates each 32-bit lane of x left by rot; low has the lowest rot
// bits of every lane set.
func rotate32(x uint64, rot uint, low uint64) uint64 {
	return x<<(rot&31)&^low | x>>((32-rot)&63)&low
}

// rotateBytes writes the bytes of src, each rotated left by rot bits, to dst.
func rotateBytes(dst, src []byte, rot int) {
	if rot == 0 {
		copy(dst, src)
		return
	}
	for i, b := range src {
		dst[i] = bits.RotateLeft8(b, rot)
	}
}

// split writes the bytes of the elements of src, of width bytes each, to as many
// planes, each element rotated left by rot bits. The planes have the same
// length, and src is as long as all. What vector kernels leave is done by the
// functions below, which would do all of it in the same way.
func split(planes *[maxWidth][]byte, src []byte, width, rot int) {
	done := splitVector(planes, src, width, rot)
	var p [maxWidth][]byte
	for k := range width {
		p[k] = planes[k][done:]
	}
	src = src[done*width:]
	switch width {
	case 1:
		rotateBytes(p[0], src, rot)
	case 2:
		split2Go(p[0], p[1], src, rot)
	case 4:
		split4Go(p[0], p[1], p[2], p[3], src, rot)
	case 8:
		split8Go(&p, src, rot)
	}
}

// split2Go writes byte 0 and byte 1 of the 2-byte elements of src, each element
// rotated left by rot bits, to p0 and p1. The planes have the same length, and
// src is as long as both.
func split2Go(p0, p1, src []byte, rot int) {
	n := len(p0)
	r, low := uint(rot), uint64(ones16*(1<<rot-1))
	i := 0
	for ; i+8 <= n; i += 8 {
		s := src[2*i : 2*i+16]
		a := rotate16(binary.LittleEndian.Uint64(s), r, low)
		b := rotate16(binary.LittleEndian.Uint64(s[8:]), r, low)
		a, b = mix32(a, b)
		a, b = mix16(a, b)
		a, b = mix8(a, b)
		binary.LittleEndian.PutUint64(p0[i:i+8], a)
		binary.LittleEndian.PutUint64(p1[i:i+8], b)
	}
	for ; i < n; i++ {
		v := bits.RotateLeft16(binary.LittleEndian.Uint16(src[2*i:]), rot)
		p0[i], p1[i] = byte(v), byte(v>>8)
	}
}

// split4Go is split2Go for elements of 4 bytes and as many planes.
func split4Go(p0, p1, p2, p3, src []byte, rot int) {
	n := len(p0)
	r, low := uint(rot), uint64(ones32*(1<<rot-1))
	i := 0
	for ; i+8 <= n; i += 8 {
		s := src[4*i : 4*i+32]
		a := rotate32(binary.LittleEndian.Uint64(s), r, low)
		b := rotate32(binary.LittleEndian.Uint64(s[8:]), r, low)
		c := rotate32(binary.LittleEndian.Uint64(s[16:]), r, low)
		d := rotate32(binary.LittleEndian.Uint64(s[24:]), r, low)
		a, c = mix32(a, c)
		b, d = mix32(b, d)
		a, b = mix16(a, b)
		c, d = mix16(c, d)
		a, c = mix8(a, c)
		b, d = mix8(b, d)
		binary.LittleEndian.PutUint64(p0[i:i+8], a)
		binary.LittleEndian.PutUint64(p1[i:i+8], c)
		binary.LittleEndian.PutUint64(p2[i:i+8], b)
		binary.LittleEndian.PutUint64(p3[i:i+8], d)
	}
	for ; i < n; i++ {
		v := bits.RotateLeft32(binary.LittleEndian.Uint32(src[4*i:]), rot)
		p0[i], p1[i], p2[i], p3[i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
}

// split8Go is split2Go for elements of 8 bytes and as many planes.
func split8Go(planes *[8][]byte, src []byte, rot int) {
	n := len(planes[0])
	i := 0
	var v [8]uint64
	for ; i+8 <= n; i += 8 {
		s := src[8*i : 8*i+64]
		for k := range v {
			v[k] = bits.RotateLeft64(binary.LittleEndian.Uint64(s[8*k:]), rot)
		}
		transpose8(&v)
		for k, p := range planes {
			binary.LittleEndian.PutUint64(p[i:i+8], v[k])
		}
	}
	for ; i < n; i++ {
		x := bits.RotateLeft64(binary.LittleEndian.Uint64(src[8*i:]), rot)
		for k, p := range planes {
			p[i] = byte(x >> (8 * k))
		}
	}
}

// transpose8 transposes a block of 8 by 8 bytes: byte j of word i becomes byte
// i of word j.
func transpose8(v *[8]uint64) {
	a, e := mix32(v[0], v[4])
	b, f := mix32(v[1], v[5])
	c, g := mix32(v[2], v[6])
	d, h := mix32(v[3], v[7])
	a, c = mix16(a, c)
	b, d = mix16(b, d)
	e, g = mix16(e, g)
	f, h = mix16(f, h)
	v[0], v[1] = mix8(a, b)
	v[2], v[3] = mix8(c, d)
	v[4], v[5] = mix8(e, f)
	v[6], v[7] = mix8(g, h)
}
