package container

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/mithrilfs/mithrilfs/codec"
)

// MaxBases is how many bases a container may have, and so a delta frame.
const MaxBases = 3

// Base is another container whose logical bytes are needed to read this one. It
// is known by its last generation, which names its content: whoever changes a
// sealed file begins a new one.
type Base struct {
	Generation Generation
	Size       int64 // logical bytes
}

// Segment says that the elements from Begin to End are in a base too, in the
// same order, from Offset on. All offsets count logical bytes; both ranges are
// whole elements, of types that are equal or that [Castable] allows.
type Segment struct {
	Begin, End int64
	Base       int // ordinal in Dependence.Bases
	Offset     int64
	DType      codec.DType // here
	BaseDType  codec.DType // there
}

// Dependence is what a container needs besides itself. A container that has one
// is a dependent; the zero value is that of all others.
type Dependence struct {
	Bases []Base // the nearest first: a delta frame uses the first ones
	// Segments are sorted by Base and then by Begin. Those of one base do not
	// overlap.
	Segments []Segment
}

// BaseRange is a run of logical bytes of a base.
type BaseRange struct {
	Offset, Length int64
	DType          codec.DType
}

// Castable says whether elements of type from can be a base of elements of type
// to: equal types, or any two of bf16, fp16 and fp32.
func Castable(from, to codec.DType) bool {
	return from == to && from.Valid() || isFloat(from) && isFloat(to)
}

func isFloat(d codec.DType) bool { return d == codec.BF16 || d == codec.F16 || d == codec.F32 }

// Ranges returns where the elements from begin to end are in the bases, the
// first base first. It ends before the first base that does not have them all in
// one segment: a delta frame of these elements can use that many.
func (d *Dependence) Ranges(begin, end int64) []BaseRange {
	return d.appendRanges(nil, begin, end)
}

func (d *Dependence) appendRanges(to []BaseRange, begin, end int64) []BaseRange {
	for base := range d.Bases {
		s := d.segment(base, begin, end)
		if s == nil {
			break
		}
		to = append(to, s.at(begin, end))
	}
	return to
}

// segment returns the segment of a base that holds all elements from begin to
// end, or nil.
func (d *Dependence) segment(base int, begin, end int64) *Segment {
	i := sort.Search(len(d.Segments), func(i int) bool {
		s := &d.Segments[i]
		return s.Base > base || s.Base == base && s.End > begin
	})
	if i == len(d.Segments) {
		return nil
	}
	s := &d.Segments[i]
	w := int64(s.DType.Size())
	if s.Base != base || s.Begin > begin || s.End < end || begin >= end || (begin-s.Begin)%w != 0 || (end-begin)%w != 0 {
		return nil
	}
	return s
}

// at returns where the elements from begin to end, which s holds, are in its
// base.
func (s *Segment) at(begin, end int64) BaseRange {
	w, there := int64(s.DType.Size()), int64(s.BaseDType.Size())
	return BaseRange{s.Offset + (begin-s.Begin)/w*there, (end - begin) / w * there, s.BaseDType}
}

// possible checks one segment by itself and against its base.
func (d *Dependence) possible(s *Segment) bool {
	if s.Base < 0 || s.Base >= len(d.Bases) || s.Begin < 0 || s.Begin >= s.End || s.Offset < 0 ||
		!Castable(s.BaseDType, s.DType) {
		return false
	}
	w, there, size := int64(s.DType.Size()), int64(s.BaseDType.Size()), d.Bases[s.Base].Size
	// The elements before the division, so that nothing overflows.
	return (s.End-s.Begin)%w == 0 && s.Offset <= size && (s.End-s.Begin)/w <= (size-s.Offset)/there
}

// valid says whether d is what a container may have.
func (d *Dependence) valid() bool {
	if len(d.Bases) > MaxBases || len(d.Bases) == 0 && len(d.Segments) > 0 {
		return false
	}
	for i, b := range d.Bases {
		if b.Size < 0 || slices.ContainsFunc(d.Bases[:i], func(o Base) bool { return o.Generation == b.Generation }) {
			return false
		}
	}
	for i := range d.Segments {
		s := &d.Segments[i]
		if !d.possible(s) {
			return false
		}
		if i > 0 {
			if p := &d.Segments[i-1]; s.Base < p.Base || s.Base == p.Base && s.Begin < p.End {
				return false
			}
		}
	}
	return true
}

// serves says whether the bases have what the frame needs.
func (d *Dependence) serves(f *Frame) bool {
	if int(f.Bases) > len(d.Bases) {
		return false
	}
	for base := range int(f.Bases) {
		if d.segment(base, f.Offset, f.End()) == nil {
			return false
		}
	}
	return true
}

// The record of bases: the fields of all records, how many bases and segments,
// these, and the checksum. An index holds the same entries.
const (
	basesFixedSize   = 40
	baseEntrySize    = 24
	segmentEntrySize = 32
)

func appendDependence(dst []byte, d *Dependence) []byte {
	for _, b := range d.Bases {
		dst = append(dst, b.Generation[:]...)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(b.Size))
	}
	for _, s := range d.Segments {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Begin))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.End))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(s.Offset))
		dst = append(dst, byte(s.Base), byte(s.DType), byte(s.BaseDType), 0, 0, 0, 0, 0)
	}
	return dst
}

// parseDependence reads x, whose length is that of so many entries.
func parseDependence(x []byte, bases, segments int) (d Dependence, ok bool) {
	le := binary.LittleEndian
	if bases > MaxBases {
		return d, false
	}
	for range bases {
		size := le.Uint64(x[16:])
		if size > math.MaxInt64 {
			return d, false
		}
		d.Bases = append(d.Bases, Base{Generation(x[:16]), int64(size)})
		x = x[baseEntrySize:]
	}
	if segments > 0 {
		d.Segments = make([]Segment, segments)
	}
	for i := range d.Segments {
		begin, end, offset := le.Uint64(x), le.Uint64(x[8:]), le.Uint64(x[16:])
		if begin > math.MaxInt64 || end > math.MaxInt64 || offset > math.MaxInt64 {
			return d, false
		}
		d.Segments[i] = Segment{
			Begin: int64(begin), End: int64(end), Offset: int64(offset),
			Base: int(x[24]), DType: codec.DType(x[25]), BaseDType: codec.DType(x[26]),
		}
		x = x[segmentEntrySize:]
	}
	return d, d.valid()
}

func appendBasesRecord(dst []byte, d *Dependence, number uint32, g Generation) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, basesFixedSize)...)
	dst = appendDependence(dst, d)
	dst = append(dst, make([]byte, 8)...)
	r := dst[at:]
	beginRecord(r, tagBases, number, g)
	binary.LittleEndian.PutUint32(r[recordAtFields:], uint32(len(d.Bases)))
	binary.LittleEndian.PutUint32(r[recordAtFields+4:], uint32(len(d.Segments)))
	endRecord(r)
	return dst
}

// parseBasesRecord reads a record whose checksum holds.
func parseBasesRecord(r []byte) (d Dependence, number uint32, g Generation, ok bool) {
	copy(g[:], r[recordAtGeneration:])
	number = binary.LittleEndian.Uint32(r[recordAtNumber:])
	bases := int(binary.LittleEndian.Uint32(r[recordAtFields:]))
	segments := int(binary.LittleEndian.Uint32(r[recordAtFields+4:]))
	entries := r[basesFixedSize : len(r)-8]
	if bases < 1 || bases > MaxBases || segments > len(entries)/segmentEntrySize ||
		bases*baseEntrySize+segments*segmentEntrySize != len(entries) {
		return d, number, g, false
	}
	d, ok = parseDependence(entries, bases, segments)
	return d, number, g, ok
}
