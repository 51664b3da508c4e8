package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mithrilfs/mithrilfs/store/layout"
)

// tensorStatus is what came out of comparing a tensor.
type tensorStatus string

const (
	tensorEqual   tensorStatus = "equal"
	tensorChanged tensorStatus = "changed"
	tensorShape   tensorStatus = "shape" // differs, so nothing was compared
	tensorDType   tensorStatus = "dtype" // differs in more than the width of floats, so nothing was compared
	tensorOnlyA   tensorStatus = "only_a"
	tensorOnlyB   tensorStatus = "only_b"
)

// A change is how much numbers differ from others.
type change struct {
	Elements  int64    `json:"elements"`
	Changed   int64    `json:"changed"`
	Fraction  float64  `json:"changed_fraction"`
	Largest   *float64 `json:"largest_relative_change"` // nil: bytes have none
	Mean      *float64 `json:"mean_relative_change"`
	NonFinite int64    `json:"nonfinite_changes"`
}

// tensorChange is what diff tells of one tensor.
type tensorChange struct {
	Name   string       `json:"name"`
	Status tensorStatus `json:"status"`
	DTypeA string       `json:"dtype_a,omitempty"`
	DTypeB string       `json:"dtype_b,omitempty"`
	ShapeA []uint64     `json:"shape_a"` // nil where there is no such tensor
	ShapeB []uint64     `json:"shape_b"`
	change
}

// tally is a change while it is being counted.
type tally struct {
	elements, changed int64
	numbers           int64 // elements that have a value
	nonFinite         int64
	largest, sum      float64
}

func (t *tally) add(o tally) {
	t.elements += o.elements
	t.changed += o.changed
	t.nonFinite += o.nonFinite
	t.largest = max(t.largest, o.largest)
	t.sum += o.sum
	t.numbers += o.numbers
}

func (t *tally) change() change {
	c := change{Elements: t.elements, Changed: t.changed, NonFinite: t.nonFinite}
	if t.elements > 0 {
		c.Fraction = float64(t.changed) / float64(t.elements)
	}
	if t.numbers > 0 {
		mean := 0.0
		if n := t.numbers - t.nonFinite; n > 0 {
			mean = t.sum / float64(n)
		}
		c.Largest, c.Mean = &t.largest, &mean
	}
	return c
}

// tensorFile is a file of which the tensors are known.
type tensorFile struct {
	*logical
	path    string
	tensors []layout.Tensor
}

// openTensors opens a file, wherever it is. One without tensors has one, without a
// name, that is all its bytes.
func openTensors(path string) (*tensorFile, error) {
	s, err := inspect(path)
	if err != nil {
		return nil, err
	}
	reports, err := all(s.Tensors)
	if e := s.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	f := &tensorFile{path: path}
	if f.logical, err = openLogical(path); err != nil {
		return nil, err
	}
	for _, r := range reports {
		f.tensors = append(f.tensors, layout.Tensor{Name: r.Name, DType: r.DType, Shape: r.Shape, Begin: r.Offset, End: r.Offset + r.Logical})
	}
	size := f.summary.Logical
	if len(reports) == 0 {
		f.tensors = detectTensors(f, size)
	}
	if len(f.tensors) == 0 {
		f.tensors = []layout.Tensor{{DType: opaque.name, Shape: []uint64{uint64(size)}, End: size}}
	}
	// What names bytes that are not there is not read.
	f.tensors = slices.DeleteFunc(f.tensors, func(t layout.Tensor) bool { return t.Begin > t.End || t.End > size })
	return f, nil
}

// detectTensors finds the tensors of a file that is kept plain.
func detectTensors(r io.ReaderAt, size int64) []layout.Tensor {
	head := make([]byte, min(size, benchHead))
	if n, err := r.ReadAt(head, 0); n < len(head) && err != nil {
		return nil // reading it again will tell
	}
	l := layout.Detect(head, sized{r, size})
	if l == nil {
		return nil
	}
	_, _ = l.Region(size) // makes it read all that it knows
	return l.Tensors()
}

// sized is a layout.Source of a file that is all there.
type sized struct {
	io.ReaderAt
	size int64
}

func (s sized) Arrived() int64 { return s.size }
func (s sized) Size() int64    { return s.size }

// comparer compares tensors of two files, a piece at a time.
type comparer struct {
	a, b     *tensorFile
	progress func(n int64)
}

// compare tells of each tensor of either file, in the order of a, how it differs.
func (c *comparer) compare(ctx context.Context) ([]tensorChange, tally, error) {
	var list []tensorChange
	var total tally
	inB := make(map[string]*layout.Tensor, len(c.b.tensors))
	for i := range c.b.tensors {
		inB[c.b.tensors[i].Name] = &c.b.tensors[i]
	}
	seen := make(map[string]bool, len(c.a.tensors))
	for i := range c.a.tensors {
		ta := &c.a.tensors[i]
		if seen[ta.Name] {
			continue // of tensors of one name the first is compared
		}
		seen[ta.Name] = true
		t, sum, err := c.tensor(ctx, ta, inB[ta.Name])
		if err != nil {
			return nil, total, err
		}
		list = append(list, t)
		total.add(sum)
	}
	for _, tb := range c.b.tensors {
		if !seen[tb.Name] {
			seen[tb.Name] = true
			t := tensorChange{Name: tb.Name, Status: tensorOnlyB, DTypeB: tb.DType, ShapeB: shapeOf(&tb)}
			list = append(list, t)
		}
	}
	return list, total, nil
}

// shapeOf is the shape, which is not nil.
func shapeOf(t *layout.Tensor) []uint64 { return append([]uint64{}, t.Shape...) }

func (c *comparer) tensor(ctx context.Context, ta, tb *layout.Tensor) (tensorChange, tally, error) {
	t := tensorChange{Name: ta.Name, Status: tensorOnlyA, DTypeA: ta.DType, ShapeA: shapeOf(ta)}
	if tb == nil {
		return t, tally{}, nil
	}
	t.DTypeB, t.ShapeB = tb.DType, shapeOf(tb)
	ea, eb := elementOf(ta.DType, ta.Shape, ta.End-ta.Begin), elementOf(tb.DType, tb.Shape, tb.End-tb.Begin)
	switch {
	case !slices.Equal(ta.Shape, tb.Shape):
		t.Status = tensorShape
		return t, tally{}, nil
	case !comparable(ea, eb) || ea.parts(ta.End-ta.Begin) != eb.parts(tb.End-tb.Begin) || ea == &opaque && ta.DType != tb.DType:
		t.Status = tensorDType
		return t, tally{}, nil
	}
	sum, err := c.elements(ctx, ta, tb, ea, eb)
	if err != nil {
		return t, sum, err
	}
	t.change, t.Status = sum.change(), tensorEqual
	if sum.changed > 0 {
		t.Status = tensorChanged
	}
	return t, sum, nil
}

// compareElements is how many elements are read at once.
const compareElements = 256 << 10

// elements compares two tensors with as many goroutines as there are processors.
// The result does not depend on how many that are.
func (c *comparer) elements(ctx context.Context, ta, tb *layout.Tensor, ea, eb *element) (tally, error) {
	n := ea.parts(ta.End - ta.Begin)
	pieces := make([]tally, (n+compareElements-1)/compareElements)
	var next atomic.Int64
	var group sync.WaitGroup
	var once sync.Once
	var failed error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range min(runtime.GOMAXPROCS(0), len(pieces)) {
		group.Go(func() {
			p := newPair(ea, eb)
			for i := next.Add(1) - 1; i < int64(len(pieces)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				from := i * compareElements
				count := int(min(n-from, compareElements))
				if err := p.read(c, ta.Begin+from*int64(ea.size), tb.Begin+from*int64(eb.size), count); err != nil {
					once.Do(func() { failed = err })
					cancel()
					return
				}
				pieces[i] = p.compare(count)
				c.progress(int64(count * ea.size))
			}
		})
	}
	group.Wait()
	var sum tally
	for _, p := range pieces {
		sum.add(p)
	}
	if ea.decode != nil {
		sum.numbers = sum.elements
	}
	if failed == nil && ctx.Err() != nil {
		failed = context.Cause(ctx)
	}
	return sum, failed
}

// pair is room for elements of both files.
type pair struct {
	ea, eb *element
	a, b   []byte
	va, vb []float64
}

// compareBlock is how many elements are compared at once.
const compareBlock = 4 << 10

func newPair(ea, eb *element) *pair {
	return &pair{ea, eb, make([]byte, compareElements*ea.size), make([]byte, compareElements*eb.size),
		make([]float64, compareBlock), make([]float64, compareBlock)}
}

func (p *pair) read(c *comparer, offA, offB int64, n int) error {
	if _, err := io.ReadFull(io.NewSectionReader(c.a, offA, int64(n*p.ea.size)), p.a[:n*p.ea.size]); err != nil {
		return fmt.Errorf("%s: %w", c.a.path, err)
	}
	if _, err := io.ReadFull(io.NewSectionReader(c.b, offB, int64(n*p.eb.size)), p.b[:n*p.eb.size]); err != nil {
		return fmt.Errorf("%s: %w", c.b.path, err)
	}
	return nil
}

// compare counts the differences of the first n elements.
func (p *pair) compare(n int) (t tally) {
	t.elements = int64(n)
	for from := 0; from < n; from += compareBlock {
		to := min(from+compareBlock, n)
		a, b := p.a[from*p.ea.size:to*p.ea.size], p.b[from*p.eb.size:to*p.eb.size]
		if p.ea.name == p.eb.name && bytes.Equal(a, b) {
			continue
		}
		if p.ea.decode == nil {
			for i := range a {
				if a[i] != b[i] {
					t.changed++
				}
			}
			continue
		}
		va, vb := p.va[:to-from], p.vb[:to-from]
		p.ea.decode(va, a)
		p.eb.decode(vb, b)
		if p.ea.name == p.eb.name {
			t.compareBits(a, b, va, vb, p.ea.size)
		} else {
			t.compareValues(va, vb)
		}
	}
	return t
}

// compareBits counts elements of one type, which differ if their bits do.
func (t *tally) compareBits(a, b []byte, va, vb []float64, size int) {
	for i := range va {
		if word(a, i, size) != word(b, i, size) {
			t.count(va[i], vb[i])
		}
	}
}

// compareValues counts elements of two types, which differ if their values do.
func (t *tally) compareValues(va, vb []float64) {
	for i := range va {
		if x, y := va[i], vb[i]; x != y && !(math.IsNaN(x) && math.IsNaN(y)) {
			t.count(x, y)
		}
	}
}

// count counts an element that changed from x to y.
func (t *tally) count(x, y float64) {
	t.changed++
	d, m := math.Abs(x-y), max(math.Abs(x), math.Abs(y))
	switch {
	case math.IsNaN(m) || math.IsInf(m, 0):
		t.nonFinite++
		return
	case m == 0: // +0 and -0
		return
	case math.IsInf(d, 0):
		d, m = math.Abs(x/m-y/m), 1
	}
	t.largest = max(t.largest, d/m)
	t.sum += d / m
}
