package safetensors

// MaxHeaderMemory bounds the memory, in bytes, that parsing a header and
// keeping its result may take; a few more KiB serve as buffers. It is enough
// for 150,000 matrices with names of 60 bytes. It also bounds what has no limit
// of its own: a name or metadata value is at most 16 MiB long, a shape has at
// most about 2 million dimensions, a header about 260,000 tensors.
const MaxHeaderMemory = 64 << 20

// What is charged for, in bytes: upper bounds of what Go's slices and maps
// take at their worst moment, when one has just been copied in order to grow.
// A string costs its length besides.
const (
	tensorCost   = 256 // a Tensor, and its place in the set of names
	metadataCost = 192 // one place in a map of strings
	dimCost      = 32  // one uint64 of a shape
)

// budget is what is left of MaxHeaderMemory.
type budget int64

// take charges cost bytes and reports whether they were left.
func (b *budget) take(cost int64) bool {
	if cost > int64(*b) {
		return false
	}
	*b -= budget(cost)
	return true
}
