package safetensors

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// arrange sorts the tensors by offset, checks that they cover the data buffer
// and makes their offsets relative to the file, whose size is size bytes or,
// if negative, unknown.
func (h *Header) arrange(size int64) error {
	for i := range h.Tensors {
		if err := h.Tensors[i].check(); err != nil {
			return err
		}
	}
	slices.SortStableFunc(h.Tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	end := uint64(0) // of the tensor in front
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if err := t.follow(end); err != nil {
			return err
		}
		end = t.End
		if err := t.place(h.DataStart, size); err != nil {
			return err
		}
	}
	if rest := size - h.DataEnd(); size >= 0 && rest > 0 {
		return &HeaderError{
			Rule:   RuleTrailing,
			Detail: fmt.Sprintf("the file has %d bytes after the last tensor", rest),
		}
	}
	return nil
}

func (t *Tensor) fail(rule Rule, format string, args ...any) error {
	return &HeaderError{Tensor: t.Name, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

// check compares offsets, shape and element type of one tensor. The offsets
// may be relative to anything.
func (t *Tensor) check() error {
	if t.End < t.Begin {
		return t.fail(RuleOffsets, "it begins at %d and ends before that, at %d", t.Begin, t.End)
	}
	width, known := t.DType.Bits()
	if !known {
		return nil
	}
	total, ok := product(t.Shape)
	high, total := bits.Mul64(total, uint64(width))
	switch {
	case !ok || high != 0:
		return t.fail(RuleOverflow, "the size of its shape in bits does not fit in 64 bits")
	case total%8 != 0:
		return t.fail(RuleBits, "%d bits of %s are not a whole number of bytes", total, t.DType)
	case total/8 != t.End-t.Begin:
		return t.fail(RuleExtent, "its shape holds %d bytes of %s, its offsets %d", total/8, t.DType, t.End-t.Begin)
	}
	return nil
}

// product multiplies the dimensions in order. Like the reference it fails if
// the product of the first few overflows, even if a zero follows.
func product(shape []uint64) (n uint64, ok bool) {
	n = 1
	for _, dim := range shape {
		high, low := bits.Mul64(n, dim)
		if high != 0 {
			return 0, false
		}
		n = low
	}
	return n, true
}

// follow checks that t begins at end, where the tensor in front of it ends.
// Both are relative to the data buffer.
func (t *Tensor) follow(end uint64) error {
	switch {
	case t.Begin < end:
		return t.fail(RuleOverlap, "it begins at %d, inside what ends at %d", t.Begin, end)
	case t.Begin > end:
		return t.fail(RuleHole, "it begins at %d, but what is in front of it ends at %d", t.Begin, end)
	}
	return nil
}

// place makes t's offsets, which are relative to the data buffer, relative to
// the file.
func (t *Tensor) place(dataStart, size int64) error {
	if t.End > uint64(math.MaxInt64-dataStart) {
		return t.fail(RuleOverflow, "it ends at %d, further than a file can reach", t.End)
	}
	t.Begin += uint64(dataStart)
	t.End += uint64(dataStart)
	if size >= 0 && t.End > uint64(size) {
		return t.fail(RulePastEnd, "it ends %d bytes past the end of the file", t.End-uint64(size))
	}
	return nil
}
