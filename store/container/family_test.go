package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
)

// family is a Resolver of containers in memory, and what they hold.
type family struct {
	cache *Cache
	frame int // logical bytes in a frame

	mu      sync.Mutex // guards what follows
	stored  map[Generation][]byte
	logical map[Generation][]byte
	open    int // Readers not released yet
	preset  map[Generation]*Reader
}

var errAbsent = errors.New("not in the family")

func newFamily(cacheBytes int64) *family {
	f := &family{cache: NewCache(cacheBytes), frame: codec.FrameSize, stored: map[Generation][]byte{}, logical: map[Generation][]byte{}}
	f.cache.SetResolver(f)
	return f
}

func (f *family) Resolve(_ context.Context, g Generation) (*Reader, func(), error) {
	f.mu.Lock()
	b, r := f.stored[g], f.preset[g]
	f.mu.Unlock()
	if b == nil {
		return nil, nil, errAbsent
	}
	if r == nil {
		var err error
		if r, err = Open(bytes.NewReader(b), int64(len(b)), f.cache); err != nil {
			return nil, nil, err
		}
	}
	f.mu.Lock()
	f.open++
	f.mu.Unlock()
	return r, func() {
		r.Close()
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}, nil
}

func (f *family) reader(t testing.TB, g Generation) *Reader {
	t.Helper()
	return openIn(t, f.cache, f.stored[g])
}

// openIn opens a container with a cache.
func openIn(t testing.TB, c *Cache, b []byte) *Reader {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), c)
	must(t, err)
	return r
}

// member is one checkpoint: a header of some length, and tensors behind it.
type member struct {
	header  int
	tensors []tensor
}

type tensor struct {
	dtype codec.DType
	data  []byte
}

func (m *member) bytes() []byte {
	b := bytes.Repeat([]byte{'h'}, m.header)
	for _, t := range m.tensors {
		b = append(b, t.data...)
	}
	return b
}

// dependence says how m can be coded against bases: tensor by tensor, where the
// types allow it.
func (m *member) dependence(bases []Generation, of []*member) Dependence {
	var d Dependence
	for k, g := range bases {
		b := of[k]
		d.Bases = append(d.Bases, Base{g, int64(len(b.bytes()))})
		at, there := int64(m.header), int64(b.header)
		for i, t := range m.tensors {
			n := int64(len(t.data))
			if Castable(b.tensors[i].dtype, t.dtype) && n > 0 {
				d.Segments = append(d.Segments, Segment{at, at + n, k, there, t.dtype, b.tensors[i].dtype})
			}
			at += n
			there += int64(len(b.tensors[i].data))
		}
	}
	return d
}

// add stores m as generation g, against bases.
func (f *family) add(t testing.TB, g Generation, m *member, bases []Generation, of []*member) {
	t.Helper()
	f.addDepending(t, g, m, m.dependence(bases, of))
}

// addDepending stores m as generation g, with the dependence d.
func (f *family) addDepending(t testing.TB, g Generation, m *member, d Dependence) {
	t.Helper()
	file := &memory{}
	w := CreateDelta(file, g, d)
	put := func(off int64, dtype codec.DType, p []byte) {
		for len(p) > 0 {
			n := min(len(p), f.frame)
			piece := Piece{Offset: off, DType: dtype, Row: 64, Data: p[:n]}
			for k, r := range d.Ranges(off, off+int64(n)) {
				b := f.logical[d.Bases[k].Generation][r.Offset : r.Offset+r.Length]
				piece.Bases = append(piece.Bases, delta.Elements{Data: b, Type: r.DType})
			}
			must(t, w.Append(piece))
			p, off = p[n:], off+int64(n)
		}
	}
	logical := m.bytes()
	put(0, codec.Bytes, logical[:m.header])
	at := int64(m.header)
	for _, x := range m.tensors {
		put(at, x.dtype, x.data)
		at += int64(len(x.data))
	}
	must(t, w.Seal("bytes", nil, at))
	f.stored[g], f.logical[g] = file.bytes(), logical
}

// generation returns the i-th of a family.
func generation(i int) Generation {
	var g Generation
	copy(g[:], fmt.Sprintf("%016d", i))
	return g
}

// steps returns n checkpoints of a tensor of size elements, the newest first:
// weights that move at their own pace.
func steps(n, size int, dtype codec.DType, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 3))
	w, pace := make([]float64, size), make([]float64, size)
	for i := range w {
		w[i], pace[i] = r.NormFloat64()*0.02, r.NormFloat64()*2e-5
	}
	list := make([][]byte, n)
	for s := range list {
		var b []byte
		for i := range w {
			w[i] += pace[i] + r.NormFloat64()*1e-5
			b = appendElement(b, w[i], dtype)
		}
		list[n-1-s] = b
	}
	return list
}

func appendElement(b []byte, v float64, d codec.DType) []byte {
	le := binary.LittleEndian
	switch d {
	case codec.BF16:
		return le.AppendUint16(b, bf16(float32(v)))
	case codec.F16: // of normal numbers, cut off
		u := math.Float32bits(float32(v * 64))
		return le.AppendUint16(b, uint16(u>>16&0x8000|(u>>13&0x3ffff-112<<10)&0x7fff))
	case codec.F32:
		return le.AppendUint32(b, math.Float32bits(float32(v)))
	case codec.F64:
		return le.AppendUint64(b, math.Float64bits(v))
	case codec.I16:
		return le.AppendUint16(b, uint16(int16(v*(1<<14))))
	case codec.I32:
		return le.AppendUint32(b, uint32(int32(v*(1<<14))))
	case codec.I64:
		return le.AppendUint64(b, uint64(int64(v*(1<<14))))
	}
	return append(b, byte(int8(v*(1<<10))))
}

// chainOf returns a family of depth+1 members of one tensor of size elements. The
// i-th, of generation(i), is coded against the next ones, as many as there are up
// to bases, and the last is full.
func chainOf(t testing.TB, depth, bases, size, frame int, dtype codec.DType, cacheBytes int64) *family {
	t.Helper()
	f := newFamily(cacheBytes)
	f.frame = frame
	data := steps(depth+1, size, dtype, 1)
	list := make([]*member, depth+1)
	for i := depth; i >= 0; i-- {
		list[i] = &member{header: 100 + i, tensors: []tensor{{dtype, data[i]}}}
		var gens []Generation
		var of []*member
		for k := i + 1; k <= min(i+bases, depth); k++ {
			gens, of = append(gens, generation(k)), append(of, list[k])
		}
		f.add(t, generation(i), list[i], gens, of)
	}
	return f
}
