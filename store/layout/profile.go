package layout

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A sample is some pieces of a file, each beginning at a multiple of 8 in it.
type sample [][]byte

// profile is what a sample looks like without knowing its elements: the order-0
// entropy, in bits, of the bytes at each position modulo 8.
type profile [8]float64

func profileOf(s sample) profile {
	var hist [8][256]uint32
	for _, w := range s {
		for ; len(w) >= 8; w = w[8:] {
			u := binary.LittleEndian.Uint64(w)
			hist[0][byte(u)]++
			hist[1][byte(u>>8)]++
			hist[2][byte(u>>16)]++
			hist[3][byte(u>>24)]++
			hist[4][byte(u>>32)]++
			hist[5][byte(u>>40)]++
			hist[6][byte(u>>48)]++
			hist[7][byte(u>>56)]++
		}
	}
	var p profile
	for i := range hist {
		p[i] = entropy(&hist[i])
	}
	return p
}

// sameCharacter is how many bits the entropy of a lane may change by in data
// that are more of the same: tensors of one type differ by less, another type,
// another phase, text or noise by more.
const sameCharacter = 1.0

func (p *profile) like(q *profile) bool {
	for i := range p {
		if math.Abs(p[i]-q[i]) > sameCharacter {
			return false
		}
	}
	return true
}

// constant says whether the sample repeats 8 bytes, which suits every type.
func (p *profile) constant() bool { return slices.Max(p[:]) < 0.01 }

// planeCost is the order-0 entropy, in bits a byte, of the planes of elements
// of the given width, rotated left, that begin at phase in every piece.
func planeCost(s sample, width, rotation, phase int) float64 {
	var hist [8][256]uint32
	for _, w := range s {
		countPlanes(&hist, w[min(phase, len(w)):], width, rotation)
	}
	var sum float64
	for i := range width {
		sum += entropy(&hist[i])
	}
	return sum / float64(width)
}

func countPlanes(hist *[8][256]uint32, w []byte, width, rotation int) {
	switch width {
	case 1:
		for _, b := range w {
			hist[0][b]++
		}
	case 2:
		for ; len(w) >= 2; w = w[2:] {
			u := binary.LittleEndian.Uint16(w)
			u = u<<rotation | u>>(16-rotation)
			hist[0][byte(u)]++
			hist[1][byte(u>>8)]++
		}
	case 4:
		for ; len(w) >= 4; w = w[4:] {
			u := binary.LittleEndian.Uint32(w)
			u = u<<rotation | u>>(32-rotation)
			hist[0][byte(u)]++
			hist[1][byte(u>>8)]++
			hist[2][byte(u>>16)]++
			hist[3][byte(u>>24)]++
		}
	case 8:
		for ; len(w) >= 8; w = w[8:] {
			u := binary.LittleEndian.Uint64(w)
			u = u<<rotation | u>>(64-rotation)
			for i := range 8 {
				hist[i][byte(u>>(8*i))]++
			}
		}
	}
}

// entropy estimates the order-0 entropy of what hist counts, in bits. Counting
// few samples underestimates it; the last term is Miller and Madow's correction.
func entropy(hist *[256]uint32) float64 {
	table := nLogN()
	var total, kinds uint32
	var sum float64
	for _, n := range hist {
		if n < uint32(len(table)) {
			sum += table[n]
		} else {
			sum += float64(n) * math.Log2(float64(n))
		}
		total += n
		kinds += (n | -n) >> 31
	}
	if total == 0 {
		return 0
	}
	t := float64(total)
	return math.Log2(t) - sum/t + float64(kinds-1)/(2*math.Ln2*t)
}

// nLogN is n times its logarithm, for the counts that are frequent.
var nLogN = sync.OnceValue(func() *[4096]float64 {
	var t [4096]float64
	for n := 1; n < len(t); n++ {
		t[n] = float64(n) * math.Log2(float64(n))
	}
	return &t
})

// isText says whether all but a few bytes are printable, in ASCII or UTF-8.
func isText(s sample) bool {
	total, odd := 0, 0
	for _, w := range s {
		total += len(w)
	}
	for _, w := range s {
		for len(w) > 0 && odd*50 < total {
			r, n := utf8.DecodeRune(w)
			if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
				odd++
			}
			w = w[n:]
		}
	}
	return odd*50 < total
}
