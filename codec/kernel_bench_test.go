package codec

import "testing"

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

func BenchmarkLooksRandom(b *testing.B) {
	src := randomBytes(128<<10, 1)
	b.SetBytes(128 << 10)
	for b.Loop() {
		if !looksRandom(src) {
			b.Fatal("random bytes do not look random")
		}
	}
}
