// Package testweights makes files of weights for tests that need large ones: what
// is stored of a file that repeats the same weights says nothing of real ones.
package testweights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"
)

// Block is how many bytes Fill makes at a time.
const Block = 1 << 20

// deviation is that of a trained matrix.
const deviation = 0.02

// quantiles are bf16 values of a normal distribution, each as likely as another.
var quantiles = sync.OnceValue(func() *[1 << 16]uint16 {
	q := new([1 << 16]uint16)
	for i := range q {
		x := deviation * math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/float64(len(q))-1)
		q[i] = uint16(math.Float32bits(float32(x)) >> 16)
	}
	return q
})

// Fill fills b, of Block bytes at most, with independent, normally distributed
// bf16 weights: block number of the file that seed names.
func Fill(b []byte, seed, number uint64) {
	q, r := quantiles(), rand.NewPCG(seed, number)
	for ; len(b) >= 8; b = b[8:] {
		x := r.Uint64()
		y := uint64(q[x&0xffff]) | uint64(q[x>>16&0xffff])<<16 | uint64(q[x>>32&0xffff])<<32 | uint64(q[x>>48])<<48
		binary.LittleEndian.PutUint64(b, y)
	}
	for i := range b {
		b[i] = byte(r.Uint64())
	}
}
