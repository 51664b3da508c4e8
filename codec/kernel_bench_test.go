package codec

import (
	"strconv"
	"testing"
)

const benchBytes = FrameSize

func BenchmarkSplit(b *testing.B) {
	for _, d := range []DType{I16, BF16, F32, F64} {
		b.Run(d.String(), func(b *testing.B) {
			src, dst := randomBytes(benchBytes, 1), make([]byte, benchBytes)
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				d.Plan().split(dst, src)
			}
		})
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, d := range []DType{I16, BF16, F32, F64} {
		b.Run(d.String(), func(b *testing.B) {
			src, dst := randomBytes(benchBytes, 1), make([]byte, benchBytes)
			n := benchBytes / d.Size()
			var planes [maxWidth][]byte
			for k := range d.Size() {
				planes[k] = src[k*n : (k+1)*n]
			}
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				d.Plan().merge(dst, &planes, nil)
			}
		})
	}
}

func BenchmarkByteGroup(b *testing.B) {
	for _, width := range []int{2, 4, 8} {
		b.Run(string(rune('0'+width)), func(b *testing.B) {
			src, dst := randomBytes(benchBytes, 1), make([]byte, benchBytes)
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for b.Loop() {
				if err := ByteGroup(dst, src, width); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCountBytes(b *testing.B) {
	src := randomBytes(128<<10, 1)
	var count [256]uint32
	b.SetBytes(128 << 10)
	for b.Loop() {
		countBytes(&count, src)
	}
}

func BenchmarkCountSample(b *testing.B) {
	src := randomBytes(128<<10, 1)
	var count [256]uint32
	for _, step := range []int{probeStep, coarseStep, fineStep} {
		b.Run(strconv.Itoa(step), func(b *testing.B) {
			b.SetBytes(128 << 10)
			for b.Loop() {
				countSample(&count, src, step)
			}
		})
	}
}

func BenchmarkCountOthers(b *testing.B) {
	src := weights(F8, 128<<10)
	var count, others [256]uint32
	countSample(&count, src, coarseStep)
	b.SetBytes(128 << 10)
	for b.Loop() {
		countOthers(&others, src, &count)
	}
}

// benchPlanes runs f for planes as exponents, after a rotation by 1 and by 3,
// and random bytes of 7.5 bits make them.
func benchPlanes(b *testing.B, f func(b *testing.B, src []byte)) {
	for _, c := range []struct {
		name string
		src  []byte
	}{
		{"exponents", skewed(32<<10, 20, 2)},
		{"narrow", skewed(32<<10, 70, 1.07)},
		{"flat", flat(F8, 32<<10)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.src)))
			f(b, c.src)
		})
	}
}

func BenchmarkBuildCode(b *testing.B) {
	benchPlanes(b, func(b *testing.B, src []byte) {
		h := codesOf(src)
		for b.Loop() {
			h.build()
		}
	})
}

func BenchmarkEncodeStream(b *testing.B) {
	benchPlanes(b, func(b *testing.B, src []byte) {
		h := codesOf(src)
		dst := make([]byte, 2*len(src))
		for b.Loop() {
			h.encodeStream(dst, src)
		}
	})
}

func BenchmarkBuildTable(b *testing.B) {
	benchPlanes(b, func(b *testing.B, src []byte) {
		h := codesOf(src)
		table, _ := h.appendTable(nil)
		d := new(decodeTable)
		for b.Loop() {
			if _, err := d.read(table); err != nil {
				b.Fatal(err)
			}
			d.build(mostSymbols)
		}
	})
}

func BenchmarkDecodeStreams(b *testing.B) {
	benchPlanes(b, func(b *testing.B, src []byte) {
		e, z := NewEncoder(), NewDecoder()
		frame, _ := e.AppendFrame(nil, src, F8)
		got := make([]byte, len(src))
		for b.Loop() {
			if err := z.DecodeFrame(got, frame, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPack(b *testing.B) {
	for _, width := range []int{1, 4, 6, 7} {
		b.Run(strconv.Itoa(width), func(b *testing.B) {
			f := field{bits: width}
			src, dst := randomBytes(32<<10, 1), make([]byte, 33<<10)
			b.SetBytes(32 << 10)
			for b.Loop() {
				f.pack(dst, src)
			}
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, width := range []int{1, 4, 6, 7} {
		b.Run(strconv.Itoa(width), func(b *testing.B) {
			f := field{bits: width}
			dst, src := make([]byte, 32<<10), randomBytes(33<<10, 1)
			b.SetBytes(32 << 10)
			for b.Loop() {
				f.unpack(dst, src)
			}
		})
	}
}

func BenchmarkChoosePlan(b *testing.B) {
	src := weights(BF16, FrameSize)
	b.SetBytes(FrameSize)
	for b.Loop() {
		new(elementSample).choosePlan(src, BF16)
	}
}

// BenchmarkRuns looks for runs where there are none.
func BenchmarkRuns(b *testing.B) {
	src, e := randomBytes(maxBlock, 1), NewEncoder()
	b.SetBytes(maxBlock)
	for b.Loop() {
		if _, to := findRun(src, longRun); to > 0 {
			b.Fatal("random bytes have a run")
		}
		if _, ok := e.appendRuns(nil, src, true); ok {
			b.Fatal("random bytes have runs")
		}
	}
}

func BenchmarkHasRepeats(b *testing.B) {
	src := randomBytes(FrameSize, 1)
	b.SetBytes(FrameSize)
	for b.Loop() {
		if hasRepeats(src, sparseGrid) {
			b.Fatal("random bytes have repeats")
		}
	}
}

// BenchmarkMemcpy is the limit of what any kernel can do.
func BenchmarkMemcpy(b *testing.B) {
	src, dst := randomBytes(FrameSize, 1), make([]byte, FrameSize)
	b.SetBytes(FrameSize)
	for b.Loop() {
		copy(dst, src)
	}
}
