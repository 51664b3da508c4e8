package safetensors

// DType is the element type of a tensor, as the header spells it. A DType that
// is none of the constants is valid: its elements are unknown bytes.
type DType string

// The element types of safetensors 0.8.0. Fx_EyMz is a float of x bits with y
// bits of exponent and z of mantissa; FNUZ has no infinities and no negative
// zero.
const (
	Bool       DType = "BOOL"
	F4         DType = "F4"
	F6E2M3     DType = "F6_E2M3"
	F6E3M2     DType = "F6_E3M2"
	U8         DType = "U8"
	I8         DType = "I8"
	F8E5M2     DType = "F8_E5M2"
	F8E4M3     DType = "F8_E4M3"
	F8E8M0     DType = "F8_E8M0"
	F8E4M3FNUZ DType = "F8_E4M3FNUZ"
	F8E5M2FNUZ DType = "F8_E5M2FNUZ"
	I16        DType = "I16"
	U16        DType = "U16"
	F16        DType = "F16"
	BF16       DType = "BF16"
	I32        DType = "I32"
	U32        DType = "U32"
	F32        DType = "F32"
	C64        DType = "C64" // two F32: real, imaginary
	F64        DType = "F64"
	I64        DType = "I64"
	U64        DType = "U64"
)

// Bits returns the size of one element in bits, and whether d is a known
// element type. Elements smaller than a byte are packed without gaps.
func (d DType) Bits() (bits int, known bool) {
	switch d {
	case F4:
		return 4, true
	case F6E2M3, F6E3M2:
		return 6, true
	case Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ:
		return 8, true
	case I16, U16, F16, BF16:
		return 16, true
	case I32, U32, F32:
		return 32, true
	case C64, F64, I64, U64:
		return 64, true
	}
	return 0, false
}

// knownDType returns the constant that text spells, so that the headers of
// large models do not hold one copy of "BF16" for each tensor.
func knownDType(text []byte) (d DType, known bool) {
	for _, d := range [...]DType{
		BF16, F32, F16, F64, F8E4M3, F8E5M2, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ,
		F4, F6E2M3, F6E3M2, U8, I8, Bool, I16, U16, I32, U32, I64, U64, C64,
	} {
		if string(text) == string(d) {
			return d, true
		}
	}
	return "", false
}
