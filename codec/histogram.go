package codec

import "encoding/binary"

// countBytes sets count to the number of occurrences of each byte value in b.
// Four tables keep runs of one value from waiting for their own counter.
func countBytes(count *[256]uint32, b []byte) {
	var t [3][256]uint32
	clear(count[:])
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		count[byte(x)]++
		t[0][byte(x>>8)]++
		t[1][byte(x>>16)]++
		t[2][byte(x>>24)]++
		count[byte(x>>32)]++
		t[0][byte(x>>40)]++
		t[1][byte(x>>48)]++
		t[2][byte(x>>56)]++
	}
	for _, x := range b {
		count[x]++
	}
	for i := range count {
		count[i] += t[0][i] + t[1][i] + t[2][i]
	}
}

// A block of at least sampleFrom bytes is judged by samples of it: the probe is
// sampleRun bytes out of every probeStep; the others are larger. The steps are
// prime, so that rows of a matrix do not keep time with them.
const (
	sampleFrom = 16 << 10
	sampleRun  = 64
	probeStep  = 4093
	coarseStep = 1021
	fineStep   = 509

	// If more values than this occur, all bytes are counted. The noise of a coarse
	// and a fine sample, of n bytes, costs about (values-1)/(2n ln 2) bits for each
	// byte coded.
	manyValues = 96
)

// countSample sets count to the number of occurrences of each byte value in a
// sample of b, which has at least step bytes, and returns the sample's length.
func countSample(count *[256]uint32, b []byte, step int) (n int) {
	var odd [256]uint32 // for every other byte, as in countBytes
	clear(count[:])
	for ; len(b) >= step; b = b[step:] {
		for run := b[:sampleRun]; len(run) >= 8; run = run[8:] {
			x := binary.LittleEndian.Uint64(run)
			count[byte(x)]++
			odd[byte(x>>8)]++
			count[byte(x>>16)]++
			odd[byte(x>>24)]++
			count[byte(x>>32)]++
			odd[byte(x>>40)]++
			count[byte(x>>48)]++
			odd[byte(x>>56)]++
		}
		n += sampleRun
	}
	for i := range count {
		count[i] += odd[i]
	}
	return n
}

// countOthers sets others to the number of occurrences in b of each byte value
// that count has none of.
func countOthers(others *[256]uint32, b []byte, count *[256]uint32) {
	clear(others[:])
	if countOthersVector(others, b, count) {
		return
	}
	countOthersGo(others, b, count)
}

func countOthersGo(others *[256]uint32, b []byte, count *[256]uint32) {
	var other [256]byte
	for v, c := range count {
		if c == 0 {
			other[v] = 1
		}
	}
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		if other[byte(x)]|other[byte(x>>8)]|other[byte(x>>16)]|other[byte(x>>24)]|
			other[byte(x>>32)]|other[byte(x>>40)]|other[byte(x>>48)]|other[byte(x>>56)] != 0 {
			for _, v := range b[:8] {
				others[v] += uint32(other[v])
			}
		}
	}
	for _, v := range b {
		others[v] += uint32(other[v])
	}
}

// collisions returns the chance that two of n bytes are equal. -log2 of it
// (Rényi entropy of order 2) is never more than the Shannon entropy.
func collisions(count *[256]uint32, n int) float64 {
	var same uint64 // ordered pairs of equal bytes
	for _, c := range count {
		same += uint64(c) * uint64(c)
	}
	return float64(same-uint64(n)) / (float64(n) * float64(n-1))
}

// looksRandom reports whether samples of b show that an order-0 code would not
// save 1/128. Data that could be coded passes for random only by bad luck: the
// chance of a collision is below that of bytes with 8 bits less 1/128 of entropy.
func looksRandom(b []byte) bool {
	if len(b) < sampleFrom {
		return false
	}
	step := probeStep
	switch {
	case len(b) < maxBlock:
		step = coarseStep
	case len(b) > maxBlock:
		step = 2*probeStep + 1
	}
	var count [256]uint32
	n := countSample(&count, b, step)
	return collisions(&count, n) < randomCollisions
}

// randomCollisions is 2^-7.9375.
const randomCollisions = 0.0040791944
