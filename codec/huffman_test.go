package codec

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/huff0"
)

// TestHuffmanCodes builds codes for many shapes of counts: they are complete
// (2^-length sums up to 1), none is too long, and rarer values never have
// shorter codes.
func TestHuffmanCodes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var h huffman
	for range 2000 {
		clear(h.count[:])
		k := 2 + r.IntN(255)
		left := maxBlock
		shape := r.IntN(4)
		for i, v := range r.Perm(256)[:k] {
			var c int
			switch shape {
			case 0:
				c = 1 + r.IntN(left/k)
			case 1: // halves, as exponents have
				c = max(1, left>>(1+min(i, 30)))
			case 2: // the same for all
				c = left / k
			default: // all but one once
				if c = 1; i == 0 {
					c = left - k
				}
			}
			h.count[v] = uint32(c)
		}
		bits := h.build()
		sum, total := 0, 0
		for v, c := range h.codes {
			if (c.n != 0) != (h.count[v] != 0) || c.n > maxCodeBits {
				t.Fatalf("value %d occurs %d times, code of %d bits", v, h.count[v], c.n)
			}
			if c.n != 0 {
				sum += 1 << (maxCodeBits - c.n)
				total += int(c.n) * int(h.count[v])
			}
			for u := range v {
				if h.count[u] > h.count[v] && h.count[v] > 0 && h.codes[u].n > c.n {
					t.Fatal("a rarer value has a shorter code")
				}
			}
		}
		if sum != 1<<maxCodeBits || total != bits {
			t.Fatalf("codes sum up to %d/%d; %d bits, build says %d", sum, 1<<maxCodeBits, total, bits)
		}
		table, ok := h.appendTable(nil)
		if !ok {
			continue
		}
		if len(table) > 128 {
			t.Fatalf("table of %d bytes", len(table))
		}
		if _, rest, err := huff0.ReadTable(append(table, 1, 2, 3), nil); err != nil || len(rest) != 3 {
			t.Fatalf("huff0 reads the table: %d bytes left, %v", len(rest), err)
		}
	}
}

// TestHuffmanIsOptimal compares with huff0, whose limit of lengths is a
// heuristic, but which counts all bytes.
func TestHuffmanIsOptimal(t *testing.T) {
	var e Encoder
	var s huff0.Scratch
	s.Reuse = huff0.ReusePolicyNone
	for _, d := range []DType{F8, I16, BF16, F16} {
		content := planned(d.Plan(), weights(d, 128<<10*d.Size()))
		plane := content[len(content)-128<<10:]
		theirs, _, err := huff0.Compress4X(plane, &s)
		if err != nil {
			t.Fatal(err)
		}
		ours, ok := e.appendLiterals(make([]byte, 0, len(plane)), plane, true)
		if !ok {
			t.Fatalf("%v: not coded", d)
		}
		const headers = blockHeader + 5 + 1
		t.Logf("%v: %d bytes, huff0 %d", d, len(ours)-headers, len(theirs))
		if 1000*(len(ours)-headers) > 1001*len(theirs) {
			t.Errorf("%v: %d bytes, huff0 makes %d", d, len(ours)-headers, len(theirs))
		}
	}
}

func TestCountBytes(t *testing.T) {
	for _, n := range lengths() {
		b := flat(F8, n)
		var want, got [256]uint32
		for _, x := range b {
			want[x]++
		}
		got[3] = 7 // left over
		if countBytes(&got, b); got != want {
			t.Fatalf("%d bytes: %v", n, got)
		}
	}
}

func TestCodeLengths(t *testing.T) {
	for _, c := range []struct{ counts, want []int }{
		{[]int{1, 1}, []int{1, 1}},
		{[]int{1, 5, 7}, []int{2, 2, 1}},
		{[]int{1, 1, 2, 3, 5, 8}, []int{5, 5, 4, 3, 2, 1}},
		{[]int{4, 4, 4, 4}, []int{2, 2, 2, 2}},
	} {
		got := slices.Clone(c.counts)
		if codeLengths(got); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, not %v", c.counts, got, c.want)
		}
	}
}
