package codec

import (
	"fmt"
	"math/bits"
)

// A Plan says how the logical bytes of a frame became the content of the frame.
// It is recorded with every frame; the package documentation defines its bits.
// The zero Plan is the bytes as they are.
type Plan uint8

// maxWidth is the widest element that a plan can describe, and so the most
// planes that a frame can have.
const maxWidth = 8

// MakePlan returns the plan for elements of width bytes (1, 2, 4 or 8), rotated
// left by rotation bits (0 to 8*width-1). Its error matches [ErrPlan].
func MakePlan(width, rotation int) (Plan, error) {
	switch width {
	case 1, 2, 4, 8:
	default:
		return 0, fmt.Errorf("%w: elements of %d bytes", ErrPlan, width)
	}
	if rotation < 0 || rotation >= 8*width {
		return 0, fmt.Errorf("%w: %d bytes rotated by %d bits", ErrPlan, width, rotation)
	}
	return makePlan(width, rotation), nil
}

// makePlan is MakePlan for arguments known to be valid.
func makePlan(width, rotation int) Plan {
	return Plan(rotation<<2 | bits.TrailingZeros(uint(width)))
}

// Width returns the element width in bytes: 1, 2, 4 or 8.
func (p Plan) Width() int { return 1 << (p & 3) }

// Rotation returns the number of bits by which each element is rotated left.
func (p Plan) Rotation() int { return int(p >> 2) }

// Valid reports whether the rotation is less than the element's bits. Only
// valid plans can be decoded.
func (p Plan) Valid() bool { return p.Rotation() < 8*p.Width() }

// String describes the plan, such as "bytes" or "planes of 2, rotated 1".
func (p Plan) String() string {
	switch {
	case p == 0:
		return "bytes"
	case !p.Valid():
		return fmt.Sprintf("invalid plan 0x%02x", uint8(p))
	case p.Rotation() == 0:
		return fmt.Sprintf("planes of %d", p.Width())
	}
	return fmt.Sprintf("planes of %d, rotated %d", p.Width(), p.Rotation())
}

// split writes the content that the plan makes of src to dst, which has the
// same length and does not overlap it.
func (p Plan) split(dst, src []byte) {
	w := p.Width()
	n := len(src) / w
	var planes [maxWidth][]byte
	for k := range w {
		planes[k] = dst[k*n : (k+1)*n]
	}
	split(&planes, src[:n*w], w, p.Rotation())
	copy(dst[n*w:], src[n*w:])
}

// merge undoes split: it fills dst from the planes, each of len(dst)/Width
// bytes, and the tail. None of them overlaps dst.
func (p Plan) merge(dst []byte, planes *[maxWidth][]byte, tail []byte) {
	w := p.Width()
	n := len(dst) / w
	merge(dst[:n*w], planes, w, p.Rotation())
	copy(dst[n*w:], tail)
}
