package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

var allTypes = []codec.DType{codec.Bytes, codec.F8, codec.I16, codec.I32, codec.I64, codec.BF16, codec.F16, codec.F32, codec.F64}

// TestChains: every member of a family reads as it was, whatever its type and
// however many bases it has.
func TestChains(t *testing.T) {
	for _, dtype := range allTypes {
		for bases := 1; bases <= MaxBases; bases++ {
			t.Run(fmt.Sprint(dtype, bases), func(t *testing.T) {
				f := chainOf(t, 3, bases, 20<<10/dtype.Size(), 8<<10, dtype, 1<<20)
				for i := range 4 {
					r := f.reader(t, generation(i))
					checkContents(t, r, f.logical[generation(i)])
					checkFrames(t, r, i < 3, bases)
					r.Close()
				}
				f.checkReleased(t)
			})
		}
	}
}

// checkFrames: the frames of a dependent's tensor are delta frames, and can be
// checked.
func checkFrames(t *testing.T, r *Reader, dependent bool, bases int) {
	t.Helper()
	deltas := 0
	for _, e := range r.Log().Extents {
		if e.Frame.Coding == CodingDelta {
			deltas++
		}
		if int(e.Frame.Bases) > bases {
			t.Errorf("a frame has %d bases, more than %d", e.Frame.Bases, bases)
		}
		must(t, r.Check(e.Frame))
	}
	if dependent != (deltas > 0) {
		t.Errorf("%d delta frames", deltas)
	}
}

// checkReleased: no base is open, and no block of the cache is held.
func (f *family) checkReleased(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != 0 {
		t.Errorf("%d bases are not released", f.open)
	}
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	for _, b := range f.cache.entries {
		if b.refs != 0 {
			t.Errorf("the frame at %d is still held", b.key.position)
		}
	}
}

// TestFramesThatDoNotMatch: every member is cut into frames of another length,
// has tensors that the next has not, or of another type, and a header of another
// length.
func TestFramesThatDoNotMatch(t *testing.T) {
	f := newFamily(1 << 20)
	const n = 20000
	narrow, wide := steps(6, n, codec.BF16, 1), steps(6, n, codec.F32, 1)
	var gens []Generation
	var list []*member
	for i := 5; i >= 0; i-- {
		weights := tensor{codec.BF16, narrow[i]}
		if i == 3 {
			weights = tensor{codec.F32, wide[i]}
		}
		counter := tensor{codec.I64, bytes.Repeat([]byte{byte(i), 0, 0, 0, 0, 0, 0, 0}, 300)}
		if i == 2 {
			counter.dtype = codec.Bytes
		}
		m := &member{header: 97*i + i%2, tensors: []tensor{weights, counter, {codec.F16, steps(6, n/4, codec.F16, 2)[i]}}}
		f.frame = []int{10000, 4096, 16384, 12000, 6000, 8192}[i]
		f.add(t, generation(i), m, gens, list)
		gens, list = append([]Generation{generation(i)}, gens...), append([]*member{m}, list...)
		if len(gens) > MaxBases {
			gens, list = gens[:MaxBases], list[:MaxBases]
		}
	}
	for i := range 6 {
		r := f.reader(t, generation(i))
		want := f.logical[generation(i)]
		checkContents(t, r, want)
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		for range 100 {
			off := rnd.IntN(len(want))
			p := make([]byte, min(1+rnd.IntN(30000), len(want)-off))
			_, err := r.ReadAt(p, int64(off))
			must(t, err)
			v, err := r.View(context.Background(), int64(off), len(p))
			must(t, err)
			if !bytes.Equal(p, want[off:off+len(p)]) || !bytes.Equal(bytes.Join(v.Slices, nil), p) {
				t.Fatalf("%d bytes at %d of member %d differ", len(p), off, i)
			}
			v.Release()
		}
		r.Close()
	}
	f.checkReleased(t)
}

// TestHolesOfBases: what no frame of a base covers is zeros.
func TestHolesOfBases(t *testing.T) {
	f := newFamily(1 << 20)
	data := steps(2, 10000, codec.BF16, 4)
	clear(data[1][3000:9000])
	clear(data[1][19000:])
	base := &memory{}
	w := CreateDelta(base, generation(1), Dependence{})
	must(t, w.Append(Piece{DType: codec.BF16, Data: data[1][:3000]}))
	must(t, w.Append(Piece{Offset: 9000, DType: codec.BF16, Data: data[1][9000:19000]}))
	must(t, w.Seal("numbers", nil, 20000))
	f.stored[generation(1)], f.logical[generation(1)] = base.bytes(), data[1]
	member1, member0 := &member{tensors: []tensor{{codec.BF16, data[1]}}}, &member{tensors: []tensor{{codec.BF16, data[0]}}}
	f.add(t, generation(0), member0, []Generation{generation(1)}, []*member{member1})
	r := f.reader(t, generation(0))
	defer r.Close()
	checkContents(t, r, data[0])
	checkFrames(t, r, true, 1)
}

// TestEditedDependent: what a client changes is read, and so is the rest; sealed
// again or not, and when the bases are gone where they are not needed.
func TestEditedDependent(t *testing.T) {
	f := chainOf(t, 2, 2, 10000, 8<<10, codec.BF16, 1<<20)
	want := f.logical[generation(0)]
	file := &memory{b: f.stored[generation(0)]}
	w, err := OpenWriter(file, int64(len(file.b)), f.cache, NewEncoders(2, 8<<20))
	must(t, err)
	edit := bytes.Repeat([]byte("edit"), 1000)
	put(t, w, edit, 3000, codec.Bytes)
	copy(want[3000:], edit)
	must(t, w.Drain())
	got := make([]byte, len(want))
	_, err = w.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("the writer's view differs")
	}
	for _, sealed := range []bool{false, true} {
		if sealed {
			must(t, w.Seal("bytes", nil))
		}
		r := openIn(t, f.cache, file.bytes())
		if r.State().Sealed != sealed || len(r.Dependence().Bases) != 2 {
			t.Errorf("%+v, %+v", r.State(), r.Dependence())
		}
		checkContents(t, r, want)
		r.Close()
	}
	// The seek table covers it all, and a new writer goes on.
	w.Close()
	w, err = OpenWriter(file, int64(len(file.b)), f.cache, NewEncoders(2, 8<<20))
	must(t, err)
	put(t, w, edit, int64(len(want)), codec.Bytes)
	must(t, w.Seal("bytes", nil))
	w.Close()
	want = append(want, edit...)
	r := openIn(t, f.cache, file.bytes())
	checkContents(t, r, want)
	r.Close()
	clear(f.stored)
	r = openIn(t, f.cache, file.bytes())
	defer r.Close()
	if _, err := r.ReadAt(got[:4000], 3000); err != nil || !bytes.Equal(got[:4000], edit) {
		t.Errorf("what needs no base: %v", err)
	}
	if _, err := r.ReadAt(got[:4001], 3000); !errors.Is(err, ErrBase) {
		t.Errorf("what needs a base: %v", err)
	}
}

// TestMissingBase: only what needs the base can't be read, and it can when the
// base is back.
func TestMissingBase(t *testing.T) {
	f := chainOf(t, 2, 2, 1000, 8<<10, codec.BF16, 1<<20)
	base := f.stored[generation(1)]
	delete(f.stored, generation(1))
	r := f.reader(t, generation(0))
	defer r.Close()
	head := make([]byte, 100)
	if _, err := r.ReadAt(head, 0); err != nil || !bytes.Equal(head, bytes.Repeat([]byte{'h'}, 100)) {
		t.Errorf("%q, %v", head, err)
	}
	n, err := r.ReadAt(make([]byte, 300), 0)
	var missing *BaseError
	if n != 100 || !errors.As(err, &missing) || missing.Generation != generation(1) || !errors.Is(err, ErrBase) || !errors.Is(err, errAbsent) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if errors.Is(err, ErrDamaged) {
		t.Errorf("a missing base is no damage: %v", err)
	}
	f.stored[generation(1)] = base
	checkContents(t, r, f.logical[generation(0)])
	alone := openIn(t, NewCache(1<<20), f.stored[generation(0)])
	defer alone.Close()
	if _, err := alone.ReadAt(head, 100); !errors.Is(err, ErrBase) {
		t.Errorf("without a resolver: %v", err)
	}
}

// TestWrongBase: another container in a base's place gives no byte.
func TestWrongBase(t *testing.T) {
	f := chainOf(t, 1, 1, 1000, 8<<10, codec.BF16, 1<<20)
	for _, c := range []struct {
		name   string
		g      Generation
		size   int
		damage bool
	}{
		{"another generation", generation(7), 1000, false},
		{"another size", generation(1), 1001, false},
		{"another content", generation(1), 1000, true},
	} {
		other := newFamily(1 << 20)
		other.add(t, c.g, &member{header: 101, tensors: []tensor{{codec.BF16, steps(1, c.size, codec.BF16, 9)[0]}}}, nil, nil)
		f.stored[generation(1)] = other.stored[c.g]
		r := f.reader(t, generation(0))
		n, err := r.ReadAt(make([]byte, 200), 0)
		if n != 100 || err == nil || errors.Is(err, ErrBase) == c.damage || errors.Is(err, ErrDamaged) != c.damage {
			t.Errorf("%s: %d bytes, %v", c.name, n, err)
		}
		r.Close()
		f.checkReleased(t)
	}
}

// TestDamagedBase: the error tells which file is damaged.
func TestDamagedBase(t *testing.T) {
	f := chainOf(t, 2, 1, 1000, 8<<10, codec.BF16, 1<<20)
	x := f.reader(t, generation(2)).Log().Extents[1].Frame
	f.stored[generation(2)][x.DataPosition()+100] ^= 1
	for i := range 2 {
		r := f.reader(t, generation(i))
		_, err := r.ReadAt(make([]byte, 100), 200)
		var base *BaseError
		if !errors.As(err, &base) || base.Generation != generation(2) || !errors.Is(err, ErrDamaged) {
			t.Errorf("member %d: %v", i, err)
		}
		if err := r.Check(r.Log().Extents[1].Frame); !errors.Is(err, ErrBase) {
			t.Errorf("Check of member %d: %v", i, err)
		}
		r.Close()
	}
	f.checkReleased(t)
}

// TestBasesInACircle: a reader of containers that depend on each other gets an
// error, and so do two at once. Too deep a chain is one, too.
func TestBasesInACircle(t *testing.T) {
	f := chainOf(t, 2, 1, 1000, 8<<10, codec.BF16, 1<<20)
	// What was full depends on the first one now.
	m := &member{header: 102, tensors: []tensor{{codec.BF16, f.logical[generation(2)][102:]}}}
	of := &member{header: 100, tensors: []tensor{{codec.BF16, f.logical[generation(0)][100:]}}}
	f.add(t, generation(2), m, []Generation{generation(0)}, []*member{of})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			r := f.reader(t, generation(i%3))
			defer r.Close()
			if _, err := r.ReadAt(make([]byte, 300), 100); !errors.Is(err, ErrBase) {
				t.Errorf("member %d: %v", i%3, err)
			}
		})
	}
	wg.Wait()
	r := f.reader(t, generation(0))
	if _, err := r.ReadAt(make([]byte, 300), 100); !errors.Is(err, errCircle) {
		t.Error(err)
	}
	r.Close()
	f.checkReleased(t)
	deep := chainOf(t, maxDepth+1, 1, 1000, 8<<10, codec.BF16, 1<<20)
	for i, fails := range []bool{true, false} {
		r := deep.reader(t, generation(i))
		if _, err := r.ReadAt(make([]byte, 100), 250); errors.Is(err, errCircle) != fails {
			t.Errorf("at depth %d: %v", maxDepth+1-i, err)
		}
		r.Close()
	}
}

// TestChainIsDecodedOnce: reading a whole member decodes every frame of every
// member once, in one request or in many, whatever the bases of each.
func TestChainIsDecodedOnce(t *testing.T) {
	for _, request := range []int{1 << 20, 3000} {
		f := chainOf(t, 12, 3, 20000, 8<<10, codec.BF16, 8<<20)
		r := f.reader(t, generation(0))
		frames := len(r.Log().Extents) - 1 // of the tensor
		buf := make([]byte, request)
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(r, 0, r.Size()), buf)
		must(t, err)
		if n := f.cache.Stats().Decodes; n != uint64(frames*13+1) {
			t.Errorf("%d frames decoded, where 13 members have %d each", n, frames)
		}
		r.Close()
	}
}

// peak is a Storage that notes how much a cache holds when it is read.
type peak struct {
	io.ReaderAt
	cache *Cache
	most  int64
}

func (p *peak) ReadAt(b []byte, off int64) (int, error) {
	p.most = max(p.most, p.cache.Stats().Used)
	return p.ReaderAt.ReadAt(b, off)
}

// TestDeepReadsHoldLittle: at depth 12 with three bases each, no more than four
// frames and the one that is decoded are held.
func TestDeepReadsHoldLittle(t *testing.T) {
	const frame = 16 << 10
	f := chainOf(t, 12, 3, frame/2, frame, codec.BF16, 0)
	b := f.stored[generation(0)]
	src := &peak{ReaderAt: bytes.NewReader(b), cache: f.cache}
	r, err := Open(src, int64(len(b)), f.cache)
	must(t, err)
	defer r.Close()
	p := make([]byte, 100)
	_, err = r.ReadAt(p, 5000)
	must(t, err)
	if !bytes.Equal(p, f.logical[generation(0)][5000:5100]) {
		t.Error("wrong bytes")
	}
	if src.most > 5*frame || src.most < 3*frame {
		t.Errorf("%d bytes held, frames are %d", src.most, frame)
	}
}

// TestDeepReadersAtOnce: many readers of all members, with a cache that holds
// nothing or little.
func TestDeepReadersAtOnce(t *testing.T) {
	for _, cacheBytes := range []int64{0, 100 << 10} {
		f := chainOf(t, 12, 3, 20000, 8<<10, codec.BF16, cacheBytes)
		var readers [13]*Reader
		for i := range readers {
			readers[i] = f.reader(t, generation(i))
		}
		var wg sync.WaitGroup
		for k := range 16 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(k), 2))
				for range 15 {
					i := rnd.IntN(13)
					want := f.logical[generation(i)]
					off := rnd.IntN(len(want))
					p := make([]byte, min(1+rnd.IntN(20000), len(want)-off))
					ctx, cancel := context.WithCancel(context.Background())
					_, err := readers[i].ReadAtContext(ctx, p, int64(off))
					cancel()
					if err != nil || !bytes.Equal(p, want[off:off+len(p)]) {
						t.Errorf("%d bytes at %d of member %d: %v", len(p), off, i, err)
					}
				}
			})
		}
		wg.Wait()
		for _, r := range readers {
			r.Close()
		}
		f.checkReleased(t)
	}
}

// hanging is a Storage, or a Resolver, that waits until it is told to go on.
type hanging struct {
	io.ReaderAt
	*family
	hangs, goOn chan struct{}
	once        sync.Once
}

func newHanging(r io.ReaderAt, f *family) *hanging {
	return &hanging{ReaderAt: r, family: f, hangs: make(chan struct{}), goOn: make(chan struct{})}
}

func (h *hanging) hang() {
	h.once.Do(func() { close(h.hangs) })
	<-h.goOn
}

func (h *hanging) ReadAt(p []byte, off int64) (int, error) {
	if off > 400 {
		h.hang()
	}
	return h.ReaderAt.ReadAt(p, off)
}

func (h *hanging) Resolve(ctx context.Context, g Generation) (*Reader, func(), error) {
	h.once.Do(func() { close(h.hangs) })
	select {
	case <-h.goOn:
		return h.family.Resolve(ctx, g)
	case <-ctx.Done():
		return nil, nil, unix.EINTR
	}
}

// readInterrupted reads with a context that ends when h hangs.
func readInterrupted(t *testing.T, r *Reader, h *hanging) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.hangs
		cancel()
	}()
	began := time.Now()
	_, err := r.ReadAtContext(ctx, make([]byte, 3000), 100)
	if !errors.Is(err, unix.EINTR) || time.Since(began) > 3*patience.Patience {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// TestInterruptedReadOfChain: a reader leaves a disk that hangs in the middle of
// its chain, and nothing stays held when it goes on.
func TestInterruptedReadOfChain(t *testing.T) {
	t.Parallel() // it waits
	f := chainOf(t, 4, 2, 10000, 4<<10, codec.BF16, 0)
	r := f.reader(t, generation(0))
	b := f.stored[generation(2)]
	h := newHanging(bytes.NewReader(b), f)
	base, err := Open(bytes.NewReader(b), int64(len(b)), f.cache)
	must(t, err)
	base.src = h
	f.preset = map[Generation]*Reader{generation(2): base}
	readInterrupted(t, r, h)
	close(h.goOn)
	checkContents(t, r, f.logical[generation(0)])
	r.Close()
	f.checkReleased(t)
}

// TestInterruptedResolve: one who gives up looking for a base leaves the others
// who look for it.
func TestInterruptedResolve(t *testing.T) {
	t.Parallel() // it waits
	f := chainOf(t, 1, 1, 1000, 4<<10, codec.BF16, 1<<20)
	h := newHanging(nil, f)
	f.cache.SetResolver(h)
	first, second := f.reader(t, generation(0)), f.reader(t, generation(0))
	var wg sync.WaitGroup
	wg.Go(func() {
		<-h.hangs
		checkContents(t, second, f.logical[generation(0)])
	})
	readInterrupted(t, first, h)
	close(h.goOn)
	wg.Wait()
	checkContents(t, first, f.logical[generation(0)])
	first.Close()
	second.Close()
	f.checkReleased(t)
}

// smallDependent is a dependent of a few hundred bytes, with a full frame and
// delta frames, edited, and its bases.
func smallDependent(t testing.TB) (f *family, want, before []byte) {
	t.Helper()
	f = chainOf(t, 2, 2, 700, 512, codec.BF16, 1<<20)
	before = bytes.Clone(f.logical[generation(0)])
	for i := range 2 {
		r := f.reader(t, generation(i))
		for _, e := range r.Log().Extents[1:] {
			if e.Frame.Coding != CodingDelta {
				t.Fatalf("member %d: %+v", i, e)
			}
		}
		r.Close()
	}
	file := &memory{b: f.stored[generation(0)]}
	w, err := OpenWriter(file, int64(len(file.b)), f.cache, NewEncoders(1, 8<<20))
	must(t, err)
	put(t, w, []byte("edited"), 130, codec.Bytes)
	must(t, w.Seal("bytes", nil))
	w.Close()
	copy(f.logical[generation(0)][130:], "edited")
	f.stored[generation(0)] = file.bytes()
	return f, f.logical[generation(0)], before
}

// checkDamagedDependent: the right bytes, a whole prefix of what was written, or
// an error; frame by frame, since others can be read.
func checkDamagedDependent(t *testing.T, f *family, what string, b, want, before []byte) {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), f.cache)
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%s: %v is neither damage nor a version", what, err)
		}
		return
	}
	defer r.Close()
	size := int(r.Size())
	if size > len(want) || size < len(want) && r.State().Sealed {
		t.Fatalf("%s: %d bytes, %+v", what, size, r.State())
	}
	for off := 0; off < size; off += 64 {
		p := make([]byte, min(64, size-off))
		n, err := r.ReadAt(p, int64(off))
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrBase) {
			t.Fatalf("%s: reading: %v", what, err)
		}
		old := !r.State().Sealed || len(b) < len(f.stored[generation(0)])
		if got := p[:n]; !bytes.Equal(got, want[off:off+n]) && !(old && bytes.Equal(got, before[off:off+n])) {
			t.Fatalf("%s: wrong bytes at %d", what, off)
		}
	}
}

func TestEveryBitOfDependentFlipped(t *testing.T) {
	f, want, before := smallDependent(t)
	for g := range 3 {
		stored := bytes.Clone(f.stored[generation(g)])
		for at := range stored {
			if testing.Short() && at%5 != 0 {
				continue
			}
			for bit := range 8 {
				if bit != at%8 && (testing.Short() || g > 0) {
					continue
				}
				c := bytes.Clone(stored)
				c[at] ^= 1 << bit
				f.stored[generation(g)] = c
				checkDamagedDependent(t, f, fmt.Sprintf("bit %d of byte %d of member %d", bit, at, g), f.stored[generation(0)], want, before)
			}
		}
		f.stored[generation(g)] = stored
	}
	f.checkReleased(t)
}

func TestEveryCutOfDependent(t *testing.T) {
	f, want, before := smallDependent(t)
	b := f.stored[generation(0)]
	for n := HeaderSize; n < len(b); n++ {
		if testing.Short() && n%3 != 0 {
			continue
		}
		checkDamagedDependent(t, f, fmt.Sprintf("cut at %d", n), b[:n], want, before)
	}
	f.checkReleased(t)
}

// TestDraftVersion: a container of version 0 is told for what it is.
func TestDraftVersion(t *testing.T) {
	b := makeContainer(t, weights(100, 1))
	binary.LittleEndian.PutUint16(b[headerAtVersion:], 0)
	binary.LittleEndian.PutUint64(b[headerAtSum:], xxhash.Sum64(b[:headerAtSum]))
	_, err := Open(bytes.NewReader(b), int64(len(b)), NewCache(0))
	const want = "container format version 0 was a draft, which this mithrilfs does not read: " +
		"unpack the file with the mithrilfs that wrote it, and store it again (in version 1)"
	if !errors.Is(err, ErrVersion) || err.Error() != want {
		t.Error(err)
	}
}
