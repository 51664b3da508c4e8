package series

import (
	"slices"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// Depend returns what a container of m's bytes needs to say to have delta frames
// against these bases, the nearest first: which of its elements are where in them.
// Tensors are found by name and shape, wherever they are in the file, and what is
// between tensors by its length. Of no bases it is the zero Dependence.
func Depend(m *Member, bases []*Member) container.Dependence {
	var d container.Dependence
	for i, b := range bases {
		d.Bases = append(d.Bases, container.Base{Generation: b.Generation, Size: b.Size})
		d.Segments = appendSegments(d.Segments, i, m, b)
	}
	return d
}

// span is a tensor, or bytes between tensors, as a part of a file.
type span struct {
	begin, end int64
	dtype      codec.DType
	tensor     int // in the table; -1: none
}

// count is how many elements there are.
func (s span) count() int64 { return (s.end - s.begin) / int64(s.dtype.Size()) }

// spans divides a file into its tensors and what is between them. A tensor that
// overlaps the one before it is left out.
func spans(m *Member) []span {
	types := elements(m.Format, m.Tensors)
	order := make([]int, len(m.Tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(max(m.Tensors[a].Begin-m.Tensors[b].Begin, -1), 1)) })
	var list []span
	at := int64(0)
	for _, i := range order {
		t := &m.Tensors[i]
		if t.Begin < at || t.End <= t.Begin || t.End > m.Size || (t.End-t.Begin)%int64(types[i].Size()) != 0 {
			continue
		}
		if t.Begin > at {
			list = append(list, span{at, t.Begin, codec.Bytes, -1})
		}
		list = append(list, span{t.Begin, t.End, types[i], i})
		at = t.End
	}
	if at < m.Size {
		list = append(list, span{at, m.Size, codec.Bytes, -1})
	}
	return list
}

// appendSegments appends the segments of m that are in b.
func appendSegments(to []container.Segment, ordinal int, m, b *Member) []container.Segment {
	there := spans(b)
	named := make(map[string]int, len(there))
	for i, s := range there {
		if s.tensor >= 0 {
			named[b.Tensors[s.tensor].Name] = i
		}
	}
	first := len(to)
	next := 0 // the part of b behind that of the span before; -1: that has none
	for _, s := range spans(m) {
		at := next
		if s.tensor >= 0 {
			i, ok := named[m.Tensors[s.tensor].Name]
			if !ok || !slices.Equal(m.Tensors[s.tensor].Shape, b.Tensors[there[i].tensor].Shape) {
				i = -1
			}
			at = i
		}
		next = -1
		if at < 0 || at >= len(there) || !alike(s, there[at]) {
			continue
		}
		next = at + 1
		to = appendSegment(to, first, container.Segment{
			Begin: s.begin, End: s.end, Base: ordinal, Offset: there[at].begin, DType: s.dtype, BaseDType: there[at].dtype,
		})
	}
	return to
}

// alike says whether two spans have as many elements, and of types that can be
// compared.
func alike(a, b span) bool {
	return (a.tensor < 0) == (b.tensor < 0) && container.Castable(b.dtype, a.dtype) && a.count() == b.count()
}

// appendSegment appends s, or makes the last segment longer by it: small tensors
// share a frame where they are one segment.
func appendSegment(to []container.Segment, first int, s container.Segment) []container.Segment {
	if len(to) > first {
		last := &to[len(to)-1]
		length := (last.End - last.Begin) / int64(last.DType.Size()) * int64(last.BaseDType.Size())
		if last.End == s.Begin && last.Offset+length == s.Offset && last.DType == s.DType && last.BaseDType == s.BaseDType {
			last.End = s.End
			return to
		}
	}
	return append(to, s)
}
