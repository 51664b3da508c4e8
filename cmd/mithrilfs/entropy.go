package main

import (
	"encoding/binary"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// entropyBound returns how many bytes data needs at least when each plane of each
// region is coded byte by byte with the best table for it. For each region that
// is under the best of the plans that its type has, usually or in these frames.
func entropyBound(data []byte, regions []layout.Region, pieces []piece) float64 {
	plans := map[codec.DType][]codec.Plan{}
	add := func(d codec.DType, p codec.Plan) {
		if !slices.Contains(plans[d], p) {
			plans[d] = append(plans[d], p)
		}
	}
	for _, r := range regions {
		add(r.DType, r.DType.Plan())
	}
	for i := range pieces {
		add(pieces[i].dtype, pieces[i].plan)
	}
	each := make([]float64, len(regions))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(regions); i = int(next.Add(1)) - 1 {
				each[i] = math.Inf(1)
				for _, p := range plans[regions[i].DType] {
					each[i] = min(each[i], planesEntropy(data[regions[i].Begin:regions[i].End], p))
				}
			}
		})
	}
	workers.Wait()
	var sum float64
	for _, n := range each {
		sum += n
	}
	return sum / 8
}

// planesEntropy returns the sum of the order-0 entropies of b's planes, in bits.
// Bytes beyond the last whole element have 8.
func planesEntropy(b []byte, p codec.Plan) float64 {
	w, r := p.Width(), p.Rotation()
	n := len(b) / w
	var count [8][256]int
	switch w {
	case 1:
		for _, c := range b {
			count[0][bits.RotateLeft8(c, r)]++
		}
	case 2:
		for i := range n {
			v := bits.RotateLeft16(binary.LittleEndian.Uint16(b[2*i:]), r)
			count[0][byte(v)]++
			count[1][v>>8]++
		}
	case 4:
		for i := range n {
			v := bits.RotateLeft32(binary.LittleEndian.Uint32(b[4*i:]), r)
			count[0][byte(v)]++
			count[1][byte(v>>8)]++
			count[2][byte(v>>16)]++
			count[3][v>>24]++
		}
	case 8:
		for i := range n {
			v := bits.RotateLeft64(binary.LittleEndian.Uint64(b[8*i:]), r)
			for k := range 8 {
				count[k][byte(v>>(8*k))]++
			}
		}
	}
	sum := float64(8 * (len(b) - n*w))
	for k := range w {
		for _, c := range count[k] {
			if c > 0 {
				sum += float64(c) * math.Log2(float64(n)/float64(c))
			}
		}
	}
	return sum
}
