package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/mithrilfs/mithrilfs/codec"
)

func bf16(f float32) uint16 {
	u := math.Float32bits(f)
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func TestRoundTripSizes(t *testing.T) {
	for _, base := range []int{1, 2, codec.FrameSize, 2 * codec.FrameSize, 5 * codec.FrameSize} {
		for _, n := range []int{base - 1, base, base + 1} {
			if n == 0 {
				continue
			}
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				data := weights(n, uint64(n))
				r := open(t, makeContainer(t, data))
				if !r.State().Sealed {
					t.Error("not sealed")
				}
				if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), data); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestDecodesAsSeekableZstd: any zstd decoder accepts a container, and gives
// the planned bytes of every frame.
func TestDecodesAsSeekableZstd(t *testing.T) {
	data := weights(3*codec.FrameSize+10, 1)
	b := makeContainer(t, data)
	d, err := zstd.NewReader(bytes.NewReader(b))
	must(t, err)
	defer d.Close()
	got, err := io.ReadAll(d)
	must(t, err)
	if len(got) != len(data) || bytes.Equal(got, data) {
		t.Errorf("decoded %d bytes, want %d planned ones, which differ from the logical ones", len(got), len(data))
	}
	footer := b[len(b)-seekFooterSize:]
	n, ok := parseSeekFooter(footer)
	if !ok {
		t.Fatal("no seek table footer")
	}
	spans, ok := parseSeekTable(b[int64(len(b))-seekTableSize(n):], int64(len(b))-seekTableSize(n))
	if !ok {
		t.Fatal("the seek table does not cover the file")
	}
	var content int64
	for _, s := range spans {
		content += int64(s.content)
	}
	if content != int64(len(data)) {
		t.Errorf("the seek table has %d bytes of content, want %d", content, len(data))
	}
}

// TestLaterRecordsWin plays random writes, truncations, seals and reopenings
// and compares with a plain byte slice, through every way of reading.
func TestLaterRecordsWin(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		m := &memory{}
		w := newTestWriter(m)
		var want []byte
		for range 30 {
			w, want = randomStep(t, r, m, w, want)
			got := make([]byte, len(want))
			if _, err := w.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("seed %d: the writer's view differs at %d", seed, firstDifference(got, want))
			}
		}
		must(t, w.SetSize(int64(len(want))))
		if len(m.bytes()) > 0 {
			unsealed := open(t, m.bytes())
			checkContents(t, unsealed, want)
		}
		put(t, w, []byte{1}, int64(len(want)), codec.Bytes) // an unmodified container stays unsealed
		want = append(want, 1)
		must(t, w.Seal("bytes", nil))
		w.Close()
		if len(m.bytes()) > 0 {
			sealed := open(t, m.bytes())
			if !sealed.State().Sealed {
				t.Fatalf("seed %d: not sealed: %v", seed, sealed.State().Tail)
			}
			checkContents(t, sealed, want)
			replayed := replayAll(t, m.bytes())
			if fmt.Sprint(replayed.Extents) != fmt.Sprint(sealed.Log().Extents) || replayed.Size != sealed.Size() {
				t.Fatalf("seed %d: index and replay differ", seed)
			}
		}
	}
}

// replayAll reads the log of a container from its records alone.
func replayAll(t *testing.T, b []byte) *Log {
	t.Helper()
	first, err := parseHeader(b)
	must(t, err)
	l, tail, err := replay(bytes.NewReader(b), int64(len(b)), first, func(*Log, *Frame) error { return nil })
	must(t, err)
	if tail != nil {
		t.Fatal(tail)
	}
	return l
}

func randomStep(t *testing.T, r *rand.Rand, m *memory, w *Writer, want []byte) (*Writer, []byte) {
	t.Helper()
	switch k := r.IntN(10); {
	case k < 6:
		at := r.IntN(len(want) + 100)
		data := weights(1+r.IntN(3000), r.Uint64())
		must(t, w.Drain()) // overlapping chunks must not be on their way together
		put(t, w, data, int64(at), []codec.DType{codec.Bytes, codec.BF16, codec.F32, codec.F64}[r.IntN(4)])
		if end := at + len(data); end > len(want) {
			want = append(want, make([]byte, end-len(want))...)
		}
		copy(want[at:], data)
	case k < 8:
		size := r.IntN(len(want) + 500)
		must(t, w.SetSize(int64(size)))
		if size <= len(want) {
			want = want[:size]
		} else {
			want = append(want, make([]byte, size-len(want))...)
		}
	case k < 9:
		must(t, w.SetSize(int64(len(want))))
		must(t, w.Seal("bytes", nil))
	case len(m.bytes()) > 0:
		must(t, w.SetSize(int64(len(want))))
		must(t, w.Drain())
		w.Close()
		var err error
		w, err = OpenWriter(m, int64(len(m.bytes())), NewCache(1<<20), NewEncoders(2, 8<<20))
		must(t, err)
	}
	return w, want
}

// TestConcurrentReadersDecodeOnce: however many ask, a frame is decoded once.
func TestConcurrentReadersDecodeOnce(t *testing.T) {
	data := weights(4*codec.FrameSize, 3)
	b := makeContainer(t, data)
	cache := NewCache(8 << 20)
	r, err := Open(bytes.NewReader(b), int64(len(b)), cache)
	must(t, err)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			got := make([]byte, len(data))
			if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
				t.Errorf("error %v, equal %v", err, bytes.Equal(got, data))
			}
		})
	}
	wg.Wait()
	if s := cache.Stats(); s.Decodes != 4 || s.Hits != 16*4-4 {
		t.Errorf("%d decodes and %d hits, want 4 and 60", s.Decodes, s.Hits)
	}
	r.Close()
	if s := cache.Stats(); s.Used != 0 {
		t.Errorf("%d bytes held after Close", s.Used)
	}
}

func TestCacheStaysInItsBound(t *testing.T) {
	data := weights(20*codec.FrameSize, 4)
	b := makeContainer(t, data)
	cache := NewCache(3 * codec.FrameSize)
	r, err := Open(bytes.NewReader(b), int64(len(b)), cache)
	must(t, err)
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 500 {
		off := rnd.Int64N(int64(len(data)) - 10)
		var p [10]byte
		if _, err := r.ReadAt(p[:], off); err != nil || !bytes.Equal(p[:], data[off:off+10]) {
			t.Fatalf("at %d: %v", off, err)
		}
		if s := cache.Stats(); s.Used > 3*codec.FrameSize {
			t.Fatalf("%d bytes held, the bound is %d", s.Used, 3*codec.FrameSize)
		}
	}
}

// small is a container of two generations with an overwrite, a size record and
// dead frames, small enough to damage at every byte.
func small(t testing.TB) (b, data, firstGeneration []byte) {
	t.Helper()
	m := &memory{}
	w := newTestWriter(m)
	data = weights(600, 9)
	put(t, w, data[:400], 0, codec.BF16)
	put(t, w, data[400:], 400, codec.BF16)
	must(t, w.Seal("numbers", []Tensor{{Name: "a", DType: "BF16", Shape: []uint64{300}, End: 600}}))
	firstGeneration = bytes.Clone(data)
	over := weights(100, 10)
	put(t, w, over, 150, codec.BF16)
	must(t, w.Drain())
	copy(data[150:], over)
	must(t, w.SetSize(700))
	data = append(data, make([]byte, 100)...)
	must(t, w.Seal("numbers", []Tensor{{Name: "a", DType: "BF16", Shape: []uint64{300}, End: 600}}))
	return m.bytes(), data, firstGeneration
}

// acceptable: the right bytes, the old generation's, or a whole prefix of what
// the records gave, in order: the states that the log went through.
func acceptable(got, data, old []byte) bool {
	overwritten := append(bytes.Clone(data[:250]), old[250:]...)
	for _, state := range [][]byte{data, old, old[:400], {}, overwritten} {
		if bytes.Equal(got, state) {
			return true
		}
	}
	return false
}

func checkDamaged(t *testing.T, cache *Cache, what string, b, data, old []byte) {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), cache)
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%s: %v is neither damage nor a version", what, err)
		}
		return
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: reading: %v", what, err)
		}
		return
	}
	if !acceptable(got, data, old) {
		t.Fatalf("%s: wrong bytes: %d, first difference at %d", what, len(got), firstDifference(got, data))
	}
}

func TestEveryBitFlipped(t *testing.T) {
	b, data, old := small(t)
	cache := NewCache(1 << 20)
	for at := range b {
		for bit := range 8 {
			if testing.Short() && bit != at%8 {
				continue
			}
			c := bytes.Clone(b)
			c[at] ^= 1 << bit
			checkDamaged(t, cache, fmt.Sprintf("bit %d of byte %d", bit, at), c, data, old)
		}
		c := bytes.Clone(b)
		c[at] ^= 0xff
		checkDamaged(t, cache, fmt.Sprintf("byte %d", at), c, data, old)
	}
}

func TestEveryCut(t *testing.T) {
	b, data, old := small(t)
	cache := NewCache(1 << 20)
	for n := HeaderSize; n < len(b); n++ {
		checkDamaged(t, cache, fmt.Sprintf("cut at %d", n), b[:n], data, old)
	}
	for n := headWitness; n < HeaderSize; n++ {
		if _, err := Open(bytes.NewReader(b[:n]), int64(n), NewCache(0)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestZeroFilledExtent(t *testing.T) {
	b, data, old := small(t)
	cache := NewCache(1 << 20)
	for at := 0; at+64 <= len(b); at += 16 {
		c := bytes.Clone(b)
		clear(c[at : at+64])
		if !Recognize(c) && at == 0 {
			continue // a lost first block and a valid tail
		}
		checkDamaged(t, cache, fmt.Sprintf("zeros at %d", at), c, data, old)
	}
}

// TestSwappedFrames: two frames of equal length, in one file and between files.
func TestSwappedFrames(t *testing.T) {
	data := weights(2*codec.FrameSize, 11)
	b := makeContainer(t, data)
	x := open(t, b).Log().Extents
	if len(x) != 2 {
		t.Fatalf("%d extents", len(x))
	}
	other := makeContainer(t, weights(2*codec.FrameSize, 12))
	y := open(t, other).Log().Extents
	swap := func(name string, from []byte, f, g *Frame) {
		c := bytes.Clone(b)
		copy(c[f.DataPosition():f.DataEnd()], from[g.DataPosition():])
		r := open(t, c)
		var p [1]byte
		if _, err := r.ReadAt(p[:], f.Offset); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	swap("in the file", b, &x[0].Frame, &x[1].Frame)
	swap("between files", other, &x[0].Frame, &y[0].Frame)
}

func TestUnknownVersion(t *testing.T) {
	b := makeContainer(t, weights(100, 1))
	binary.LittleEndian.PutUint16(b[headerAtVersion:], 7)
	binary.LittleEndian.PutUint64(b[headerAtSum:], xxhash.Sum64(b[:headerAtSum]))
	_, err := Open(bytes.NewReader(b), int64(len(b)), NewCache(0))
	var v *VersionError
	if !errors.As(err, &v) || v.Version != 7 || !errors.Is(err, ErrVersion) || errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

func TestDamageNamesFrameAndBytes(t *testing.T) {
	data := weights(2*codec.FrameSize, 13)
	b := makeContainer(t, data)
	f := open(t, b).Log().Extents[1].Frame
	b[f.DataPosition()+100] ^= 1
	r := open(t, b)
	got := make([]byte, len(data))
	n, err := r.ReadAt(got, 0)
	if n != codec.FrameSize || !bytes.Equal(got[:n], data[:n]) {
		t.Errorf("%d bytes before the damage, want %d", n, codec.FrameSize)
	}
	want := fmt.Sprintf("damaged container: frame 1 (logical bytes %d to %d) at byte %d", codec.FrameSize, 2*codec.FrameSize, f.Position)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := r.Check(f); !errors.Is(err, ErrDamaged) {
		t.Errorf("Check: %v", err)
	}
	if err := r.Check(r.Log().Extents[0].Frame); err != nil {
		t.Errorf("Check of a whole frame: %v", err)
	}
}

// TestWriteErrorsStay: the storage takes so many bytes; the error reaches the
// writer, and readers of what it cost; what is in the storage reads as a whole
// prefix.
func TestWriteErrorsStay(t *testing.T) {
	data := weights(5*codec.FrameSize, 14)
	whole := open(t, makeContainer(t, data))
	ends := []int64{HeaderSize}
	for _, e := range whole.Log().Extents {
		ends = append(ends, e.Frame.DataEnd())
	}
	for frames, end := range ends {
		for _, room := range []int64{end, end + 1, end + frameRecordSize} {
			m := &memory{room: room}
			w := newTestWriter(m)
			for off := 0; off < len(data); off += codec.FrameSize {
				c := newChunk(t, w, Chunk{Offset: int64(off), DType: codec.BF16})
				_, _ = c.Write(data[off : off+codec.FrameSize])
				if w.Append(c) != nil {
					break
				}
			}
			if err := w.Seal("numbers", nil); !errors.Is(err, errFull) {
				t.Fatalf("room for %d bytes: Seal: %v", room, err)
			}
			if !errors.Is(w.Drain(), errFull) {
				t.Fatalf("room for %d bytes: the error is gone", room)
			}
			checkReads(t, w, data, frames*codec.FrameSize)
			w.Close()
			checkContents(t, open(t, m.bytes()), data[:frames*codec.FrameSize])
		}
	}
}

// checkReads: the first kept bytes of data can be read, the others give the
// error that lost them.
func checkReads(t *testing.T, w *Writer, data []byte, kept int) {
	t.Helper()
	got := make([]byte, len(data))
	n, err := w.ReadAt(got, 0)
	if n != kept || !bytes.Equal(got[:n], data[:n]) || errors.Is(err, errFull) != (kept < len(data)) {
		t.Errorf("%d bytes can be read, want %d: %v", n, kept, err)
	}
	if kept > 0 && kept < len(data) {
		n, err := w.ReadAt(got[:1000], int64(kept)-10)
		if n != 10 || !errors.Is(err, errFull) {
			t.Errorf("at %d: %d bytes, %v", kept-10, n, err)
		}
	}
}

func TestHoles(t *testing.T) {
	m := &memory{}
	w := newTestWriter(m)
	put(t, w, []byte("hello"), 1000, codec.Bytes)
	must(t, w.SetSize(5000))
	must(t, w.Seal("bytes", nil))
	want := make([]byte, 5000)
	copy(want[1000:], "hello")
	checkContents(t, open(t, m.bytes()), want)
}

func TestSummarize(t *testing.T) {
	b := makeContainer(t, weights(1000, 1))
	s, err := Summarize(bytes.NewReader(b), int64(len(b)))
	if err != nil || s != (Summary{Container: true, Sealed: true, Size: 1000}) {
		t.Errorf("%+v, %v", s, err)
	}
	cut := b[:len(b)-1]
	s, err = Summarize(bytes.NewReader(cut), int64(len(cut)))
	if err != nil || s != (Summary{Container: true}) {
		t.Errorf("unsealed: %+v, %v", s, err)
	}
	s, err = Summarize(strings.NewReader("text"), 4)
	if err != nil || s != (Summary{}) {
		t.Errorf("plain: %+v, %v", s, err)
	}
}

// TestManyChunksStayInTheirBound: a writer that is faster than the encoders
// waits.
func TestManyChunksStayInTheirBound(t *testing.T) {
	const budget = 8 * 2 * codec.FrameSize
	enc := NewEncoders(1, budget)
	w := Create(&memory{}, NewCache(1<<20), enc)
	chunk := weights(codec.FrameSize, 1)
	for i := range 50 {
		c := newChunk(t, w, Chunk{Offset: int64(i) * codec.FrameSize, DType: codec.BF16})
		_, _ = c.Write(chunk)
		must(t, w.Append(c))
		enc.mu.Lock()
		held := enc.held
		enc.mu.Unlock()
		if held > 4 {
			t.Fatalf("%d chunks held by one writer, the bound is 4", held)
		}
	}
	must(t, w.Drain())
	for range 4 { // room for all that one writer may hold comes back
		_ = newChunk(t, w, Chunk{})
	}
}
