package container

import "sort"

// Extent is a run of logical bytes that one frame provides.
type Extent struct {
	Start  int64  // first logical byte
	Length uint32 // bytes
	Skip   uint32 // the extent begins this far into the frame: Start - Frame.Offset
	Frame  Frame
}

// End is the logical offset just past the extent.
func (e *Extent) End() int64 { return e.Start + int64(e.Length) }

// Extents are the live bytes of a log, sorted and without overlap. What none
// covers reads as zeros.
type Extents []Extent

// search returns the index of the first extent that ends after off.
func (x Extents) search(off int64) int {
	return sort.Search(len(x), func(i int) bool { return x[i].End() > off })
}

// At returns the extent that holds off. Without one, ok is false and next is
// where the hole ends: the start of the next extent, or -1.
func (x Extents) At(off int64) (e Extent, next int64, ok bool) {
	i := x.search(off)
	if i == len(x) {
		return Extent{}, -1, false
	}
	if x[i].Start > off {
		return Extent{}, x[i].Start, false
	}
	return x[i], 0, true
}

// Insert lets f provide all its bytes, instead of whatever provided them.
func (x *Extents) Insert(f Frame) {
	n := Extent{Start: f.Offset, Length: f.Length, Frame: f}
	if len(*x) == 0 || (*x)[len(*x)-1].End() <= f.Offset {
		*x = append(*x, n)
		return
	}
	lo := x.search(f.Offset)
	hi := lo
	var keep []Extent
	for ; hi < len(*x) && (*x)[hi].Start < f.End(); hi++ {
		e := (*x)[hi]
		if e.Start < f.Offset {
			keep = append(keep, e.before(f.Offset))
		}
		if e.End() > f.End() {
			keep = append(keep, e.from(f.End()))
		}
	}
	// keep has what is left of the first before f, and of the last after it.
	replacement := make([]Extent, 0, len(keep)+1)
	for _, e := range keep {
		if e.Start < f.Offset {
			replacement = append(replacement, e)
		}
	}
	replacement = append(replacement, n)
	for _, e := range keep {
		if e.Start >= f.End() {
			replacement = append(replacement, e)
		}
	}
	x.splice(lo, hi, replacement)
}

// Clip drops every byte from size on.
func (x *Extents) Clip(size int64) {
	i := x.search(size)
	if i < len(*x) && (*x)[i].Start < size {
		(*x)[i] = (*x)[i].before(size)
		i++
	}
	*x = (*x)[:i]
}

// End is the logical offset just past the last extent.
func (x Extents) End() int64 {
	if len(x) == 0 {
		return 0
	}
	return x[len(x)-1].End()
}

func (x *Extents) splice(lo, hi int, with []Extent) {
	tail := len(*x) - hi
	n := lo + len(with) + tail
	if n <= cap(*x) {
		old := *x
		*x = old[:max(n, len(old))]
		copy((*x)[lo+len(with):n], old[hi:hi+tail])
		copy((*x)[lo:], with)
		*x = (*x)[:n]
		return
	}
	grown := make([]Extent, 0, n+n/4)
	grown = append(grown, (*x)[:lo]...)
	grown = append(grown, with...)
	*x = append(grown, (*x)[hi:]...)
}

func (e Extent) before(off int64) Extent {
	e.Length = uint32(off - e.Start)
	return e
}

func (e Extent) from(off int64) Extent {
	cut := uint32(off - e.Start)
	e.Start, e.Length, e.Skip = off, e.Length-cut, e.Skip+cut
	return e
}

// Within returns the extents that have bytes from begin to end.
func (x Extents) Within(begin, end int64) Extents {
	if begin >= end {
		return nil
	}
	lo := x.search(begin)
	hi := lo + sort.Search(len(x)-lo, func(i int) bool { return x[lo+i].Start >= end })
	return x[lo:hi]
}
