package delta

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/mithrilfs/mithrilfs/codec"
)

// reference is a decoder after docs/delta-frames.md, one element at a time and
// with no regard for speed. It reads only what an encoder makes: damage makes it
// panic or return anything.

type referenceBits struct {
	in  []byte
	pos int
}

func (r *referenceBits) u(k int) (v uint64) {
	for i := range k {
		v |= uint64(r.in[r.pos/8]>>(r.pos%8)&1) << i
		r.pos++
	}
	return v
}

func (r *referenceBits) g(k int) int {
	m := 0
	for r.u(1) == 0 {
		m++
	}
	return int(r.u(k+m)) + 1<<(k+m) - 1<<k
}

func (r *referenceBits) s(k int) int { return int(referenceSigned(uint64(r.g(k)))) }

func (r *referenceBits) differences(n, k int) []int {
	c, last := make([]int, n), 0
	for i := range c {
		last += r.s(k)
		c[i] = last
	}
	return c
}

func referenceSigned(z uint64) int64 {
	if z%2 == 0 {
		return int64(z / 2)
	}
	return -int64(z/2) - 1
}

type referenceDecoder struct {
	dtype                             codec.DType
	width, mantissa, parts            int
	moves, fraction                   int
	n, grouping                       int
	firstE, firstA, firstC, floor     int
	exponents, activities, movements  []int
	columns, trends, gains, lastGains []int
	explicit                          []int
	stride                            int
	class                             [8][32]int
	freq                              [][]int
	base                              [3][]uint32 // bits
}

// referenceDecode returns the logical bytes of frame.
func referenceDecode(frame []byte, bases []Elements) ([]byte, error) {
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	content, err := z.DecodeAll(frame, nil)
	if err != nil {
		return nil, err
	}
	used := int(content[0] >> 4)
	d := &referenceDecoder{dtype: codec.DType(content[1])}
	sum := binary.LittleEndian.Uint32(content[2+used:])
	rest := content[6+used:]
	var out []byte
	switch content[0] & 15 {
	case 0:
		out = append(out, bases[0].Data...)
		if bases[0].Type != d.dtype {
			out = make([]byte, len(out)/bases[0].Type.Size()*d.dtype.Size())
			castElements(out, d.dtype, bases[0])
		}
	case 1:
		out = d.residual(rest, bases[:used])
	case 2:
		if out, err = d.difference(rest, bases[0].Data, z); err != nil {
			return nil, err
		}
	}
	if uint32(xxhash.Sum64(out)) != sum {
		return nil, errors.New("another checksum")
	}
	return out, nil
}

func (d *referenceDecoder) difference(rest, base []byte, z *zstd.Decoder) ([]byte, error) {
	size, k := binary.Uvarint(rest)
	planes, err := z.DecodeAll(rest[k:], nil)
	if err != nil {
		return nil, err
	}
	w := d.dtype.Size()
	n := int(size) / w
	var out []byte
	for i := range n {
		var v, b uint64
		for p := range w {
			v |= uint64(planes[p*n+i]) << (8 * p)
			b |= uint64(base[i*w+p]) << (8 * p)
		}
		v = uint64(referenceSigned(v))
		if d.dtype == codec.F64 {
			v = referenceElement(int64(v+uint64(referenceOrdinal(b, 64))), 64)
		} else {
			v += b
		}
		for p := range w {
			out = append(out, byte(v>>(8*p)))
		}
	}
	return out, nil
}

func referenceOrdinal(u uint64, width int) int64 {
	mask := ^uint64(0) >> (64 - width)
	if u>>(width-1) == 1 {
		return int64(^u & mask)
	}
	return int64(u | 1<<(width-1))
}

func referenceElement(o int64, width int) uint64 {
	mask := ^uint64(0) >> (64 - width)
	u := uint64(o) & mask
	if u>>(width-1) == 1 {
		return u &^ (1 << (width - 1))
	}
	return ^u & mask
}

func (d *referenceDecoder) residual(rest []byte, bases []Elements) []byte {
	n, k := binary.Uvarint(rest)
	rest = rest[k:]
	d.n, d.width, d.parts, d.moves = int(n), 16, 1, 48
	switch d.dtype {
	case codec.BF16:
		d.mantissa, d.fraction = 7, 12
	case codec.F16:
		d.mantissa = 10
	default:
		d.mantissa, d.fraction, d.width, d.parts, d.moves = 23, 20, 32, 2, 64
	}
	d.setBases(bases)
	r := &referenceBits{in: rest}
	d.parameters(r, len(bases))
	rest = rest[(r.pos+7)/8:]
	size, k := binary.Uvarint(rest)
	rest = rest[k:]
	return d.elements(&referenceBits{in: rest[:size]}, rest[size:], len(bases))
}

func (d *referenceDecoder) setBases(bases []Elements) {
	for i, b := range bases {
		raw := b.Data
		if b.Type != d.dtype {
			raw = make([]byte, d.n*d.width/8)
			castElements(raw, d.dtype, b)
		}
		d.base[i] = make([]uint32, d.n)
		for k := range d.n {
			for p := range d.width / 8 {
				d.base[i][k] |= uint32(raw[k*d.width/8+p]) << (8 * p)
			}
		}
	}
	for i := len(bases); i < 3; i++ {
		d.base[i] = d.base[i-1]
	}
}

func (d *referenceDecoder) parameters(r *referenceBits, bases int) {
	d.grouping = int(r.u(2))
	d.firstE, d.firstA, d.floor = int(r.u(8)), int(r.u(8)), int(r.u(8))
	halves := min(bases, 2)
	d.exponents, d.activities = r.differences(32*halves, 0), r.differences(24*halves, 0)
	d.gains, d.lastGains = make([]int, 32), make([]int, 32)
	d.trends, d.movements, d.columns = make([]int, 16), make([]int, 64), make([]int, 24)
	if bases == 1 {
		k := int(r.u(2))
		d.explicit = make([]int, (d.n+127)/128)
		if k < 3 {
			d.explicit = r.differences(len(d.explicit), k)
		}
	} else {
		d.gains = r.differences(32, 1)
		if bases == 3 {
			d.lastGains, d.trends = r.differences(32, 1), r.differences(16, 0)
		}
		d.movements = r.differences(d.moves, 0)
		if d.stride = r.g(0); d.stride > 0 {
			d.firstC = int(r.u(8))
			d.columns = r.differences(24, 0)
		}
	}
	classes := 0
	for g := range []int{1, 6, 8, 2}[d.grouping] {
		for l := 0; l < 32; classes++ {
			run := r.g(1)
			if run == 0 {
				run = 32 - l
			}
			for range run {
				d.class[g][l] = classes
				l++
			}
		}
	}
	for range classes {
		d.freq = append(d.freq, d.table(r))
	}
}

// table returns the frequencies of a class; the steps follow them.
func (d *referenceDecoder) table(r *referenceBits) []int {
	const syms = 128
	t := make([]int, 2*syms)
	freq, step := t[:syms], t[syms:]
	n, main := r.g(2)+1, r.g(0)
	before, k := r.u(1) == 1, int(r.u(2))
	rest := 4096
	for s := range n {
		expected := 44
		switch {
		case before:
			expected = d.freq[len(d.freq)-1][syms+s]
		case s >= 2:
			expected = step[s-2]
		case s == 1:
			expected = step[0]
		}
		if s == main {
			for q := 0; q <= 44 && referenceStep(q) <= rest; q++ {
				step[s] = q
			}
			continue
		}
		step[s] = expected + r.s(k)
		freq[s] = referenceStep(step[s])
		rest -= freq[s]
	}
	freq[main] = rest
	return t
}

func referenceStep(q int) int {
	if q < 4 {
		return q
	}
	return (4 + q%4) << (q/4 - 1)
}

func referenceClamp(v, low, high int) int { return max(low, min(v, high)) }

func referenceQuarters(v uint64) int {
	if v == 0 {
		return 0
	}
	n := bits.Len64(v)
	two := 0
	if n >= 2 {
		two = int(v>>(n-2)&1) * 2
	}
	if n >= 3 {
		two += int(v >> (n - 3) & 1)
	}
	return 4*n - 3 + two
}

// A referenceFeature is what section 3 says of an element.
type referenceFeature struct {
	e, m, t     int
	down, moved bool
	guess       int64 // an ordinal
	counts      uint64
}

// value returns the number that an element stands for.
func (d *referenceDecoder) value(u uint32) float32 {
	return math.Float32frombits(float32Of(u, d.dtype))
}

// exponent returns e(v).
func (d *referenceDecoder) exponent(v float32) int {
	return referenceClamp(int(math.Float32bits(v)>>23&0xff)-d.firstE, 0, 31)
}

// inUnits returns v in units of elements of exponent e.
func (d *referenceDecoder) inUnits(v float32, e int) float64 {
	return math.Ldexp(float64(v), 127+d.mantissa-d.firstE-e)
}

func referenceDifference(a, b float32) float32 {
	if r := a - b; !math.IsInf(float64(r), 0) && r == r {
		return r
	}
	return 0
}

func (d *referenceDecoder) feature(i int) (f referenceFeature) {
	b, p, q := d.value(d.base[0][i]), d.value(d.base[1][i]), d.value(d.base[2][i])
	step, last := referenceDifference(b, p), referenceDifference(p, q)
	if step < 0 || step == 0 && last < 0 {
		f.down, step, last = true, -step, -last
	}
	f.moved = step > 0
	e := d.exponent(b)
	// Products of the exact kind, each rounded to a float32 before the sum.
	x := float32(float64(step)*float64(d.gains[e])/32) + float32(float64(last)*float64(d.lastGains[e])/32)
	if f.down {
		x = -x
	}
	v, bits := b, d.base[0][i]
	if y := b + x; x != 0 && d.inUnits(step, e) >= 4 && referenceDifference(y, 0) == y {
		v, bits = y, fromFloat32(math.Float32bits(y), d.dtype)
	}
	f.guess = referenceOrdinal(uint64(bits), d.width)
	f.e = d.exponent(v)
	if f.moved {
		part, octave := math.Frexp(d.inUnits(step, f.e)) // 1/2 and 1 for 1 unit
		half := 0
		if part >= 0.75 {
			half = 1
		}
		f.m = referenceClamp(2*octave+half, 1, d.moves-1)
	}
	f.t = 8 + int(max(-7, min(7, d.inUnits(last, f.e))))
	f.counts = uint64(min(math.Ldexp(float64(step), 127+d.mantissa-d.fraction-d.firstE), 1<<24))
	return f
}

func (d *referenceDecoder) group(f *referenceFeature) int {
	switch d.grouping {
	case 1:
		switch {
		case f.m == 0:
			return 0
		case f.m < 4:
			return 1
		}
		return min(f.m-2, 5)
	case 3:
		return min(f.m, 1)
	case 2:
		switch {
		case f.m == 0 && f.t == 8:
			return 0
		case f.m == 0:
			return 1
		case f.m < 4 && f.t < 8:
			return 2
		case f.m < 4 && f.t == 8:
			return 3
		case f.m < 4:
			return 4
		case f.m < 6 && f.t <= 8:
			return 5
		case f.m < 6:
			return 6
		}
		return 7
	}
	return 0
}

func (d *referenceDecoder) elements(raw *referenceBits, coded []byte, bases int) []byte {
	features := make([]referenceFeature, d.n)
	blocks := make([]uint64, (d.n+127)/128)
	columns := make([]uint64, d.stride)
	for i := range features {
		features[i] = d.feature(i)
		blocks[i/128] += features[i].counts
		if d.stride > 0 {
			columns[i%d.stride] += features[i].counts
		}
	}
	var x [32]uint64
	for i := range x {
		x[i] = uint64(binary.LittleEndian.Uint32(coded[4*i:]))
	}
	coded = coded[128:]
	var out []byte
	for i := range features {
		f := &features[i]
		k := i / 128
		level := 0
		if bases == 1 {
			level = d.explicit[k]
		} else {
			before, after := blocks[max(k-1, 0)], blocks[min(k+1, len(blocks)-1)]
			level = referenceClamp(referenceQuarters(4*blocks[k]+before+after)-d.firstA, 0, 23)
		}
		moved := 0
		if f.moved {
			moved = 1
		}
		score := d.exponents[f.e+32*moved] + d.activities[level+24*moved] + d.movements[f.m] + d.trends[f.t] - d.floor
		if d.stride > 0 {
			score += d.columns[referenceClamp(referenceQuarters(columns[i%d.stride])-d.firstC, 0, 23)]
		}
		freq := d.freq[d.class[d.group(f)][referenceClamp(score, 0, 31)]]
		state := &x[i%32]
		slot, start, s := int(*state%4096), 0, 0
		for start+freq[s] <= slot {
			start += freq[s]
			s++
		}
		*state = uint64(freq[s])*(*state>>12) + uint64(slot-start)
		if *state < 1<<16 {
			*state = *state<<16 + uint64(binary.LittleEndian.Uint16(coded))
			coded = coded[2:]
		}
		z := uint64(s)
		if s >= 16 {
			o, part := 4+(s-16)>>d.parts, (s-16)&(1<<d.parts-1)
			z = 1<<o + uint64(part)<<(o-d.parts) + raw.u(o-d.parts)
		}
		r := referenceSigned(z)
		if f.down {
			r = -r
		}
		u := referenceElement(f.guess+r, d.width)
		for p := range d.width / 8 {
			out = append(out, byte(u>>(8*p)))
		}
	}
	return out
}
