package codec

import (
	"encoding/binary"
	"math/bits"
)

// merge undoes split: it fills dst with the elements whose bytes are in planes,
// each rotated right by rot bits.
func merge(dst []byte, planes *[maxWidth][]byte, width, rot int) {
	done := mergeVector(dst, planes, width, rot)
	var p [maxWidth][]byte
	for k := range width {
		p[k] = planes[k][done:]
	}
	dst = dst[done*width:]
	switch width {
	case 1:
		rotateBytes(dst, p[0], (8-rot)%8)
	case 2:
		merge2Go(dst, p[0], p[1], rot)
	case 4:
		merge4Go(dst, p[0], p[1], p[2], p[3], rot)
	case 8:
		merge8Go(dst, &p, rot)
	}
}

// merge2Go undoes split2Go: it fills dst with the 2-byte elements whose bytes are in
// p0 and p1, each element rotated right by rot bits. The planes have the same
// length, and dst is as long as both.
func merge2Go(dst, p0, p1 []byte, rot int) {
	n := len(p0)
	back := (16 - rot) & 15
	r, low := uint(back), uint64(ones16*(1<<back-1))
	i := 0
	for ; i+8 <= n; i += 8 {
		a := binary.LittleEndian.Uint64(p0[i : i+8])
		b := binary.LittleEndian.Uint64(p1[i : i+8])
		a, b = mix8(a, b)
		a, b = mix16(a, b)
		a, b = mix32(a, b)
		d := dst[2*i : 2*i+16]
		binary.LittleEndian.PutUint64(d, rotate16(a, r, low))
		binary.LittleEndian.PutUint64(d[8:], rotate16(b, r, low))
	}
	for ; i < n; i++ {
		v := uint16(p0[i]) | uint16(p1[i])<<8
		binary.LittleEndian.PutUint16(dst[2*i:], bits.RotateLeft16(v, -rot))
	}
}

// merge4Go is merge2Go for elements of 4 bytes and as many planes.
func merge4Go(dst, p0, p1, p2, p3 []byte, rot int) {
	n := len(p0)
	back := (32 - rot) & 31
	r, low := uint(back), uint64(ones32*(1<<back-1))
	i := 0
	for ; i+8 <= n; i += 8 {
		a := binary.LittleEndian.Uint64(p0[i : i+8])
		c := binary.LittleEndian.Uint64(p1[i : i+8])
		b := binary.LittleEndian.Uint64(p2[i : i+8])
		d := binary.LittleEndian.Uint64(p3[i : i+8])
		a, c = mix8(a, c)
		b, d = mix8(b, d)
		a, b = mix16(a, b)
		c, d = mix16(c, d)
		a, c = mix32(a, c)
		b, d = mix32(b, d)
		t := dst[4*i : 4*i+32]
		binary.LittleEndian.PutUint64(t, rotate32(a, r, low))
		binary.LittleEndian.PutUint64(t[8:], rotate32(b, r, low))
		binary.LittleEndian.PutUint64(t[16:], rotate32(c, r, low))
		binary.LittleEndian.PutUint64(t[24:], rotate32(d, r, low))
	}
	for ; i < n; i++ {
		v := uint32(p0[i]) | uint32(p1[i])<<8 | uint32(p2[i])<<16 | uint32(p3[i])<<24
		binary.LittleEndian.PutUint32(dst[4*i:], bits.RotateLeft32(v, -rot))
	}
}

// merge8Go is merge2Go for elements of 8 bytes and as many planes.
func merge8Go(dst []byte, planes *[8][]byte, rot int) {
	n := len(planes[0])
	i := 0
	var v [8]uint64
	for ; i+8 <= n; i += 8 {
		for k, p := range planes {
			v[k] = binary.LittleEndian.Uint64(p[i : i+8])
		}
		transpose8(&v)
		d := dst[8*i : 8*i+64]
		for k, x := range v {
			binary.LittleEndian.PutUint64(d[8*k:], bits.RotateLeft64(x, -rot))
		}
	}
	for ; i < n; i++ {
		var x uint64
		for k, p := range planes {
			x |= uint64(p[i]) << (8 * k)
		}
		binary.LittleEndian.PutUint64(dst[8*i:], bits.RotateLeft64(x, -rot))
	}
}
