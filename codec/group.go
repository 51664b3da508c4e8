package codec

import "fmt"

// ByteGroup writes src to dst with the bytes of its elements, of width bytes
// each, grouped by position: [a0,b0,a1,b1,…] becomes [a0,a1,…,b0,b1,…], byte 0
// of every element first. The len(src)%width bytes after the last whole element
// keep their place. For the widths 1, 2, 4 and 8 this is what a [Plan] of
// rotation 0 does.
//
// dst and src have the same length and do not overlap. The error matches
// [ErrLength] if the lengths differ, and [ErrPlan] if width is less than 1.
func ByteGroup(dst, src []byte, width int) error {
	if err := checkGroup(dst, src, width); err != nil {
		return err
	}
	switch width {
	case 1, 2, 4, 8:
		makePlan(width, 0).split(dst, src)
		return nil
	}
	n := len(src) / width
	for k := range width {
		plane := dst[k*n : (k+1)*n]
		for i := range plane {
			plane[i] = src[i*width+k]
		}
	}
	copy(dst[n*width:], src[n*width:])
	return nil
}

// ByteUngroup undoes [ByteGroup] of the same width, under the same conditions
// and with the same errors.
func ByteUngroup(dst, src []byte, width int) error {
	if err := checkGroup(dst, src, width); err != nil {
		return err
	}
	n := len(src) / width
	switch width {
	case 1, 2, 4, 8:
		var planes [maxWidth][]byte
		for k := range width {
			planes[k] = src[k*n : (k+1)*n]
		}
		makePlan(width, 0).merge(dst, &planes, src[n*width:])
		return nil
	}
	for k := range width {
		plane := src[k*n : (k+1)*n]
		for i, b := range plane {
			dst[i*width+k] = b
		}
	}
	copy(dst[n*width:], src[n*width:])
	return nil
}

func checkGroup(dst, src []byte, width int) error {
	if width < 1 {
		return fmt.Errorf("%w: elements of %d bytes", ErrPlan, width)
	}
	if len(dst) != len(src) {
		return fmt.Errorf("%w: dst has %d bytes, src %d", ErrLength, len(dst), len(src))
	}
	return nil
}
