package codec

import (
	"encoding/binary"
	"math"
)

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

// A block of at least sampleFrom bytes is first judged by one part in 16:
// sampleRun bytes out of every sampleStep. The step is prime, so that rows of a
// matrix do not keep time with it.
const (
	sampleFrom = 16 << 10
	sampleRun  = 64
	sampleStep = 1021
)

// looksRandom reports whether a sample of b shows that an order-0 code would
// not save 1/128. It judges by the collision probability, the chance that two
// of its bytes are equal: -log2 of it (Rényi entropy of order 2) is never more
// than the Shannon entropy that a code could reach, so data that could be coded
// passes for random only by the sample's bad luck.
func looksRandom(b []byte) bool {
	if len(b) < sampleFrom {
		return false
	}
	var count [256]uint32
	n := 0
	for ; len(b) >= sampleStep; b = b[sampleStep:] {
		for _, x := range b[:sampleRun] {
			count[x]++
		}
		n += sampleRun
	}
	var same uint64 // ordered pairs of equal bytes
	for _, c := range count {
		same += uint64(c) * uint64(c)
	}
	same -= uint64(n)
	pairs := float64(n) * float64(n-1)
	return float64(same) < pairs*collisionLimit
}

// collisionLimit is 2^-7.9375: the collision probability of bytes with 8 bits
// less 1/128 of entropy.
var collisionLimit = math.Exp2(-8 * (1 - 1.0/128))
