package codec

import "fmt"

// A DType is an element type, as far as it matters for compression: what
// shares width and layout shares a DType. Its values are part of the format of
// [Compress].
type DType uint8

// The element types. Unsigned integers are coded as the signed ones of their
// width, those of one byte as Bytes, complex numbers as the floats that they
// consist of, and all that is not numbers as Bytes.
const (
	Bytes DType = 0 // bytes of no known structure
	F8    DType = 1 // floats of one byte, such as F8_E4M3 and F8_E5M2
	I16   DType = 2 // integers of 2 bytes
	I32   DType = 3 // integers of 4 bytes
	I64   DType = 4 // integers of 8 bytes
	BF16  DType = 5 // brain floats: sign, 8 bits of exponent, 7 of mantissa
	F16   DType = 6 // IEEE 754 binary16: sign, 5 bits of exponent, 10 of mantissa
	F32   DType = 7 // IEEE 754 binary32: sign, 8 bits of exponent, 23 of mantissa
	F64   DType = 8 // IEEE 754 binary64: sign, 11 bits of exponent, 52 of mantissa
)

// dtypes describes every DType, indexed by its value.
var dtypes = [...]struct {
	name string
	plan Plan
}{
	Bytes: {"bytes", 0},
	F8:    {"f8", 0},
	I16:   {"i16", makePlan(2, 0)},
	I32:   {"i32", makePlan(4, 0)},
	I64:   {"i64", makePlan(8, 0)},
	BF16:  {"bf16", makePlan(2, 1)},
	F16:   {"f16", makePlan(2, 1)},
	F32:   {"f32", makePlan(4, 1)},
	F64:   {"f64", makePlan(8, 4)},
}

// Valid reports whether d is one of the constants above.
func (d DType) Valid() bool { return int(d) < len(dtypes) }

// Size returns the size of one element in bytes; 1 for an invalid DType.
func (d DType) Size() int { return d.Plan().Width() }

// Plan returns the plan by which elements of this type are usually coded;
// [Encoder.AppendFrame] may find a better one. An invalid DType is coded as Bytes.
func (d DType) Plan() Plan {
	if !d.Valid() {
		return 0
	}
	return dtypes[d].plan
}

// String returns the type's name in lower case, such as "bf16".
func (d DType) String() string {
	if !d.Valid() {
		return fmt.Sprintf("dtype(%d)", uint8(d))
	}
	return dtypes[d].name
}
