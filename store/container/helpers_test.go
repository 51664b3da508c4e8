package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// memory is a Storage in memory. With room > 0 it takes so many bytes.
type memory struct {
	mu   sync.Mutex
	b    []byte
	room int64
}

var errFull = errors.New("no space left on the test's device")

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	if fits := max(m.room-off, 0); m.room > 0 && int64(len(p)) > fits {
		p, err = p[:fits], errFull
	}
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), err
}

func (m *memory) Truncate(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int(size) <= len(m.b) {
		m.b = m.b[:size]
	} else {
		m.b = append(m.b, make([]byte, int(size)-len(m.b))...)
	}
	return nil
}

func (m *memory) bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.b)
}

// weights are n bytes of bf16 values of one scale, in a sequence that seed
// determines.
func weights(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := 0; i+1 < n; i += 2 {
		v := bf16(float32(r.NormFloat64() * 0.02))
		b[i], b[i+1] = byte(v), byte(v>>8)
	}
	return b
}

func newChunk(t testing.TB, w *Writer, c Chunk) *Chunk {
	t.Helper()
	n, err := w.NewChunk(context.Background(), c)
	must(t, err)
	return n
}

// put appends p at off in chunks of codec.FrameSize.
func put(t testing.TB, w *Writer, p []byte, off int64, d codec.DType) {
	t.Helper()
	for len(p) > 0 {
		n := min(len(p), codec.FrameSize)
		c := newChunk(t, w, Chunk{Offset: off, DType: d})
		if _, err := c.Write(p[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Append(c); err != nil {
			t.Fatal(err)
		}
		p, off = p[n:], off+int64(n)
	}
}

func newTestWriter(m *memory) *Writer {
	return Create(m, NewCache(8<<20), NewEncoders(2, 8<<20))
}

// makeContainer returns a sealed container of data.
func makeContainer(t testing.TB, data []byte) []byte {
	t.Helper()
	m := &memory{}
	w := newTestWriter(m)
	put(t, w, data, 0, codec.BF16)
	must(t, w.Seal("numbers", []Tensor{{Name: "w", DType: "BF16", Shape: []uint64{uint64(len(data) / 2)}, End: int64(len(data))}}))
	return m.bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), NewCache(8<<20))
	must(t, err)
	return r
}

// contents reads all logical bytes.
func contents(t testing.TB, r *Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	must(t, err)
	return b
}

func checkContents(t testing.TB, r *Reader, want []byte) {
	t.Helper()
	if got := contents(t, r); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, want %d; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
