package delta

import (
	"math"
	"math/bits"
	"sync"
)

const logBits = 10

// logTable holds log2(1+i/1024) in units of 2^-16. They are rounded, so they are
// the same on every processor.
var logTable = sync.OnceValue(func() *[1<<logBits + 1]int64 {
	var t [1<<logBits + 1]int64
	for i := range t {
		t[i] = int64(math.Round(math.Log2(1+float64(i)/(1<<logBits)) * (1 << 16)))
	}
	return &t
})

// information returns v*log2(v) in units of 2^-16, for v below 2^32.
func information(t *[1<<logBits + 1]int64, v uint32) int64 {
	if v < 2 {
		return 0
	}
	n := bits.Len32(v) - 1
	m := uint64(v) << (63 - n) << 1 // mantissa, without its leading one
	i := m >> (64 - logBits)
	rest := int64(m << logBits >> 48)
	return int64(v) * (int64(n)<<16 + t[i] + (t[i+1]-t[i])*rest>>16)
}
