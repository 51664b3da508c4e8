package delta

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// TestMeasureKernel compares the kernel with its twin in Go.
func TestMeasureKernel(t *testing.T) {
	if !hasAVX512 {
		t.Skip("no AVX-512")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for try := range 2000 {
		l := &floats[[...]codec.DType{codec.BF16, codec.F16}[try%2]]
		p := params{bases: 3, firstExponent: r.IntN(256)}
		var got, want features[uint16]
		got.resize(block)
		got.third = grow(got.third, block)
		got.earlier = got.third
		spread := 1 << r.IntN(17)
		for i := range block {
			got.base[i] = uint16(r.Uint32())
			got.before[i] = got.base[i] + uint16(r.IntN(spread)-spread/2)
			got.earlier[i] = got.before[i] + uint16(r.IntN(spread)-spread/2)
			if r.IntN(4) == 0 {
				got.before[i] = got.base[i]
			}
		}
		for e := range exponents {
			p.gain[e], p.gain2[e] = int8(r.Uint32()), int8(r.Uint32())
			got.gains[e], got.gains[exponents+e] = int32(p.gain[e]), int32(p.gain2[e])
		}
		want.resize(block)
		want.base, want.before, want.earlier, want.third, want.gains = got.base, got.before, got.earlier, got.third, got.gains
		sum, ok := measureVector(&got, &p, l, 0, block)
		if !ok {
			t.Fatal("no kernel")
		}
		if other := want.measureBlockGo(&p, l, 0, block); sum != other {
			t.Fatalf("try %d: sums %d and %d", try, sum, other)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("try %d: features differ", try)
		}
	}
}

// TestOrderKernels compares the kernels with their twins for every value, and
// for lengths that are no multiples of their steps.
func TestOrderKernels(t *testing.T) {
	all := make([]uint16, 1<<16)
	src, back := make([]byte, 2<<16), make([]byte, 2<<16)
	for i := range all {
		binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
	}
	for _, n := range []int{0, 1, 31, 32, 33, 100, len(all)} {
		ordinals(all[:n], src[:2*n], codec.BF16, codec.BF16)
		for i, o := range all[:n] {
			if o != order(uint16(i)) {
				t.Fatalf("order of %#x: %#x", i, o)
			}
		}
		store(back[:2*n], all[:n])
		if !bytes.Equal(back[:2*n], src[:2*n]) {
			t.Fatalf("%d elements come back otherwise", n)
		}
	}
}

func TestAddKernel(t *testing.T) {
	syms, move := randomBytes(1000, 1), randomBytes(1000, 2)
	got, want := make([]uint16, 1000), make([]uint16, 1000)
	for n := range 1000 {
		k := addDirectVector(got[:n], syms, move)
		addDirectGo(got[k:n], syms[k:n], move[k:n])
		addDirectGo(want[:n], syms[:n], move[:n])
		if !slices.Equal(got, want) {
			t.Fatalf("%d elements: other sums", n)
		}
	}
}

// TestWithoutKernels decodes golden frames without any kernel.
func TestWithoutKernels(t *testing.T) {
	defer func(vector bool) { hasAVX512, hasKernels = vector, true }(hasAVX512)
	hasAVX512, hasKernels = false, false
	TestGolden(t)
	TestScratch(t)
}
