package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// hostile is a header that goes on for ever: unit again and again, in which
// each '@' is another number. It watches the live heap while it is read.
type hostile struct {
	unit string

	next     string
	count    int   // of units
	offset   int64 // bytes handed out
	sampleAt int64 // offset at which to look at the heap next
	peak     uint64
}

// sampleEvery is how many bytes are handed out between looks at the heap.
const sampleEvery = 128 << 10

func (h *hostile) Read(p []byte) (int, error) {
	if h.offset >= h.sampleAt {
		h.sampleAt = h.offset + max(sampleEvery, h.offset/8)
		h.peak = max(h.peak, liveHeap())
	}
	if h.next == "" {
		h.next = h.more()
	}
	n := copy(p, h.next)
	h.next = h.next[n:]
	h.offset += int64(n)
	return n, nil
}

// more returns some KiB of units.
func (h *hostile) more() string {
	if !strings.Contains(h.unit, "@") {
		if len(h.unit) < 8<<10 {
			h.unit = strings.Repeat(h.unit, 8<<10/len(h.unit))
		}
		return h.unit
	}
	var b strings.Builder
	for b.Len() < 8<<10 {
		h.count++
		b.WriteString(strings.ReplaceAll(h.unit, "@", strconv.Itoa(h.count)))
	}
	return b.String()
}

func liveHeap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// The entry of an empty tensor, and a name of 1000 bytes.
const emptyEntry = `{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`

var longName = strings.Repeat("n", 1000)

// smallBudget stands in for MaxHeaderMemory where reading up to that would
// take long, and buffers is what reading takes besides.
const (
	smallBudget = 4 << 20
	buffers     = 64 << 10
)

// TestMemoryOfKept streams headers whose content must be kept, so that they run
// into the budget.
func TestMemoryOfKept(t *testing.T) {
	for _, test := range []struct{ name, head, unit string }{
		{"one name", `{"`, "n"},
		{"one escaped name", `{"`, `nnnnnnnnnnnnnnn\n`},
		{"one value of metadata", `{"__metadata__":{"k":"`, "n"},
		{"one dtype", `{"w":{"dtype":"`, "n"},
		{"one field name", `{"w":{"`, "n"},
		{"one shape", `{"w":{"shape":[1`, ",1"},
		{"many tensors", `{"a":` + emptyEntry, `,"@":` + emptyEntry},
		{"many long names", `{"a":` + emptyEntry, `,"` + longName + `@":` + emptyEntry},
		{"many dtypes", `{"a":` + emptyEntry, `,"@":{"dtype":"` + longName + `","shape":[],"data_offsets":[0,0]}`},
		{"many shapes", `{"a":` + emptyEntry, `,"@":{"dtype":"U8","shape":[0` + strings.Repeat(",1", 500) + `],"data_offsets":[0,0]}`},
		{"much metadata", `{"__metadata__":{"a":"b"`, `,"@":""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			peak, _, err := streamHostile(test.head, test.unit, MaxHeaderSize, smallBudget)
			if !errors.Is(err, RuleBudget) {
				t.Errorf("got %v, want rule %q", err, RuleBudget)
			}
			if peak > smallBudget+buffers {
				t.Errorf("%d KiB of live heap, the budget is %d", peak>>10, smallBudget>>10)
			}
		})
	}
}

// TestMemoryOfLargest streams a header of the largest size into the budget
// that everybody gets.
func TestMemoryOfLargest(t *testing.T) {
	peak, _, err := streamHostile(`{"a":`+emptyEntry, `,"`+longName+`@":`+emptyEntry, MaxHeaderSize, MaxHeaderMemory)
	if !errors.Is(err, RuleBudget) || peak > MaxHeaderMemory {
		t.Errorf("%d MiB of live heap, %v", peak>>20, err)
	}
	if peak < MaxHeaderMemory/2 {
		t.Errorf("only %d MiB of live heap: the heap is not measured", peak>>20)
	}
}

// TestMemoryOfSkipped streams long headers of which nothing is kept.
func TestMemoryOfSkipped(t *testing.T) {
	const limit = 256 << 10
	for _, test := range []struct {
		name, head, unit string
		rule             Rule
	}{
		{"one number", `{"w":{"shape":[`, "1", RuleOverflow},
		{"one skipped string", `{"w":{"x":"`, "n", RuleJSON},
		{"one skipped number", `{"w":{"x":`, "1", RuleJSON},
		{"one skipped list", `{"w":{"x":[0`, ",0", RuleJSON},
		{"one skipped object", `{"w":{"x":{"":0`, `,"n":0`, RuleJSON},
		{"many skipped fields", `{"w":{"x":0`, `,"x":0`, RuleJSON},
		{"nesting", `{"w":{"x":`, "[", RuleDepth},
		{"nested objects", `{"w":{"x":`, `{"":`, RuleDepth},
		{"spaces", `{"w":`, " ", RuleJSON},
		{"padding", `{}`, " ", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			peak, total, err := streamHostile(test.head, test.unit, 3*sampleEvery, MaxHeaderMemory)
			if test.rule == "" && err != nil || test.rule != "" && !errors.Is(err, test.rule) {
				t.Errorf("got %v, want rule %q", err, test.rule)
			}
			if peak > limit {
				t.Errorf("%d KiB of live heap", peak>>10)
			}
			if total > limit {
				t.Errorf("%d KiB allocated in all", total>>10)
			}
		})
	}
}

// largeHeader returns a header of count matrices with names of 60 bytes.
func largeHeader(count int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"__metadata__":{"format":"pt"}`)
	for i := range count {
		fmt.Fprintf(&b, `,"model.layers.experts.%039d":{"dtype":"BF16","shape":[2,3],"data_offsets":[%d,%d]}`, i, i*12, i*12+12)
	}
	b.WriteString("}")
	return b.Bytes()
}

// TestLargeHeader reads a sixteenth of what the documentation of
// MaxHeaderMemory promises room for, in a sixteenth of the memory.
func TestLargeHeader(t *testing.T) {
	const count = 150_000 / 16
	header := largeHeader(count)
	p := newParser(bytes.NewReader(header), int64(len(header)))
	p.budget = MaxHeaderMemory / 16
	if err := p.parse(); err != nil {
		t.Fatal(err)
	}
	if n := len(p.tensors); n != count || len(p.tensors[n-1].Name) != 60 {
		t.Errorf("%d tensors, the last one %+v", n, p.tensors[n-1])
	}
}

// TestLongestText keeps a metadata value of a quarter of the budget, which is
// 16 MiB of MaxHeaderMemory, and no longer one.
func TestLongestText(t *testing.T) {
	const head, tail = `{"__metadata__":{"k":"`, `"}}`
	longest := strings.Repeat("v", smallBudget/4)
	parse := func(value string) error {
		header := head + value + tail
		p := newParser(strings.NewReader(header), int64(len(header)))
		p.budget = smallBudget
		return p.parse()
	}
	if err := parse(longest); err != nil {
		t.Errorf("a quarter: %v", err)
	}
	if err := parse(longest + "v"); !errors.Is(err, RuleBudget) {
		t.Errorf("a quarter and a byte: got %v, want rule %q", err, RuleBudget)
	}
}

func BenchmarkReadHeader(b *testing.B) {
	content := file(string(largeHeader(150_000)), 0)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadHeader(bytes.NewReader(content), UnknownSize); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMemoryOfClaim checks that a claimed length alone costs nothing.
func TestMemoryOfClaim(t *testing.T) {
	content := binary.LittleEndian.AppendUint64(nil, MaxHeaderSize)
	content = append(content, `{"w":`...)
	allocated := func() uint64 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.TotalAlloc
	}
	before := allocated()
	h, err := ReadHeaderFrom(bytes.NewReader(content), UnknownSize)
	if total := allocated() - before; total > 64<<10 {
		t.Errorf("%d KiB allocated for 13 bytes", total>>10)
	}
	checkShort(t, h, err)
}

// streamHostile parses a header of size bytes, head and then units. It returns
// the growth of the live heap at its peak, and all that was allocated.
func streamHostile(head, unit string, size int64, limit budget) (peak, total int64, err error) {
	source := &hostile{unit: unit}
	base := liveHeap()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := newParser(io.MultiReader(strings.NewReader(head), source), size)
	p.budget = limit
	err = p.parse()
	runtime.ReadMemStats(&after)
	return int64(source.peak) - int64(base), int64(after.TotalAlloc - before.TotalAlloc), err
}
