package layout

import "github.com/mithrilfs/mithrilfs/codec"

// torchType is an element type of torch, as an index into torchTypes.
type torchType uint8

// torchUntyped is what an UntypedStorage has: bytes, until a tensor says more.
const torchUntyped torchType = 0

// torchTypes are the element types that torch saves: the name of the dtype, that
// of the storage class, the size in bytes, and what the codec makes of it.
var torchTypes = [...]struct {
	name, storage string
	size          int64
	codec         codec.DType
}{
	torchUntyped: {"uint8", "UntypedStorage", 1, codec.Bytes},
	{"float32", "FloatStorage", 4, codec.F32},
	{"float64", "DoubleStorage", 8, codec.F64},
	{"float16", "HalfStorage", 2, codec.F16},
	{"bfloat16", "BFloat16Storage", 2, codec.BF16},
	{"int64", "LongStorage", 8, codec.I64},
	{"int32", "IntStorage", 4, codec.I32},
	{"int16", "ShortStorage", 2, codec.I16},
	{"int8", "CharStorage", 1, codec.Bytes},
	{"uint8", "ByteStorage", 1, codec.Bytes},
	{"bool", "BoolStorage", 1, codec.Bytes},
	{"complex64", "ComplexFloatStorage", 8, codec.F32}, // pairs of float32
	{"complex128", "ComplexDoubleStorage", 16, codec.F64},
	{"complex32", "", 4, codec.F16},
	{"qint8", "QInt8Storage", 1, codec.Bytes},
	{"quint8", "QUInt8Storage", 1, codec.Bytes},
	{"qint32", "QInt32Storage", 4, codec.I32},
	{"quint4x2", "QUInt4x2Storage", 1, codec.Bytes},
	{"quint2x4", "QUInt2x4Storage", 1, codec.Bytes},
	{"uint16", "", 2, codec.I16},
	{"uint32", "", 4, codec.I32},
	{"uint64", "", 8, codec.I64},
	{"float8_e4m3fn", "", 1, codec.F8},
	{"float8_e5m2", "", 1, codec.F8},
	{"float8_e4m3fnuz", "", 1, codec.F8},
	{"float8_e5m2fnuz", "", 1, codec.F8},
	{"float8_e8m0fnu", "", 1, codec.F8},
	{"float4_e2m1fn_x2", "", 1, codec.Bytes},
}

// torchStorageClass finds the type that a storage class stands for.
func torchStorageClass(module, name string) (torchType, bool) {
	if module != "torch" && module != "torch.cuda" && module != "torch.storage" {
		return 0, false
	}
	for i := range torchTypes {
		if torchTypes[i].storage == name {
			return torchType(i), true
		}
	}
	return 0, false
}

// torchDType finds a dtype by its name.
func torchDType(name string) (torchType, bool) {
	for i := 1; i < len(torchTypes); i++ {
		if torchTypes[i].name == name {
			return torchType(i), true
		}
	}
	return 0, false
}

func (t torchType) name() string       { return torchTypes[t].name }
func (t torchType) size() int64        { return torchTypes[t].size }
func (t torchType) codec() codec.DType { return torchTypes[t].codec }
