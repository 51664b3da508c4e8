package delta

import (
	"math/rand/v2"
	"reflect"
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
