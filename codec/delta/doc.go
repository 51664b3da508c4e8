// Package delta codes the elements of a checkpoint as their differences from
// those of neighbouring checkpoints of the same training run.
//
// Between two checkpoints a few steps apart most weights hardly move. A delta
// frame needs the bytes of one to three neighbours, its bases, and holds what they
// do not tell. [Encoder.AppendFrame] makes one if it is smaller than a limit, such
// as the length of the full frame that package codec makes; [Decoder.DecodeFrame]
// reads it, given the same bases.
//
// # How
//
// Each element is predicted from the bases: the value of the last one, plus a part
// of the last step and of the one before it if the step is large, rounded. Bit
// patterns of floats are mapped to integers that rise with the value, and how far
// the element's is from the prediction's is coded with interleaved range coders
// (rANS) in a class, found from what the bases say: the exponent, the sizes and
// signs of the last steps, and how much the neighbourhood and the column moved. Each of these has a curve of scores; their sum is a level
// that orders elements by how large their residuals should be. Levels that behave
// alike share a class. Curves and the classes' frequencies are in the frame, which
// depends on nothing but its bases: 200 to 600 bytes.
//
// The encoder finds curves by proportional fitting on a sample, and the number of
// bases by trial on some elements.
//
// docs/delta-frames.md is the format, bit by bit. What a decoder computes is
// integers, and floats of 32 bits rounded after each operation, so every processor
// gets the same bytes. Elements of types other than
// bf16, fp16 and fp32 are coded as plain differences. A base of another float type
// is rounded to the type of the elements first, so that a bf16 export of fp32
// weights costs a few bytes given those weights.
//
// # Errors
//
// A frame has a checksum of 32 bits of what it holds, which finds damage and wrong
// bases. Callers who need more keep a checksum of their own. Nothing that a frame
// says makes a decoder use more memory than a fixed multiple of len(dst).
package delta
