package layout

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/mithrilfs/mithrilfs/codec"
)

// FormatGGUF is the name of llama.cpp's format.
const FormatGGUF = "gguf"

// A file is, with all integers little-endian,
//
//	"GGUF" | version u32 | tensors u64 | key-values u64
//	key-values: key string | type u32 | value
//	tensors:    name string | rank u32 | rank dimensions u64 | type u32 | offset u64
//	padding, data
//
// where a string is its length, u64, and its bytes; a value of type array is a
// type u32, a count u64 and as many values; and offsets count from the
// beginning of the data, which is aligned like every tensor.
const (
	ggufMagic   = "GGUF"
	ggufPrelude = 24
	// The least bytes that a key-value and a tensor's entry can have.
	ggufLeastValue  = 8 + 4 + 1
	ggufLeastTensor = 8 + 4 + 4 + 8

	ggufMaxName  = 1 << 16 // the format's limit for keys
	ggufMaxRank  = 8       // the format has 4
	ggufMaxCount = 1 << 40 // of values: more can't be real, and sums of it fit
	ggufMaxDepth = 4       // of arrays in arrays
	ggufRead     = 4 << 10 // how much of a header is read at once

	ggufAlignmentKey = "general.alignment"
	ggufAlignment    = 32 // unless the key says otherwise
)

// Types of values.
const (
	ggufU32    = 4
	ggufString = 8
	ggufArray  = 9
)

// ggufValueSizes are the sizes of values by type, 0 for those that vary.
var ggufValueSizes = [...]int64{1, 1, 2, 2, 4, 4, 4, 1, ggufString: 0, ggufArray: 0, 10: 8, 11: 8, 12: 8}

// ggufTypes are the types of tensors: the name, the elements of a block and its
// bytes. Types that the format has dropped have no entry.
var ggufTypes = map[uint32]struct {
	name            string
	elements, bytes uint64
}{
	0: {"F32", 1, 4}, 1: {"F16", 1, 2}, 30: {"BF16", 1, 2}, 28: {"F64", 1, 8},
	24: {"I8", 1, 1}, 25: {"I16", 1, 2}, 26: {"I32", 1, 4}, 27: {"I64", 1, 8},
	2: {"Q4_0", 32, 18}, 3: {"Q4_1", 32, 20}, 6: {"Q5_0", 32, 22}, 7: {"Q5_1", 32, 24},
	8: {"Q8_0", 32, 34}, 9: {"Q8_1", 32, 40},
	10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, 12: {"Q4_K", 256, 144}, 13: {"Q5_K", 256, 176},
	14: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292},
	16: {"IQ2_XXS", 256, 66}, 17: {"IQ2_XS", 256, 74}, 18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50},
	20: {"IQ4_NL", 32, 18}, 21: {"IQ3_S", 256, 110}, 22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136},
	29: {"IQ1_M", 256, 56}, 34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66},
	39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36}, 41: {"Q1_0", 128, 18},
}

// ggufUnknown and a number name types that are not known.
const ggufUnknown = "type "

// errShort says that bytes are needed that have not arrived.
var errShort = errors.New("the header goes on")

// gguf is a GGUF file that is arriving. Its header, which may have megabytes of
// vocabulary, is read as it comes, and nothing of it is kept but the tensors.
type gguf struct {
	src       Source
	pos       int64       // what of the header is read, or passed over
	wanted    int64       // how much must have arrived for more of it
	values    int64       // key-values left
	entries   int64       // tensors left
	arrays    []ggufItems // that pos is in, outermost first
	alignment int64
	window    []byte // bytes of the header from windowAt on
	windowAt  int64

	tensors []Tensor
	table   int   // bytes of their names and shapes
	start   int64 // of the data; 0 until the header is read
	problem error
	rest    *probe // after the last tensor, or from where the header breaks a rule
}

// ggufItems is what is left of an array.
type ggufItems struct {
	kind uint32
	left int64
}

func detectGGUF(head []byte, src Source) Layout {
	if len(head) < ggufPrelude || string(head[:4]) != ggufMagic {
		return nil
	}
	version, tensors, values := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	if version != 2 && version != 3 || tensors > maxTensors || values > ggufMaxCount {
		return nil
	}
	g := &gguf{src: src, pos: ggufPrelude, values: int64(values), entries: int64(tensors), alignment: ggufAlignment}
	if size := src.Size(); size >= 0 && g.least() > size {
		return nil
	}
	return g
}

func (g *gguf) Format() string { return FormatGGUF }
func (g *gguf) Problem() error { return g.problem }

func (g *gguf) Tensors() []Tensor {
	if g.start == 0 {
		return nil
	}
	return g.tensors
}

// Region returns the header, as far as it must reach, or a tensor with the
// padding after it. After the last tensor, data are probed.
func (g *gguf) Region(off int64) (Region, error) {
	if g.start == 0 && g.problem == nil {
		g.read()
	}
	switch {
	case g.rest != nil && off >= g.rest.from:
		return g.rest.Region(off)
	case g.rest != nil && off < g.start:
		return Region{Begin: off, End: g.start, DType: codec.Bytes}, nil
	case g.start > 0:
		return g.tensor(off), nil
	case g.problem != nil:
		return Region{Begin: off, End: g.rest.from, DType: codec.Bytes}, nil
	}
	if least := g.least(); off < least {
		return Region{Begin: off, End: least, DType: codec.Bytes}, nil
	}
	return Region{}, ErrMore
}

// tensor finds the tensor that holds off. The padding after it is its tail:
// a region of its own would be a frame of a few zeros.
func (g *gguf) tensor(off int64) Region {
	i := sort.Search(len(g.tensors), func(i int) bool { return g.tensors[i].Begin > off }) - 1
	next := g.rest.from
	if i+1 < len(g.tensors) {
		next = g.tensors[i+1].Begin
	}
	if i >= 0 {
		t := &g.tensors[i]
		if next-t.End < g.alignment {
			return Region{Begin: t.Begin, End: next, DType: elementOf(t.DType)}
		}
		if off < t.End {
			return Region{Begin: t.Begin, End: t.End, DType: elementOf(t.DType)}
		}
	}
	return Region{Begin: off, End: next, DType: codec.Bytes}
}

// least is where the data begin at the earliest, by what is known.
func (g *gguf) least() int64 {
	n := g.pos + g.values*ggufLeastValue + g.entries*ggufLeastTensor + 1
	for _, a := range g.arrays {
		n += a.left * g.leastItem(a.kind)
	}
	return max(n, g.wanted)
}

// leastItem is how few bytes a value has in an array of its type.
func (*gguf) leastItem(kind uint32) int64 {
	switch kind {
	case ggufString:
		return 8
	case ggufArray:
		return 12
	}
	return ggufValueSizes[kind]
}

// read goes through the header as far as it has arrived.
func (g *gguf) read() {
	for {
		err := g.item()
		switch {
		case errors.Is(err, errShort):
			return
		case err != nil:
			g.fail(err, g.pos)
			return
		case g.start > 0:
			g.window = nil
			return
		}
	}
}

func (g *gguf) fail(err error, from int64) {
	g.problem = fmt.Errorf("gguf: at byte %d: %w", g.pos, err)
	g.tensors, g.window = nil, nil
	g.rest = newProbe(g.src, from)
}

// item reads one more part of the header, or finds that it is at its end.
func (g *gguf) item() error {
	switch {
	case len(g.arrays) > 0:
		return g.arrayItem()
	case g.values > 0:
		return g.keyValue()
	case g.entries > 0:
		return g.entry()
	}
	start := g.pos + (g.alignment-g.pos%g.alignment)%g.alignment
	if err := g.place(start); err != nil {
		g.start = 0
		g.fail(err, start)
	}
	return nil
}

// peek returns n bytes from pos on.
func (g *gguf) peek(n int64) ([]byte, error) {
	if at := g.pos - g.windowAt; at >= 0 && at+n <= int64(len(g.window)) {
		return g.window[at : at+n], nil
	}
	there := g.src.Arrived() - g.pos
	if there < n {
		g.wanted = g.pos + n
		return nil, errShort
	}
	g.window, g.windowAt = make([]byte, max(n, min(there, ggufRead))), g.pos
	if _, err := g.src.ReadAt(g.window, g.pos); err != nil {
		return nil, err
	}
	return g.window[:n], nil
}

// skip passes over n bytes, whether or not they are there yet.
func (g *gguf) skip(n uint64) error {
	if n > math.MaxInt64/4-uint64(g.pos) {
		return fmt.Errorf("%d bytes are too many", n)
	}
	g.pos += int64(n)
	return nil
}

func (g *gguf) keyValue() error {
	b, err := g.named(4)
	if err != nil {
		return err
	}
	n := len(b) - 4
	key, kind := string(b[8:n]), binary.LittleEndian.Uint32(b[n:])
	if int(kind) >= len(ggufValueSizes) {
		return fmt.Errorf("key %.60q: type %d is not known", key, kind)
	}
	if key == ggufAlignmentKey && kind == ggufU32 {
		if b, err = g.named(8); err != nil {
			return err
		}
		g.alignment = int64(binary.LittleEndian.Uint32(b[n+4:]))
		if g.alignment == 0 || g.alignment&(g.alignment-1) != 0 {
			return fmt.Errorf("an alignment of %d is impossible", g.alignment)
		}
	}
	g.pos += int64(n) + 4
	g.values--
	g.arrays = append(g.arrays, ggufItems{kind, 1})
	return nil
}

// named returns a string with its length, and n bytes after it.
func (g *gguf) named(n int64) ([]byte, error) {
	b, err := g.peek(8)
	if err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint64(b)
	if length > ggufMaxName {
		return nil, fmt.Errorf("a name of %d bytes is too long", length)
	}
	return g.peek(8 + int64(length) + n)
}

// arrayItem passes over the next of the innermost array's items, or over all
// if they are of a fixed size. A single value is an array of one.
func (g *gguf) arrayItem() error {
	a := &g.arrays[len(g.arrays)-1]
	switch {
	case a.left == 0:
		g.arrays = g.arrays[:len(g.arrays)-1]
		return nil
	case a.kind == ggufString:
		b, err := g.peek(8)
		if err == nil {
			g.pos += 8
			a.left--
			err = g.skip(binary.LittleEndian.Uint64(b))
		}
		return err
	case a.kind != ggufArray:
		left := a.left
		g.arrays = g.arrays[:len(g.arrays)-1]
		return g.skip(uint64(left * ggufValueSizes[a.kind]))
	}
	b, err := g.peek(12)
	if err != nil {
		return err
	}
	kind, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[4:])
	if int(kind) >= len(ggufValueSizes) || n > ggufMaxCount || len(g.arrays) > ggufMaxDepth {
		return fmt.Errorf("an array of %d values of type %d is impossible", n, kind)
	}
	g.pos += 12
	a.left--
	g.arrays = append(g.arrays, ggufItems{kind, int64(n)})
	return nil
}

// entry reads one tensor. Begin and End count from the start of the data.
func (g *gguf) entry() error {
	b, err := g.named(4)
	if err != nil {
		return err
	}
	n := len(b)
	rank := binary.LittleEndian.Uint32(b[n-4:])
	name := string(b[8 : n-4])
	if rank > ggufMaxRank {
		return fmt.Errorf("tensor %.60q: %d dimensions are too many", name, rank)
	}
	if b, err = g.named(4 + 8*int64(rank) + 12); err != nil {
		return err
	}
	t := Tensor{Name: name, Shape: make([]uint64, rank)}
	rest := b[n:]
	for i := range t.Shape {
		t.Shape[i], rest = binary.LittleEndian.Uint64(rest), rest[8:]
	}
	kind, begin := binary.LittleEndian.Uint32(rest), binary.LittleEndian.Uint64(rest[4:])
	size, err := ggufSize(&t, kind)
	if err != nil {
		return err
	}
	if begin > math.MaxInt64/4 || size > math.MaxInt64/4 {
		return fmt.Errorf("tensor %.60q: %d bytes at %d are too far", name, size, begin)
	}
	t.Begin, t.End = int64(begin), int64(begin+size)
	g.tensors = append(g.tensors, t)
	if g.table += tableSize(&t); g.table > maxTable {
		return errTooMany
	}
	g.pos += int64(len(b))
	g.entries--
	return nil
}

// ggufSize sets the tensor's type and returns its size in bytes; 0 where the
// type is not known.
func ggufSize(t *Tensor, kind uint32) (uint64, error) {
	f, ok := ggufTypes[kind]
	if !ok {
		t.DType = fmt.Sprint(ggufUnknown, kind)
		return 0, nil
	}
	t.DType = f.name
	n, ok := product(1, t.Shape)
	if !ok || n%f.elements != 0 || n/f.elements > math.MaxInt64/f.bytes {
		return 0, fmt.Errorf("tensor %.60q: a shape of %d is impossible for %s", t.Name, t.Shape, f.name)
	}
	return n / f.elements * f.bytes, nil
}

// place puts the tensors in the file, in order. What has no known size ends
// where the next begins.
func (g *gguf) place(start int64) error {
	slices.SortStableFunc(g.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	end := start
	for i := range g.tensors {
		t := &g.tensors[i]
		t.Begin += start
		t.End += start
		if t.Begin < end {
			return fmt.Errorf("tensor %.60q overlaps the one before", t.Name)
		}
		if strings.HasPrefix(t.DType, ggufUnknown) && i+1 < len(g.tensors) {
			t.End = g.tensors[i+1].Begin + start
		}
		end = t.End
	}
	g.start = start
	g.rest = newProbe(g.src, end)
	return nil
}
