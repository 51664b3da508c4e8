package main

import (
	"math"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

func TestEntropyBound(t *testing.T) {
	every := make([]byte, 4096) // each byte value 16 times
	for i := range every {
		every[i] = byte(i)
	}
	words := make([]byte, 4096) // 16-bit words from 0 to 15, as often as each other
	for i := 0; i < len(words); i += 2 {
		words[i] = byte(i/2) % 16
	}
	one := func(n int, d codec.DType) []layout.Region {
		return []layout.Region{{Begin: 0, End: int64(n), DType: d}}
	}
	for name, c := range map[string]struct {
		data    []byte
		regions []layout.Region
		plans   []codec.Plan // of the frames
		want    float64
	}{
		"random":           {every, one(4096, codec.Bytes), nil, 4096},
		"constant":         {make([]byte, 999), one(999, codec.Bytes), nil, 0},
		"tail":             {make([]byte, 1003), one(1003, codec.F32), nil, 3},
		"wide":             {make([]byte, 8000), one(8000, codec.F64), nil, 0},
		"planes":           {words, one(4096, codec.I16), nil, 2048 * 4 / 8},
		"the better plan":  {words, one(4096, codec.Bytes), []codec.Plan{codec.I16.Plan()}, 2048 * 4 / 8},
		"not the worse":    {words, one(4096, codec.I16), []codec.Plan{codec.Bytes.Plan()}, 2048 * 4 / 8},
		"a table for each": {append(make([]byte, 100), every...), []layout.Region{{End: 100}, {Begin: 100, End: 4196}}, nil, 4096},
	} {
		pieces := make([]piece, len(c.plans))
		for i, p := range c.plans {
			pieces[i] = piece{dtype: c.regions[0].DType, plan: p}
		}
		if got := entropyBound(c.data, c.regions, pieces); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}
