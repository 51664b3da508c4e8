package layout

import (
	"bytes"
	"math"
	"unicode"
	"unicode/utf8"

	"github.com/mithrilfs/mithrilfs/codec"
)

// FormatNumbers is the name for data of no known format that consists of
// numbers of one width.
const FormatNumbers = "numbers"

// A probe looks at probeWindows windows of probeWindow bytes.
const (
	probeWindows = 4
	probeWindow  = 16 << 10
)

// numbersGain is how many bits a byte must cost less when the bytes are taken
// apart by their position in the element than when they are not. Weights of
// any float type gain 0.4 to 1.6; text and programs gain less than 0.1.
const numbersGain = 0.25

// widthMargin is how much better, in bits a byte, wider elements must be than
// narrower ones: elements that are two or four of the true type cost the same
// but for the noise of the sample.
const widthMargin = 0.02

// candidates are what the probe tries, by width.
var candidates = [][]codec.DType{{codec.BF16, codec.I16}, {codec.F32, codec.I32}, {codec.F64, codec.I64}}

// numbers is data of one element type whose elements begin at phase.
type numbers struct {
	dtype codec.DType
	phase int64
}

func (n numbers) Format() string    { return FormatNumbers }
func (n numbers) Tensors() []Tensor { return nil }
func (n numbers) Problem() error    { return nil }

func (n numbers) Region(off int64) (Region, error) {
	if off < n.phase {
		return Region{End: n.phase, DType: codec.Bytes}, nil
	}
	return Region{Begin: n.phase, End: math.MaxInt64, DType: n.dtype}, nil
}

var sqliteMagic = []byte("SQLite format 3\x00")

// detectNumbers is the stride probe: for each element type and phase, the
// order-0 entropy of the planes that the codec would make of a sample.
func detectNumbers(head []byte) Layout {
	if len(head) < probeWindow || bytes.HasPrefix(head, sqliteMagic) {
		return nil
	}
	sample := windows(head)
	if isText(sample) {
		return nil // lines of equal length look like numbers to the probe
	}
	best, cost := numbers{}, planeCost(sample, 1, 0, 0)-numbersGain
	for _, types := range candidates {
		if n, c := bestOf(sample, types); c < cost {
			best, cost = n, c-widthMargin
		}
	}
	if best.dtype == codec.Bytes {
		return nil
	}
	return best
}

// bestOf returns the type and phase of least cost; the first of those that are
// equal but for the noise of the sample.
func bestOf(sample [][]byte, types []codec.DType) (best numbers, cost float64) {
	const noise = 0.002
	cost = math.Inf(1)
	for _, d := range types {
		for phase := range d.Size() {
			c := planeCost(sample, d.Size(), d.Plan().Rotation(), phase)
			if c < cost-noise {
				best, cost = numbers{d, int64(phase)}, c
			}
		}
	}
	return best, cost
}

// isText says whether all but a few bytes are printable, in ASCII or UTF-8.
func isText(sample [][]byte) bool {
	total, odd := 0, 0
	for _, w := range sample {
		total += len(w)
		for len(w) > 0 {
			r, n := utf8.DecodeRune(w)
			if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
				odd++
			}
			w = w[n:]
		}
	}
	return odd*50 < total
}

// windows picks parts spread over head, each beginning at a multiple of 8.
func windows(head []byte) [][]byte {
	if len(head) <= probeWindows*probeWindow {
		return [][]byte{head}
	}
	var w [][]byte
	for i := range probeWindows {
		at := (len(head) - probeWindow) * i / (probeWindows - 1) &^ 7
		w = append(w, head[at:at+probeWindow])
	}
	return w
}

// planeCost is the order-0 entropy, in bits a byte, of the planes of elements
// of the given width, rotated left, that begin at phase in every window.
func planeCost(sample [][]byte, width, rotation, phase int) float64 {
	hist := make([][256]int, width)
	mask := uint64(math.MaxUint64) >> (64 - 8*width)
	for _, w := range sample {
		for w = w[phase:]; len(w) >= width; w = w[width:] {
			var u uint64
			for i := range width {
				u |= uint64(w[i]) << (8 * i)
			}
			u = (u<<rotation | u>>(8*width-rotation)) & mask
			for i := range width {
				hist[i][byte(u>>(8*i))]++
			}
		}
	}
	var sum float64
	for i := range hist {
		sum += entropy(&hist[i])
	}
	return sum / float64(width)
}

// entropy estimates the order-0 entropy of what hist counts, in bits. Counting
// few samples underestimates it; the second term is Miller and Madow's
// correction.
func entropy(hist *[256]int) float64 {
	total, kinds, h := 0, 0, 0.0
	for _, n := range hist {
		total += n
	}
	for _, n := range hist {
		if n > 0 {
			p := float64(n) / float64(total)
			h -= p * math.Log2(p)
			kinds++
		}
	}
	return h + float64(kinds-1)/(2*math.Ln2*float64(max(total, 1)))
}
