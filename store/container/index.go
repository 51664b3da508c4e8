package container

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/mithrilfs/mithrilfs/codec"
)

// The index is a skippable frame that holds the replayed log: fixed fields,
// generations, bases, segments, extents, format, tensors, and the trailer.
const (
	indexFixedSize   = 40
	indexAtCounts    = 16
	extentEntrySize  = 56
	trailerSize      = 72
	trailerMagic     = "mithrilT"
	trailerAtVersion = 8
	trailerAtGen     = 16
	trailerAtIndex   = 32
	trailerAtSize    = 40
	trailerAtNext    = 48
	trailerAtSum     = 56
	trailerAtOwnSum  = 64
)

// appendTail appends what seals a container: an index, of so many bytes, and the
// seek table.
func (l *Log) appendTail(dst []byte) (tail []byte, index int64, err error) {
	tail = appendIndex(dst, l, l.end)
	index = int64(len(tail) - len(dst))
	if index > math.MaxUint32 {
		return nil, 0, fmt.Errorf("an index of %d bytes is too large for the format", index)
	}
	spans := append(l.spans, span{uint32(index), 0})
	if !seekable(spans) {
		return nil, 0, fmt.Errorf("%d frames are too many for a seek table", len(spans))
	}
	return appendSeekTable(tail, spans), index, nil
}

// appendIndex appends the index of l, as it stands at byte offset at of the
// container.
func appendIndex(dst []byte, l *Log, at int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, indexFixedSize)...)
	for _, g := range l.Generations {
		dst = append(dst, g[:]...)
	}
	dst = appendDependence(dst, &l.Dependence)
	for i := range l.Extents {
		dst = appendExtent(dst, &l.Extents[i])
	}
	dst = append(dst, l.Format...)
	for i := range l.Tensors {
		dst = appendTensor(dst, &l.Tensors[i])
	}
	x := dst[start:]
	binary.LittleEndian.PutUint32(x, recordMagic)
	binary.LittleEndian.PutUint32(x[4:], uint32(len(x)+trailerSize-skippableHeaderSize))
	copy(x[recordAtTag:], tagIndex)
	counts := x[indexAtCounts:]
	binary.LittleEndian.PutUint32(counts, uint32(len(l.Generations)))
	binary.LittleEndian.PutUint32(counts[4:], uint32(len(l.Extents)))
	binary.LittleEndian.PutUint32(counts[8:], uint32(len(l.Tensors)))
	binary.LittleEndian.PutUint32(counts[12:], uint32(len(l.Format)))
	binary.LittleEndian.PutUint32(counts[16:], uint32(len(l.Dependence.Bases)))
	binary.LittleEndian.PutUint32(counts[20:], uint32(len(l.Dependence.Segments)))
	return appendTrailer(dst, l, at, xxhash.Sum64(x))
}

func appendTrailer(dst []byte, l *Log, indexAt int64, indexSum uint64) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, trailerSize)...)
	t := dst[at:]
	g := l.Generation()
	copy(t, trailerMagic)
	binary.LittleEndian.PutUint16(t[trailerAtVersion:], Version)
	copy(t[trailerAtGen:], g[:])
	binary.LittleEndian.PutUint64(t[trailerAtIndex:], uint64(indexAt))
	binary.LittleEndian.PutUint64(t[trailerAtSize:], uint64(l.Size))
	binary.LittleEndian.PutUint64(t[trailerAtNext:], uint64(l.next))
	binary.LittleEndian.PutUint64(t[trailerAtSum:], indexSum)
	binary.LittleEndian.PutUint64(t[trailerAtOwnSum:], xxhash.Sum64(t[:trailerAtOwnSum]))
	return dst
}

func appendExtent(dst []byte, e *Extent) []byte {
	var b [extentEntrySize]byte
	binary.LittleEndian.PutUint64(b[:], uint64(e.Start))
	binary.LittleEndian.PutUint32(b[8:], e.Length)
	binary.LittleEndian.PutUint32(b[12:], e.Skip)
	binary.LittleEndian.PutUint64(b[16:], uint64(e.Frame.Position))
	binary.LittleEndian.PutUint32(b[24:], e.Frame.Length)
	binary.LittleEndian.PutUint32(b[28:], e.Frame.Stored)
	binary.LittleEndian.PutUint32(b[32:], e.Frame.Number)
	b[36] = byte(e.Frame.Plan)
	b[37] = byte(e.Frame.Coding)
	binary.LittleEndian.PutUint16(b[38:], e.Frame.Generation)
	b[40] = e.Frame.Bases
	binary.LittleEndian.PutUint64(b[48:], e.Frame.Sum)
	return append(dst, b[:]...)
}

func appendTensor(dst []byte, t *Tensor) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Begin))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.End))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(t.Name)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(t.DType)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(t.Shape)))
	for _, d := range t.Shape {
		dst = binary.LittleEndian.AppendUint64(dst, d)
	}
	dst = append(dst, t.Name...)
	return append(dst, t.DType...)
}

const tensorFixedSize = 24

// indexable says whether the table's fields can hold t.
func (t *Tensor) indexable() bool {
	return len(t.DType) <= math.MaxUint16 && len(t.Shape) <= math.MaxUint16 && int64(len(t.Name)) <= math.MaxUint32
}

type trailer struct {
	generation Generation
	index      int64
	size       int64
	next       uint32
	sum        uint64
	end        int64 // byte offset of the trailer itself: where the index ends
}

// parseTrailer returns ok false when t is no trailer at all, and an error when
// it is one that can't be used.
func parseTrailer(t []byte) (r trailer, ok bool, err error) {
	if len(t) != trailerSize || string(t[:len(trailerMagic)]) != trailerMagic ||
		binary.LittleEndian.Uint64(t[trailerAtOwnSum:]) != xxhash.Sum64(t[:trailerAtOwnSum]) {
		return r, false, nil
	}
	if v := binary.LittleEndian.Uint16(t[trailerAtVersion:]); v != Version {
		return r, true, &VersionError{Version: v}
	}
	copy(r.generation[:], t[trailerAtGen:])
	index := binary.LittleEndian.Uint64(t[trailerAtIndex:])
	size := binary.LittleEndian.Uint64(t[trailerAtSize:])
	next := binary.LittleEndian.Uint64(t[trailerAtNext:])
	if index > math.MaxInt64 || size > math.MaxInt64 || next > math.MaxUint32 {
		return r, false, nil
	}
	r.index, r.size, r.next = int64(index), int64(size), uint32(next)
	r.sum = binary.LittleEndian.Uint64(t[trailerAtSum:])
	return r, true, nil
}

// parseIndex reads an index whose bytes x, from its magic up to its trailer,
// are in memory. Everything in it is checked against everything else, so a log
// that comes back can be read without further care.
func parseIndex(x []byte, t trailer) (*Log, error) {
	bad := func(reason string) error { return damaged(PartIndex, t.index, reason) }
	if len(x) < indexFixedSize || string(x[recordAtTag:recordAtNumber]) != tagIndex {
		return nil, bad("it does not begin as an index does")
	}
	if xxhash.Sum64(x) != t.sum {
		return nil, bad("its checksum does not match")
	}
	n := readIndexCounts(x)
	x = x[indexFixedSize:]
	if !n.fit(len(x)) {
		return nil, bad("its counts do not fit its length")
	}
	l := &Log{Size: t.size, next: t.next, end: t.index}
	for range n.generations {
		l.Generations = append(l.Generations, Generation(x[:16]))
		x = x[16:]
	}
	if l.Generation() != t.generation {
		return nil, bad("its generation is not the trailer's")
	}
	dependence := n.bases*baseEntrySize + n.segments*segmentEntrySize
	var ok bool
	if l.Dependence, ok = parseDependence(x[:dependence], n.bases, n.segments); !ok {
		return nil, bad("a base or segment is impossible")
	}
	x = x[dependence:]
	if !l.parseExtents(x[:n.extents*extentEntrySize], n.extents) {
		return nil, bad("an extent is impossible")
	}
	x = x[n.extents*extentEntrySize:]
	l.Format, x = string(x[:n.format]), x[n.format:]
	if !l.parseTensors(x, n.tensors) {
		return nil, bad("a tensor is impossible")
	}
	return l, nil
}

// indexCounts is how many of each thing an index holds.
type indexCounts struct{ generations, extents, tensors, format, bases, segments int }

func readIndexCounts(x []byte) indexCounts {
	at := func(i int) int { return int(binary.LittleEndian.Uint32(x[indexAtCounts+4*i:])) }
	return indexCounts{at(0), at(1), at(2), at(3), at(4), at(5)}
}

// fit says whether all but the tensors, which have no fixed length, can be in
// size bytes.
func (n *indexCounts) fit(size int) bool {
	if n.generations < 1 || n.generations > maxGenerations {
		return false
	}
	for _, part := range [...]struct{ count, length int }{
		{n.generations, 16}, {n.bases, baseEntrySize}, {n.segments, segmentEntrySize},
		{n.extents, extentEntrySize}, {n.format, 1},
	} {
		if part.count > size/part.length {
			return false
		}
		size -= part.count * part.length
	}
	return true
}

func (l *Log) parseExtents(x []byte, n int) bool {
	l.Extents = make(Extents, n)
	for i := range l.Extents {
		b := x[i*extentEntrySize:]
		start, position := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[16:])
		if start > math.MaxInt64-MaxFrameLength || position > math.MaxInt64 {
			return false
		}
		e := Extent{
			Start:  int64(start),
			Length: binary.LittleEndian.Uint32(b[8:]),
			Skip:   binary.LittleEndian.Uint32(b[12:]),
			Frame: Frame{
				Position:   int64(position),
				Length:     binary.LittleEndian.Uint32(b[24:]),
				Stored:     binary.LittleEndian.Uint32(b[28:]),
				Number:     binary.LittleEndian.Uint32(b[32:]),
				Plan:       codec.Plan(b[36]),
				Coding:     Coding(b[37]),
				Generation: binary.LittleEndian.Uint16(b[38:]),
				Bases:      b[40],
				Sum:        binary.LittleEndian.Uint64(b[48:]),
			},
		}
		e.Frame.Offset = e.Start - int64(e.Skip)
		if !l.possible(&e) || i > 0 && e.Start < l.Extents[i-1].End() {
			return false
		}
		l.Extents[i] = e
	}
	return l.Extents.End() <= l.Size
}

// possible checks one extent of an index against itself and the container.
func (l *Log) possible(e *Extent) bool {
	f := &e.Frame
	return f.plausible() && f.Offset >= 0 && int(f.Generation) < len(l.Generations) &&
		l.Dependence.serves(f) &&
		e.Length > 0 && int64(e.Skip)+int64(e.Length) <= int64(f.Length) &&
		f.Position >= HeaderSize && f.Position <= l.end-frameRecordSize-int64(f.Stored)
}

func (l *Log) parseTensors(x []byte, n int) bool {
	if n > len(x)/tensorFixedSize {
		return false
	}
	l.Tensors = make([]Tensor, 0, n)
	for range n {
		if len(x) < tensorFixedSize {
			return false
		}
		begin, end := binary.LittleEndian.Uint64(x), binary.LittleEndian.Uint64(x[8:])
		name := int(binary.LittleEndian.Uint32(x[16:]))
		dtype := int(binary.LittleEndian.Uint16(x[20:]))
		rank := int(binary.LittleEndian.Uint16(x[22:]))
		x = x[tensorFixedSize:]
		if begin > end || end > math.MaxInt64 || name > len(x) || len(x)-name < dtype+rank*8 {
			return false
		}
		t := Tensor{Begin: int64(begin), End: int64(end), Shape: make([]uint64, rank)}
		for i := range t.Shape {
			t.Shape[i], x = binary.LittleEndian.Uint64(x), x[8:]
		}
		t.Name, x = string(x[:name]), x[name:]
		t.DType, x = string(x[:dtype]), x[dtype:]
		l.Tensors = append(l.Tensors, t)
	}
	return len(x) == 0
}
