package layout

import (
	"bytes"
	"math"

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
	pooled := planeCost(sample, 1, 0, 0)
	best, cost := numbers{}, pooled-numbersGain
	for _, d := range []codec.DType{codec.BF16, codec.F32, codec.F64, codec.I16, codec.I32, codec.I64} {
		for phase := range d.Size() {
			c := planeCost(sample, d.Size(), d.Plan().Rotation(), phase)
			if c < cost {
				best, cost = numbers{d, int64(phase)}, c
			}
		}
	}
	if best.dtype == codec.Bytes {
		return nil
	}
	return best
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

func entropy(hist *[256]int) float64 {
	total, h := 0, 0.0
	for _, n := range hist {
		total += n
	}
	for _, n := range hist {
		if n > 0 {
			p := float64(n) / float64(total)
			h -= p * math.Log2(p)
		}
	}
	return h
}
