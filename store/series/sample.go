package series

import (
	"bytes"
	"context"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// Sampler gives logical bytes of members.
type Sampler interface {
	// ReadSample fills p with logical bytes of m, which has them all, from off on.
	ReadSample(ctx context.Context, m *Member, p []byte, off int64) error
}

const (
	// samplePieces are coded to learn how one member fits another.
	samplePieces = 4
	// pieceSize is the most logical bytes of one piece.
	pieceSize = 64 << 10
)

// Sample is what coding pieces of a member told, in bytes.
type Sample struct {
	Logical int64
	Full    int64 // as full frames
	Delta   int64 // as the store would keep them: delta frames where they are smaller
	Equal   bool  // all pieces are those of the first base
}

// Saving is the fraction of the full form that the delta saves.
func (s Sample) Saving() float64 {
	if s.Full == 0 {
		return 0
	}
	return 1 - float64(s.Delta)/float64(s.Full)
}

// tester codes samples. It serves one goroutine.
type tester struct {
	sampler Sampler
	full    codec.Encoder
	delta   delta.Encoder
	frame   []byte
	coded   int // samples so far
}

// sample codes pieces of m given bases, the nearest first. The error is the
// sampler's.
func (t *tester) sample(ctx context.Context, m *Member, bases []*Member) (Sample, error) {
	t.coded++
	d := Depend(m, bases)
	s := Sample{Equal: true}
	// An optimizer's state may have tensors that gain and others that don't, so a
	// sample that gains nothing is looked at twice.
	for try := 0; try < 2 && s.Saving() < leastSaving; try++ {
		for _, p := range choosePieces(&d, try) {
			if err := t.piece(ctx, &s, m, bases, p); err != nil {
				return Sample{}, err
			}
		}
	}
	s.Equal = s.Equal && s.Logical > 0
	return s, nil
}

func (t *tester) piece(ctx context.Context, s *Sample, m *Member, bases []*Member, p piece) error {
	src := delta.Elements{Data: make([]byte, p.end-p.begin), Type: p.dtype}
	if err := t.read(ctx, m, src.Data, p.begin); err != nil {
		return err
	}
	var from []delta.Elements
	for i, r := range p.bases {
		e := delta.Elements{Data: make([]byte, r.Length), Type: r.DType}
		if err := t.read(ctx, bases[i], e.Data, r.Offset); err != nil {
			return err
		}
		from = append(from, e)
	}
	t.frame, _ = t.full.AppendFrame(t.frame[:0], src.Data, p.dtype)
	full := len(t.frame)
	var ok bool
	t.frame, ok = t.delta.AppendFrame(t.frame[:0], src, 0, from, full)
	s.Logical += int64(len(src.Data))
	s.Full += int64(full)
	if ok {
		s.Delta += int64(len(t.frame))
	} else {
		s.Delta += int64(full)
	}
	s.Equal = s.Equal && (same(src, from[0]) || ok && len(t.frame) <= equalFrame)
	return nil
}

// equalFrame is no less than the length of a delta frame that says that the
// elements are the base's, rounded if the types differ, and less than that of one
// which says more about a piece.
const equalFrame = 24

func same(a, b delta.Elements) bool { return a.Type == b.Type && bytes.Equal(a.Data, b.Data) }

func (t *tester) read(ctx context.Context, m *Member, p []byte, off int64) error {
	if err := t.sampler.ReadSample(ctx, m, p, off); err != nil {
		return &readError{m, err}
	}
	return nil
}

// readError says which member could not be read.
type readError struct {
	member *Member
	err    error
}

func (e *readError) Error() string { return e.member.Rel + ": reading a sample: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// piece is a range of a member, and where it is in its bases.
type piece struct {
	begin, end int64
	dtype      codec.DType
	bases      []container.BaseRange
}

// choosePieces spreads pieces over the elements that the first base has, so that
// most of them are in the large tensors. A second try gives other ones, if there
// are.
func choosePieces(d *container.Dependence, try int) []piece {
	var total int64
	segments := d.Segments
	for i, s := range segments {
		if s.Base > 0 {
			segments = segments[:i]
			break
		}
		total += s.End - s.Begin
	}
	var list []piece
	for i := range int64(samplePieces) {
		at := total * (4*i + 1 + 2*int64(try)) / (4 * samplePieces)
		for _, s := range segments {
			if n := s.End - s.Begin; at >= n {
				at -= n
				continue
			}
			p := pieceAt(s, at)
			p.bases = d.Ranges(p.begin, p.end)
			if n := len(list); n == 0 || list[n-1].end <= p.begin {
				list = append(list, p)
			}
			break
		}
	}
	return list
}

// pieceAt returns the piece of a segment that has its byte at, if the segment is
// short, or begins in the same frame: most frames of long ones begin at multiples
// of codec.FrameSize.
func pieceAt(s container.Segment, at int64) piece {
	n := s.End - s.Begin
	if n >= 4*codec.FrameSize {
		at -= at % codec.FrameSize
	} else {
		at = min(at-at%(pieceSize/4), max(n-pieceSize, 0)/8*8)
	}
	p := piece{begin: s.Begin + at, dtype: s.DType}
	p.end = min(s.End, p.begin+pieceSize)
	return p
}
