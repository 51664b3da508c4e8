// Package codec turns the bytes of one element type into a zstd frame and back,
// without loss.
//
// A checkpoint is mostly floating-point numbers. General compressors gain
// little on them: the exponents repeat, but they are interleaved with mantissa
// bytes that are as good as random. This package separates the two. It groups
// the bytes of the elements by position ("planes"), after a rotation that
// gathers a float's exponent in one byte, and codes each plane with Huffman
// codes, or stores it when that gains nothing. The result is an ordinary zstd
// frame (RFC 8878): every zstd decoder can read it, and gets the planes.
//
// The package knows no file. It does not detect types, choose frame boundaries
// or keep checksums of frames: its callers do.
//
// # Where to start
//
//   - [Encoder.AppendFrame] and [Decoder.DecodeFrame] code one frame. The caller
//     records the frame's length, its logical length, its [Plan] and a checksum.
//   - [Compress] and [Decompress] code a buffer of any length and keep all of
//     that themselves.
//   - [ByteGroup] and [ByteUngroup] only regroup bytes, without coding them.
//
// Encoders and decoders keep scratch memory and serve one goroutine at a time;
// the functions are safe for concurrent use.
//
// # Plans
//
// The logical bytes of a frame are what the caller gave. The content of the
// frame is what a zstd decoder gets from it. The plan says how one became the
// other, in one byte:
//
//	bits 0-1   log2 of the element width W: 1, 2, 4 or 8 bytes
//	bits 2-7   rotation r in bits, less than 8*W
//
// With n = len/W whole elements, the content is:
//
//	n bytes      byte 0 (least significant) of every element
//	n bytes      byte 1 of every element
//	…
//	n bytes      byte W-1 of every element
//	len%W bytes  the tail, unchanged
//
// where elements are little-endian unsigned integers of W bytes, each rotated
// left by r bits before its bytes are taken. Plan 0 is the bytes as they are.
// Any other width with rotation 0 is the textbook byte grouping. All 256 byte
// values but those with r >= 8*W are valid plans, and a decoder takes any valid
// plan, whatever an encoder of this version would choose:
//
//	type           plan   width, rotation   planes, most significant first
//	Bytes, F8      0x00   1, 0              the bytes
//	I16            0x01   2, 0              high byte | low byte
//	I32, I64       0x02   4, 0  0x03  8, 0  one plane for each byte
//	BF16           0x05   2, 1              exponent | mantissa 7, sign
//	            or 0x0d   2, 3              exponent 6 (low bits), mantissa 2 | mantissa 5, sign, exponent 2
//	F16            0x05   2, 1              exponent 5, mantissa 3 | mantissa 7, sign
//	F32            0x06   4, 1              exponent | mantissa | mantissa | mantissa 7, sign
//	            or 0x0e   4, 3              exponent 6, mantissa 2 | mantissa | mantissa | mantissa 5, sign, exponent 2
//	F64            0x13   8, 4              exponent 8 (low bits) | six of mantissa | mantissa 4, sign, exponent 3 (high bits)
//
// Of BF16 and F32, long frames with hardly any exponents but those that share
// their two highest bits, as weights below 2 do, are rotated by 3: a Huffman code
// loses less on larger symbols (bf16 weights become 0.5 % smaller), and the two
// bits cost nothing in the lowest plane, which becomes a code of 6 bits for each
// byte. Mantissas that end in zeros make those codes shorter; then the two bits
// must be the same in all elements.
//
// A complex number of two F32 is coded as F32. The three high bits of an F64's
// exponent hardly vary, so they join the sign in the lowest plane.
//
// Three bf16 elements, for example, 1.0, -2.0 and 3.0, are the logical bytes
// 80 3f 00 c0 40 40: as integers 3f80, c000 and 4040. Rotated left by one bit
// they are 7f00, 8001 and 8080, so the content is 00 01 80 7f 80 80.
//
// # Frames
//
// A frame is one zstd frame that depends on nothing outside itself: single
// segment, content size present, no dictionary, no checksum.
//
// Blocks follow the planes: each plane begins a new block, and is cut every 128
// KiB, which is the most that a zstd block may hold. A tail is a block of its own,
// and so is a run of one value of 4 KiB or more. Each block is the smallest of
//
//	RLE          one byte, repeated           4 B
//	raw          the bytes                    3 B + n
//	compressed   a literals section coded     3 B + literals header 3 to 5 B
//	             with Huffman codes of its    + code table at most 128 B
//	             own, in four streams from    + streams + 1 B (0x00: no sequences)
//	             1024 bytes on, else in one
//
// where codes fit the bytes, or a sample of them if there are many, and a
// compressed block is only taken if it saves more than 1/128 of the bytes: less
// would not pay for the time to read it. Where runs of 256 bytes or more make the
// difference, RLE and raw blocks in turn take the place of one. No block has the
// code table of the one before, as zstd allows: in a frame of [FrameSize] bytes
// hardly two blocks are alike enough. Weights would gain nothing, packed integers
// of 4 bits 0.03 %.
//
// Elements of which no byte seems to gain anything are not regrouped: their plan
// is 0. [Bytes] are one plane; those in which words repeat become what a general
// zstd encoder makes of them, if that is smaller. A frame is never longer than
// [MaxFrameSize] of its content. The zero-length frame is one raw block.
//
// Where some bits of the bytes of a block never change and all others, in one
// piece, take every value about as often, the codes are those bits themselves.
// Such streams are packed bits, and are read and written as such.
//
// Decoders know these shapes and read them directly. A frame with any other
// block, such as one with sequences, goes to a general zstd decoder, so frames
// made by other encoders are read too, as long as they state a content size.
// Every decode is bounded by the length that the caller recorded.
//
// # Kernels
//
// Regrouping, counting, coding and decoding have kernels in assembly, chosen when
// the program starts: for AVX-512 (F, BW, DQ, VBMI, VBMI2), for AVX2 and BMI2, and
// functions in Go for all other processors. All of them give the same bytes. go
// generate writes the assembly; the generator, internal/asm, is a module of its
// own.
//
// # Streams
//
// [Compress] writes a header, then one frame for every [FrameSize] logical
// bytes; the last frame holds what remains. The header is a zstd skippable
// frame, so that zstd programs pass over it. All integers are little-endian:
//
//	offset  size
//	 0      4     0x184D2A5D, the magic number of a skippable frame
//	 4      4     32, the number of bytes that follow
//	 8      8     "mithrilc"
//	16      1     format version: 0
//	17      1     DType
//	18      1     Plan of every frame
//	19      1     0
//	20      4     logical bytes in each frame but the last
//	24      8     logical bytes in all
//	32      8     XXH64 (seed 0) of the logical bytes
//
// So a stream of no bytes is 40 bytes long. Version 0 is a draft that may
// change until the first release.
package codec
