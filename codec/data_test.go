package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// allDTypes lists every DType.
var allDTypes = []DType{Bytes, F8, I16, I32, I64, BF16, F16, F32, F64}

// A kind is a way of making n bytes of test data for a DType.
type kind struct {
	name string
	make func(d DType, n int) []byte
}

var kinds = []kind{
	{"weights", weights},
	{"zeros", func(_ DType, n int) []byte { return make([]byte, n) }},
	{"constant", func(d DType, n int) []byte { return repeat(weights(d, d.Size()), n) }},
	{"random", func(_ DType, n int) []byte { return randomBytes(n, 7) }},
	{"text", func(_ DType, n int) []byte { return repeat([]byte("it was the best of times, "), n) }},
	{"small ints", smallInts},
	{"special floats", specials},
	{"flat", flat},
	{"zero rows", zeroRows},
}

// lengths are the lengths that the tables of tests go through. The longest only
// take time under the race detector.
func lengths() []int {
	var l []int
	for n := 0; n <= 17; n++ {
		l = append(l, n)
	}
	l = append(l, 100, 1023, 1024, 1025, 4096+3, 64<<10-1, 64<<10, 64<<10+1)
	if !testing.Short() && !raceEnabled {
		l = append(l, 128<<10-1, 128<<10, 128<<10+1, 256<<10, 256<<10+5)
	}
	return l
}

func randomBytes(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func repeat(b []byte, n int) []byte {
	out := make([]byte, 0, n+len(b))
	for len(out) < n {
		out = append(out, b...)
	}
	return out[:n]
}

// weights returns normally distributed values with a standard deviation of
// 0.02, as a trained matrix has; integers are the same times 2^12.
func weights(d DType, n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = appendValue(b, d, normal(r)*0.02)
	}
	return b[:n]
}

// normal returns a normally distributed number of which every bit of the
// mantissa is random, down to the last.
func normal(r *rand.Rand) float64 { return r.NormFloat64() * (1 + r.Float64()*1e-6) }

func appendValue(b []byte, d DType, x float64) []byte {
	le := binary.LittleEndian
	switch d {
	case I16:
		return le.AppendUint16(b, uint16(int16(x*(1<<12))))
	case I32:
		return le.AppendUint32(b, uint32(int32(x*(1<<12))))
	case I64:
		return le.AppendUint64(b, uint64(int64(x*(1<<12))))
	case BF16:
		u := math.Float32bits(float32(x))
		return le.AppendUint16(b, uint16((u+0x7fff+u>>16&1)>>16))
	case F16:
		return le.AppendUint16(b, float16(x))
	case F32:
		return le.AppendUint32(b, math.Float32bits(float32(x)))
	case F64:
		return le.AppendUint64(b, math.Float64bits(x))
	}
	// F8_E4M3 is the upper byte of a float16, less one bit of exponent.
	h := float16(x * 256)
	return append(b, byte(h>>8&0x80|h>>7&0x7f))
}

// float16 truncates x, which is small enough, to IEEE 754 binary16.
func float16(x float64) uint16 {
	u := math.Float64bits(x)
	sign := uint16(u >> 63 << 15)
	exp := int(u>>52&0x7ff) - 1023 + 15
	switch {
	case exp <= 0:
		return sign | uint16(math.Abs(x)*(1<<24))
	case exp >= 31:
		return sign | 31<<10
	}
	return sign | uint16(exp)<<10 | uint16(u>>42&0x3ff)
}

func smallInts(d DType, n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := 0; i < n; i += d.Size() {
		b[i] = byte(r.IntN(100))
	}
	return b
}

// specials returns patterns of sign, exponent and mantissa that stand for zeros,
// denormals, infinities and NaNs in any of the float types.
func specials(_ DType, n int) []byte {
	r := rand.New(rand.NewPCG(5, 6))
	b := make([]byte, n)
	for i := range b {
		b[i] = [...]byte{0x00, 0x80, 0x7f, 0xff, 0xf0, 0x7c, 0x01, 0xc0}[r.IntN(8)]
	}
	return b
}

// flat returns 150 byte values that are equally likely: a gain of 10 % although
// no value is common.
func flat(_ DType, n int) []byte {
	r := rand.New(rand.NewPCG(7, 8))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(150)*5/3 + 1)
	}
	return b
}

// zeroRows returns weights of which every other row of 300 elements is zero, and a
// quarter of 64 KiB in a row.
func zeroRows(d DType, n int) []byte {
	b := weights(d, n)
	row := 300 * d.Size()
	for i := 0; i < n; i += 2 * row {
		clear(b[i:min(n, i+row)])
	}
	for i := 0; i < n; i += 64 << 10 {
		clear(b[i:min(n, i+16<<10)])
	}
	return b
}

// planned is the reference for Plan: the content that the documentation defines,
// one element at a time.
func planned(p Plan, src []byte) []byte {
	w, r := 1<<(p%4), int(p/4)
	n := len(src) / w
	out := make([]byte, n*w, len(src))
	for i := range n {
		var v uint64
		for k := range w {
			v |= uint64(src[i*w+k]) << (8 * k)
		}
		v = v<<r | v>>(8*w-r) // bits beyond the element are never looked at
		for k := range w {
			out[k*n+i] = byte(v >> (8 * k))
		}
	}
	return append(out, src[n*w:]...)
}

// forAll runs f for every DType, kind of data and length.
func forAll(t *testing.T, f func(t *testing.T, d DType, src []byte)) {
	for _, d := range allDTypes {
		for _, k := range kinds {
			t.Run(strings.ReplaceAll(fmt.Sprintf("%v/%s", d, k.name), " ", "_"), func(t *testing.T) {
				for _, n := range lengths() {
					f(t, d, k.make(d, n))
				}
			})
		}
	}
}
