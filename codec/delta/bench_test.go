package delta

import (
	"fmt"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// benchmarkFrame returns a frame and what it is made of.
func benchmarkFrame(b *testing.B, dtype codec.DType, used int) (src Elements, bases []Elements, frame []byte) {
	steps := series(FrameSize/dtype.Size(), 1)
	src = elementsOf(steps[0], dtype)
	for k := 1; k <= used; k++ {
		bases = append(bases, elementsOf(steps[k], dtype))
	}
	frame, ok := NewEncoder().AppendFrame(nil, src, 384, bases, noLimit)
	if !ok {
		b.Fatal("no frame")
	}
	return src, bases, frame
}

func BenchmarkEncode(b *testing.B) {
	for _, dtype := range floatTypes {
		for used := 1; used <= maxBases; used++ {
			b.Run(fmt.Sprintf("%v-%d", dtype, used), func(b *testing.B) {
				src, bases, frame := benchmarkFrame(b, dtype, used)
				e := NewEncoder()
				b.SetBytes(int64(len(src.Data)))
				b.ReportMetric(float64(len(src.Data))/float64(len(frame)), "ratio")
				for b.Loop() {
					frame, _ = e.AppendFrame(frame[:0], src, 384, bases, noLimit)
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, dtype := range floatTypes {
		for used := 1; used <= maxBases; used++ {
			b.Run(fmt.Sprintf("%v-%d", dtype, used), func(b *testing.B) {
				src, bases, frame := benchmarkFrame(b, dtype, used)
				d := NewDecoder()
				b.SetBytes(int64(len(src.Data)))
				for b.Loop() {
					if err := d.DecodeFrame(src.Data, frame, bases); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
