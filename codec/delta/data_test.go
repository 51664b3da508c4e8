package delta

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/mithrilfs/mithrilfs/codec"
)

var allTypes = []codec.DType{codec.Bytes, codec.F8, codec.I16, codec.I32, codec.I64, codec.BF16, codec.F16, codec.F32, codec.F64}

var floatTypes = []codec.DType{codec.BF16, codec.F16, codec.F32}

// series returns n elements of each type at four steps of a training, the last
// first. Each weight moves at its own pace.
func series(n int, seed uint64) (steps [4][]float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	w, pace := make([]float64, n), make([]float64, n)
	for i := range w {
		w[i] = normal(r) * 0.02
		pace[i] = normal(r) * 1e-5 * float64(1+i/64%7)
	}
	for s := range steps {
		for i := range w {
			w[i] += pace[i] + float64(normal(r)*5e-6)
		}
		steps[len(steps)-1-s] = append([]float64(nil), w...)
	}
	return steps
}

// normal returns about normally distributed numbers, the same on every processor.
func normal(r *rand.Rand) float64 {
	sum := -6.0
	for range 12 {
		sum += r.Float64()
	}
	return sum
}

// elementsOf returns values as elements of type d; integers are the values times
// 2^12.
func elementsOf(values []float64, d codec.DType) Elements {
	var b []byte
	le := binary.LittleEndian
	for _, v := range values {
		f := math.Float32bits(float32(v))
		switch d {
		case codec.BF16, codec.F16:
			b = le.AppendUint16(b, uint16(fromFloat32(f, d)))
		case codec.F32:
			b = le.AppendUint32(b, f)
		case codec.F64:
			b = le.AppendUint64(b, math.Float64bits(v))
		case codec.I16:
			b = le.AppendUint16(b, uint16(int16(v*(1<<12))))
		case codec.I32:
			b = le.AppendUint32(b, uint32(int32(v*(1<<12))))
		case codec.I64:
			b = le.AppendUint64(b, uint64(int64(v*(1<<12))))
		default:
			b = append(b, byte(int8(v*(1<<9))))
		}
	}
	return Elements{b, d}
}

func randomBytes(n int, seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// specials returns patterns that stand for zeros, subnormals, infinities and NaNs
// in any of the float types.
func specials(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(5, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = [...]byte{0x00, 0x80, 0x7f, 0xff, 0xf0, 0x7c, 0x01, 0xc0}[r.IntN(8)]
	}
	return b
}
