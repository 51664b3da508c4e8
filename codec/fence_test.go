package codec

import (
	"bytes"
	"sync"
	"testing"
)

// Kernels load and store by addresses that nothing checks. Their tests give them
// memory between two fences: a load or store beyond one ends the process. Where a
// buffer does not lie at a fence, the bytes beside it are compared.
const (
	fenceSize  = 4 << 20 // most bytes in one buffer
	fenceGuard = 128     // bytes compared on each side
)

// Places of a buffer; any other is the number of bytes between the lower fence
// and the buffer.
const (
	atEnd   = -1
	atStart = 0
)

// fences are the buffers that a check may use at once: input, planes, output.
var fences = sync.OnceValue(func() (f [2 + maxWidth][]byte) {
	for i := range f {
		f[i] = fencedMemory(fenceSize)
	}
	return f
})

// canary is what lies beside buffers.
var canary = bytes.Repeat([]byte{0xa5}, fenceGuard)

// fenced returns n bytes of buffer k at a place, and a function that reports
// whether the bytes around them are untouched. It ends what the last call for k
// returned.
func fenced(k, n, place int) (b []byte, intact func() bool) {
	all := fences()[k]
	if place == atEnd {
		place = len(all) - n
	}
	before := all[max(0, place-fenceGuard):place]
	after := all[place+n : min(len(all), place+n+fenceGuard)]
	copy(before, canary)
	copy(after, canary)
	return all[place : place+n : place+n], func() bool {
		return bytes.Equal(before, canary[:len(before)]) && bytes.Equal(after, canary[:len(after)])
	}
}

// fencedCopy returns a copy of b in buffer k at a place.
func fencedCopy(k int, b []byte, place int) []byte {
	c, _ := fenced(k, len(b), place)
	copy(c, b)
	return c
}

// places calls f with each place that a buffer may have for a kernel: all
// alignments, and both fences.
func places(f func(place int)) {
	for place := atEnd; place < 64; place++ {
		f(place)
	}
}

// placeOf returns a place that differs from one n to the next, so that lengths in
// a row take turns.
func placeOf(n int) int { return n*7%65 - 1 }

// TestFenced proves that a store beside a buffer is noticed.
func TestFenced(t *testing.T) {
	all := fences()[0]
	for _, at := range []int{0, 63, len(all) - 100} {
		place := at
		if at == len(all)-100 {
			place = atEnd
		}
		for _, beside := range []int{at - 1, at + 100} {
			if beside < 0 || beside == len(all) {
				continue // a fence
			}
			b, intact := fenced(0, 100, place)
			if &b[0] != &all[at] || cap(b) != 100 || !intact() {
				t.Fatalf("place %d: %d bytes, intact %v", place, len(b), intact())
			}
			all[beside]++
			if intact() {
				t.Errorf("place %d: a change of byte %d goes unnoticed", place, beside-at)
			}
		}
	}
}
