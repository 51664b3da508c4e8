package codec

import "golang.org/x/sys/cpu"

// What kernels need. Each has a function in Go beside it that gives the same
// bytes.
var (
	hasAVX2   = cpu.X86.HasAVX2
	hasBMI2   = cpu.X86.HasBMI1 && cpu.X86.HasBMI2
	hasAVX512 = hasBMI2 && cpu.X86.HasPOPCNT && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ &&
		cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512VBMI2
)

// splitVector is split of a number of elements, which it returns.
func splitVector(planes *[maxWidth][]byte, src []byte, width, rot int) int {
	n := len(planes[0])
	switch {
	case hasAVX512 && n >= 64:
		n &^= 63
		switch width {
		case 2:
			split2AVX512(planes, &src[0], n, rot)
			return n
		case 4:
			split4AVX512(planes, &src[0], n, rot)
			return n
		case 8:
			split8AVX512(planes, &src[0], n, rot)
			return n
		}
	case hasAVX2 && n >= 32:
		n &^= 31
		switch width {
		case 2:
			split2AVX2(planes, &src[0], n, rot)
			return n
		case 4:
			split4AVX2(planes, &src[0], n, rot)
			return n
		case 8:
			split8AVX2(planes, &src[0], n, rot)
			return n
		}
	}
	return 0
}

// mergeVector is merge of a number of elements, which it returns.
func mergeVector(dst []byte, planes *[maxWidth][]byte, width, rot int) int {
	n := len(planes[0])
	left := (8*width - rot) & (8*width - 1)
	switch {
	case hasAVX512 && n >= 64:
		n &^= 63
		switch width {
		case 2:
			merge2AVX512(&dst[0], planes, n, left)
			return n
		case 4:
			merge4AVX512(&dst[0], planes, n, left)
			return n
		case 8:
			merge8AVX512(&dst[0], planes, n, left)
			return n
		}
	case hasAVX2 && n >= 32:
		n &^= 31
		switch width {
		case 2:
			merge2AVX2(&dst[0], planes, n, left)
			return n
		case 4:
			merge4AVX2(&dst[0], planes, n, left)
			return n
		case 8:
			merge8AVX2(&dst[0], planes, n, left)
			return n
		}
	}
	return 0
}

// encodeStreamVector encodes the end of src, and returns the length of what
// remains and the state that encodeStreamGo continues with.
func (h *huffman) encodeStreamVector(dst, src []byte) (rest, pos int, acc uint64, n uint) {
	var bits int
	switch {
	case hasAVX512 && len(src) >= 64:
		rest = len(src) % 64
		pos, acc, bits = encodeStreamAVX512(&dst[0], &src[rest], len(src)-rest, (*[512]byte)(&h.table))
	case hasBMI2 && len(src) >= 5:
		rest = len(src) % 5
		pos, acc, bits = encodeStreamBMI2(&dst[0], &src[rest], len(src)-rest, &h.codes[0].code)
	default:
		rest = len(src)
	}
	return rest, pos, acc, uint(bits)
}

// decodeFourVector is decodeFourGo, or reports false.
func decodeFourVector(dst, src []byte, t *decodeTable, f *fourStreams, rounds int) bool {
	if !hasBMI2 {
		return false
	}
	decodeFourBMI2(&dst[0], &src[0], &t.entries, (*[8]int)(f), rounds)
	return true
}

// countOthersVector is countOthers, or reports false.
func countOthersVector(others *[256]uint32, b []byte, count *[256]uint32) bool {
	if !hasAVX512 {
		return false
	}
	var known [256]byte
	for v, c := range count {
		if c != 0 {
			known[v] = 1
		}
	}
	const chunk = 4 << 10
	var rest [chunk + 64]byte
	for len(b) >= 64 {
		n := min(len(b)&^63, chunk)
		for _, x := range rest[:othersAVX512(&rest[0], &b[0], n, &known)] {
			others[x]++
		}
		b = b[n:]
	}
	for _, x := range b {
		if known[x] == 0 {
			others[x]++
		}
	}
	return true
}

// packVector packs the end of src and returns the lengths of what remains and of
// what is written.
func (f field) packVector(dst, src []byte) (rest, pos int) {
	switch {
	case hasAVX512 && len(src) >= 64:
		rest = len(src) % 64
		packAVX512(&dst[0], &src[rest], len(src)-rest, f.bits, f.shift)
	case hasBMI2 && len(src) >= 8:
		rest = len(src) % 8
		packBMI2(&dst[0], &src[rest], len(src)-rest, f.bits, f.mask())
	default:
		rest = len(src)
	}
	return rest, (len(src) - rest) * f.bits / 8
}

// unpackVector unpacks to the end of dst and returns the number of bytes there.
func (f field) unpackVector(dst, src []byte) (n int) {
	switch {
	case hasAVX512 && len(dst) >= 64:
		n = len(dst) &^ 63
		unpackAVX512(&dst[len(dst)-n], &src[0], n, f.bits, f.shift, f.base)
	case hasBMI2 && len(dst) >= 8*9:
		// The last eight words would be read beyond src.
		n = len(dst)&^7 - 8*8
		unpackBMI2(&dst[len(dst)-n], &src[0], n, f.bits, f.mask(), ones8*uint64(f.base))
	}
	return n
}

// mask returns the bits of eight fields.
func (f field) mask() uint64 {
	return ones8 * (1<<f.bits - 1) << f.shift
}
