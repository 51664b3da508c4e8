// Package safetensors says which bytes of a safetensors file belong to which
// tensor, or why the file's header cannot be trusted to say so. It only
// parses: it opens no file, reads no tensor data and writes nothing.
//
// # The format
//
// All integers are little-endian; offsets and sizes are in bytes.
//
//	0      8      8+N                                       end of file
//	┌──────┬───────┬─────────┬─────────┬─ ... ─┬───────────┐
//	│  N   │ JSON  │ tensor  │ tensor  │       │  tensor   │
//	│ u64  │ UTF-8 │         │         │       │           │
//	└──────┴───────┴─────────┴─────────┴─ ... ─┴───────────┘
//	               0                           relative to the data buffer
//
// The JSON is one object, which may be followed by white space:
//
//	{"__metadata__": {"format": "pt"},
//	 "layer.0.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
//	 ...}
//
// The source is the section "Format" of the README of
// https://github.com/huggingface/safetensors. Where that text is silent, the
// package does what the reference implementation 0.8.0 does, with these
// deliberate differences:
//
//   - A dtype that the package does not know is no error. Its tensor is bytes,
//     and shape and length are not compared.
//   - A tensor name or metadata key that occurs twice is an error. The README
//     forbids it; the reference keeps the last one.
//   - The header must begin with '{', as the README demands. The reference
//     lets white space come first.
//   - An entry must be an object and its dtype a string. The reference, by its
//     JSON library, also takes ["U8",[4],[0,4]] and {"U8":null}.
//   - A number too large for a float64 in a field that nobody knows is ignored
//     with the field. The reference refuses it.
//   - A header that would need more than [MaxHeaderMemory] is an error.
//
// # Where to start
//
// [ReadHeader] parses a file, [ReadHeaderFrom] the beginning of a stream; both
// return a [Header], whose tensors cover the data buffer without holes or
// overlaps. [Recognize] looks at nine bytes and says whether it is worth
// trying. A header that breaks a rule gives a [*HeaderError], one that ends
// too early [ErrShort].
//
// In the source, header.go is the way in, entry.go what a tensor's entry may
// say, layout.go the arithmetic of offsets, and scanner.go and text.go the
// JSON. The JSON is read as it arrives and never held: a hostile header costs
// time in proportion to the bytes that really exist, and bounded memory.
package safetensors
