package container

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// BenchmarkChainRead reads a whole member through 1 MiB requests, at each depth.
func BenchmarkChainRead(b *testing.B) {
	for _, depth := range []int{1, 4, 8, 12} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			f := chainOf(b, depth, 2, 8<<20, 1<<20, codec.BF16, 64<<20)
			b.SetBytes(16 << 20)
			buf := make([]byte, 4<<20)
			for b.Loop() {
				r := f.reader(b, generation(0))
				src := io.NewSectionReader(r, 0, r.Size())
				for {
					if _, err := io.ReadFull(src, buf); err != nil {
						break
					}
				}
				r.Close()
			}
		})
	}
}

// BenchmarkChainRandom reads 4 KiB anywhere in a member at depth 12.
func BenchmarkChainRandom(b *testing.B) {
	f := chainOf(b, 12, 2, 8<<20, 1<<20, codec.BF16, 1<<20)
	r := f.reader(b, generation(0))
	defer r.Close()
	rnd := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 4<<10)
	for b.Loop() {
		_, err := r.ReadAt(buf, rnd.Int64N(r.Size()-4<<10))
		must(b, err)
	}
}
