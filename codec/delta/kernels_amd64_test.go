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

// randomSteps returns elements of a base, the one before and the one before that:
// any patterns, and steps of all sizes, from none on.
func randomSteps[T ordinal](r *rand.Rand, n int) (bases [maxBases][]byte) {
	spread := r.Uint64() >> r.IntN(64)
	var v T
	for i := range n {
		if i%4 == 0 || r.IntN(2) == 0 {
			v = T(r.Uint32())
		}
		for k := range bases {
			if r.IntN(3) > 0 {
				v += T(r.Uint64N(spread+1) - spread/2)
			}
			if r.IntN(50) == 0 {
				v = ^v // of another sign
			}
			switch any(v).(type) {
			case uint16:
				bases[k] = binary.LittleEndian.AppendUint16(bases[k], uint16(v))
			case uint32:
				bases[k] = binary.LittleEndian.AppendUint32(bases[k], uint32(v))
			}
		}
	}
	return bases
}

// TestMeasureKernel compares the kernels with their twin in Go.
func TestMeasureKernel(t *testing.T) {
	if !hasAVX512 {
		t.Skip("no AVX-512")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		testMeasure[uint16](t, r, codec.BF16)
		testMeasure[uint16](t, r, codec.F16)
		testMeasure[uint32](t, r, codec.F32)
	}
}

func testMeasure[T ordinal](t *testing.T, r *rand.Rand, dtype codec.DType) {
	l := &floats[dtype]
	p := params{bases: 3, firstExponent: minFirst + r.IntN(maxFirst-minFirst+1)}
	var got, want features[T]
	for _, f := range []*features[T]{&got, &want} {
		f.resize(block)
		f.columns = make([]uint64, 2*block)
	}
	got.bases = randomSteps[T](r, block)
	for e := range got.gains {
		got.gains[e] = float32(int8(r.Uint32())) / gainUnit
	}
	want.bases, want.gains = got.bases, got.gains
	sum, ok := measureVector(&got, &p, l, 0, block, 7)
	if !ok {
		t.Fatal("no kernel")
	}
	if other := want.measureBlockGo(&p, l, 0, block, 7); sum != other {
		t.Fatalf("%v: sums %d and %d", dtype, sum, other)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%v: features differ", dtype)
	}
}

// TestCellsKernel compares the kernel with its twin in Go.
func TestCellsKernel(t *testing.T) {
	if !hasVBMI {
		t.Skip("no AVX-512 VBMI")
	}
	r := rand.New(rand.NewPCG(1, 2))
	var s scoring
	for try := range 2000 {
		p := params{groups: grouping(try % 4), floor: r.IntN(maxFloor + 1)}
		var lut [maxCells]uint8
		for _, curve := range [][]uint8{p.exponent[:], p.activity[:], p.movement[:], p.trend[:]} {
			for i := range curve {
				curve[i] = uint8(r.IntN(maxScore + 1))
			}
		}
		for i := range lut {
			lut[i] = uint8(r.Uint32())
		}
		s.set(&p, &lut)
		exponent, move, trend, columns := randomBytes(block, uint64(4*try)), randomBytes(block, uint64(4*try+1)), randomBytes(block, uint64(4*try+2)), randomBytes(block, uint64(4*try+3))
		for i := range block {
			exponent[i] %= 2 * exponents
			move[i] &= moveDown | (movements - 1)
			trend[i] %= trends
			columns[i] %= maxScore + 1
		}
		got, want := make([]uint8, block), make([]uint8, block)
		active := activeScores{p.activity[try%activities], p.activity[activities+try%activities]}
		if !s.cellsVector(got, exponent, move, trend, columns, active, p.floor) {
			t.Fatal("no kernel")
		}
		s.setBlockCellsGo(want, exponent, move, trend, columns, active, p.floor)
		if !bytes.Equal(got, want) {
			t.Fatalf("try %d: other cells", try)
		}
	}
}

// TestOrderKernels compares the kernels with their twins for every value, and
// for lengths that are no multiples of their steps.
func TestOrderKernels(t *testing.T) {
	t.Run("uint16", func(t *testing.T) { testOrder[uint16](t, func(i int) uint16 { return uint16(i) }) })
	t.Run("uint32", func(t *testing.T) { testOrder[uint32](t, func(i int) uint32 { return uint32(i) * 65537 }) })
}

func testOrder[T ordinal](t *testing.T, pattern func(int) T) {
	all := make([]T, 1<<16)
	var src []byte
	w := 0
	for i := range all {
		switch v := any(pattern(i)).(type) {
		case uint16:
			src, w = binary.LittleEndian.AppendUint16(src, v), 2
		case uint32:
			src, w = binary.LittleEndian.AppendUint32(src, v), 4
		}
	}
	back := make([]byte, len(src))
	for _, n := range []int{0, 1, 31, 32, 33, 100, len(all)} {
		ordinals(all[:n], src[:w*n])
		for i, o := range all[:n] {
			if o != order(pattern(i)) {
				t.Fatalf("order of %#x: %#x", pattern(i), o)
			}
		}
		store(back[:w*n], all[:n])
		if !bytes.Equal(back[:w*n], src[:w*n]) {
			t.Fatalf("%d elements come back otherwise", n)
		}
	}
}

func TestAddKernel(t *testing.T) {
	t.Run("uint16", testAdd[uint16])
	t.Run("uint32", testAdd[uint32])
}

func testAdd[T ordinal](t *testing.T) {
	syms, move := randomBytes(1000, 1), randomBytes(1000, 2)
	got, want := make([]T, 1000), make([]T, 1000)
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
	defer func(vector, bytes bool) { hasAVX512, hasVBMI, hasKernels = vector, bytes, true }(hasAVX512, hasVBMI)
	hasAVX512, hasVBMI, hasKernels = false, false, false
	TestGolden(t)
	TestScratch(t)
}
