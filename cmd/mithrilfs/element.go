package main

import (
	"encoding/binary"
	"math"
	"strconv"
	"sync"
)

// An element is how one number of a tensor is kept.
type element struct {
	name   string // one for all formats, such as "f32"
	size   int    // bytes
	float  bool
	decode func(dst []float64, src []byte) // nil: it is bytes, of which nothing more is known
}

// parts is how many numbers of this type n bytes are.
func (e *element) parts(n int64) int64 { return n / int64(e.size) }

// comparable says whether numbers of two types have values to compare.
func comparable(a, b *element) bool { return a.name == b.name || a.float && b.float }

var opaque = element{name: "bytes", size: 1}

// elements are the types by all names that formats give them.
var elements = byName([]namedElement{
	{element{"bf16", 2, true, decodeBF16}, []string{"BF16", "bfloat16"}},
	{element{"f16", 2, true, decodeF16}, []string{"F16", "float16", "<f2"}},
	{element{"f32", 4, true, decodeF32}, []string{"F32", "float32", "<f4"}},
	{element{"f64", 8, true, decodeF64}, []string{"F64", "float64", "<f8"}},
	{element{"f8_e4m3", 1, true, decodeE4M3}, []string{"F8_E4M3", "float8_e4m3fn"}},
	{element{"f8_e5m2", 1, true, decodeE5M2}, []string{"F8_E5M2", "float8_e5m2"}},
	{element{"c64", 4, true, decodeF32}, []string{"C64", "complex64", "<c8"}},
	{element{"c128", 8, true, decodeF64}, []string{"complex128", "<c16"}},
	{element{"i8", 1, false, signed(1)}, []string{"I8", "int8", "|i1"}},
	{element{"i16", 2, false, signed(2)}, []string{"I16", "int16", "<i2"}},
	{element{"i32", 4, false, signed(4)}, []string{"I32", "int32", "<i4"}},
	{element{"i64", 8, false, signed(8)}, []string{"I64", "int64", "<i8"}},
	{element{"u8", 1, false, unsigned(1)}, []string{"U8", "uint8", "|u1"}},
	{element{"bool", 1, false, unsigned(1)}, []string{"BOOL", "bool", "|b1"}},
	{element{"u16", 2, false, unsigned(2)}, []string{"U16", "uint16", "<u2"}},
	{element{"u32", 4, false, unsigned(4)}, []string{"U32", "uint32", "<u4"}},
	{element{"u64", 8, false, unsigned(8)}, []string{"U64", "uint64", "<u8"}},
})

type namedElement struct {
	element
	names []string
}

func byName(list []namedElement) map[string]*element {
	m := make(map[string]*element)
	for i := range list {
		for _, name := range list[i].names {
			m[name] = &list[i].element
		}
	}
	return m
}

// elementOf finds the type of a tensor of so many bytes and elements. What it does
// not know, or what is packed, is bytes.
func elementOf(dtype string, shape []uint64, bytes int64) *element {
	e := elements[dtype]
	if e == nil {
		return &opaque
	}
	width := int64(e.size)
	if e.name == "c64" || e.name == "c128" {
		width *= 2
	}
	n, ok := elementCount(shape)
	if !ok || n > math.MaxInt64/width || n*width != bytes {
		return &opaque
	}
	return e
}

// elementCount is how many elements a shape has.
func elementCount(shape []uint64) (n int64, ok bool) {
	n = 1
	for _, d := range shape {
		if d > math.MaxInt64 || d > 0 && n > math.MaxInt64/int64(d) {
			return 0, false
		}
		n *= int64(d)
	}
	return n, true
}

func decodeF64(dst []float64, src []byte) {
	for i := range dst {
		dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:]))
	}
}

func decodeF32(dst []float64, src []byte) {
	for i := range dst {
		dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
	}
}

func decodeBF16(dst []float64, src []byte) {
	for i := range dst {
		dst[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16))
	}
}

func decodeF16(dst []float64, src []byte) {
	values := halves()
	for i := range dst {
		dst[i] = float64(values[binary.LittleEndian.Uint16(src[2*i:])])
	}
}

func decodeE5M2(dst []float64, src []byte) { // the upper byte of an f16
	values := halves()
	for i := range dst {
		dst[i] = float64(values[uint16(src[i])<<8])
	}
}

func decodeE4M3(dst []float64, src []byte) {
	for i := range dst {
		u := src[i]
		value := smallFloat(uint32(u&0x7f), 3, 7)
		if u&0x7f == 0x7f { // the only NaN; there is no infinity
			value = math.NaN()
		}
		dst[i] = math.Copysign(value, 1-2*float64(u>>7))
	}
}

// halves are the values of all f16.
var halves = sync.OnceValue(func() *[1 << 16]float32 {
	var t [1 << 16]float32
	for u := range t {
		magnitude := uint32(u & 0x7fff)
		value := smallFloat(magnitude, 10, 15)
		switch {
		case magnitude == 0x7c00:
			value = math.Inf(1)
		case magnitude > 0x7c00:
			value = math.NaN()
		}
		t[u] = float32(math.Copysign(value, 1-2*float64(u>>15)))
	}
	return &t
})

// smallFloat is the value of a float's bits without the sign, as if every exponent
// were one of a number.
func smallFloat(u uint32, mantissa, bias int) float64 {
	exponent, fraction := int(u>>mantissa), float64(u&(1<<mantissa-1))
	if exponent == 0 {
		return math.Ldexp(fraction, 1-bias-mantissa)
	}
	return math.Ldexp(fraction+float64(uint32(1)<<mantissa), exponent-bias-mantissa)
}

func word(src []byte, i, size int) uint64 {
	switch size {
	case 1:
		return uint64(src[i])
	case 2:
		return uint64(binary.LittleEndian.Uint16(src[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return binary.LittleEndian.Uint64(src[8*i:])
}

func signed(size int) func([]float64, []byte) {
	shift := 64 - 8*size
	return func(dst []float64, src []byte) {
		for i := range dst {
			dst[i] = float64(int64(word(src, i, size)) << shift >> shift)
		}
	}
}

func unsigned(size int) func([]float64, []byte) {
	return func(dst []float64, src []byte) {
		for i := range dst {
			dst[i] = float64(word(src, i, size))
		}
	}
}

// significant is a number for people, in at most three digits.
func significant(f float64) string { return strconv.FormatFloat(f, 'g', 3, 64) }
