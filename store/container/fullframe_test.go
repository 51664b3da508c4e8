package container

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// lending is a storage that lends its bytes. What is given back is overwritten.
type lending struct {
	*memory
	mu    sync.Mutex          // guards what follows
	lent  [][2]int64          // all that was, in order
	out   int                 // what was not given back yet
	keeps func(call int) bool // says when it lends nothing; nil: never
	calls int
}

func (l *lending) Lend(off, n int64) ([]byte, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.keeps != nil && l.keeps(l.calls) {
		return nil, nil
	}
	p := make([]byte, n)
	if _, err := l.ReadAt(p, off); err != nil {
		return nil, nil
	}
	l.lent = append(l.lent, [2]int64{off, off + n})
	l.out++
	return p, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.out--
		for i := range p {
			p[i] = 0xee
		}
	}
}

// lendingReader reads the container b from a storage that lends.
func lendingReader(t *testing.T, b []byte) (*Reader, *lending) {
	t.Helper()
	l := &lending{memory: &memory{b: bytes.Clone(b)}}
	r, err := Open(l, int64(len(b)), NewCache(32<<20))
	must(t, err)
	return r, l
}

// checkGivenBack checks that all that was lent has been given back.
func (l *lending) checkGivenBack(t *testing.T, c *Cache) {
	t.Helper()
	idle(t, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out != 0 {
		t.Errorf("%d pieces are not given back", l.out)
	}
}

// contexts are of a request that nobody can interrupt, and of one that somebody
// may: the frames of that are decoded elsewhere.
func contexts(t *testing.T) map[string]context.Context {
	return map[string]context.Context{"forever": context.Background(), "interruptible": t.Context()}
}

// TestLentInOnePiece: frames that lie side by side are lent at once, up to
// maxRun, and those that are in the cache not at all.
func TestLentInOnePiece(t *testing.T) {
	const frames = 24
	b, data := repeated(t, frames)
	for _, c := range []struct {
		name        string
		have        []int // in the cache before
		first, last int   // frames of the view
		want        [][2]int
	}{
		{"one", nil, 3, 3, [][2]int{{3, 3}}},
		{"four", nil, 1, 4, [][2]int{{1, 4}}},
		{"the last ones", nil, frames - 2, frames - 1, [][2]int{{frames - 2, frames - 1}}},
		{"all there", []int{1, 2}, 1, 2, nil},
		{"one is there", []int{2}, 1, 4, [][2]int{{1, 1}, {3, 4}}},
		{"the first is there", []int{1}, 1, 4, [][2]int{{2, 4}}},
		{"the last is there", []int{4}, 1, 4, [][2]int{{1, 3}}},
	} {
		for name, ctx := range contexts(t) {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				r, l := lendingReader(t, b)
				defer r.Close()
				for _, i := range c.have {
					viewed(t, r, data, int64(i*codec.FrameSize), 1)
				}
				idle(t, r.cache)
				l.lent = nil
				v, err := r.View(ctx, int64(c.first*codec.FrameSize), (c.last-c.first+1)*codec.FrameSize)
				must(t, err)
				l.checkLent(t, r, c.want)
				if got := bytes.Join(v.Slices, nil); !bytes.Equal(got, data[c.first*codec.FrameSize:(c.last+1)*codec.FrameSize]) {
					t.Error("other bytes")
				}
				v.Release()
				l.checkGivenBack(t, r.cache)
			})
		}
	}
}

// checkLent compares what was lent with runs of frames.
func (l *lending) checkLent(t *testing.T, r *Reader, runs [][2]int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	x := r.Log().Extents
	var want [][2]int64
	for _, run := range runs {
		last := x[run[1]].Frame
		want = append(want, [2]int64{x[run[0]].Frame.DataPosition(), last.DataEnd()})
	}
	if len(l.lent) != len(want) {
		t.Fatalf("%v is lent, want %v", l.lent, want)
	}
	for i := range want {
		if l.lent[i] != want[i] {
			t.Errorf("%v is lent, want %v", l.lent[i], want[i])
		}
	}
}

// TestLentRunsAreBounded: more than maxRun is lent in pieces, each as long as can
// be, also of frames that are longer than that by themselves.
func TestLentRunsAreBounded(t *testing.T) {
	const frames = 24
	b, data := repeated(t, frames)
	r, l := lendingReader(t, b)
	defer r.Close()
	viewed(t, r, data, 0, len(data))
	l.checkGivenBack(t, r.cache)
	if stored := int64(len(b)); len(l.lent) > int(stored/(maxRun-codec.FrameSize))+1 {
		t.Errorf("%d bytes are lent in %d pieces", stored, len(l.lent))
	}
	for i, x := range l.lent {
		if x[1]-x[0] > maxRun {
			t.Errorf("%d bytes are lent at once", x[1]-x[0])
		}
		if i > 0 && x[0] < l.lent[i-1][1] {
			t.Errorf("%v is lent after %v", x, l.lent[i-1])
		}
	}
}

// TestFramesElsewhere: frames that follow each other in the file, and not in the
// container, are lent one by one; a hole is not lent.
func TestFramesElsewhere(t *testing.T) {
	m := &memory{}
	w := newTestWriter(m)
	data := make([]byte, 8*codec.FrameSize)
	for _, i := range []int{3, 2, 6, 7, 0} { // 1, 4 and 5 are holes
		copy(data[i*codec.FrameSize:], weights(codec.FrameSize, uint64(i)))
		put(t, w, data[i*codec.FrameSize:(i+1)*codec.FrameSize], int64(i*codec.FrameSize), codec.BF16)
	}
	copy(data[2*codec.FrameSize+1000:], weights(5000, 9)) // frame 2 is two extents now
	put(t, w, data[2*codec.FrameSize+1000:2*codec.FrameSize+6000], 2*codec.FrameSize+1000, codec.BF16)
	must(t, w.Seal("bytes", nil))
	for name, ctx := range contexts(t) {
		r, l := lendingReader(t, m.b)
		v, err := r.View(ctx, 0, len(data))
		must(t, err)
		if !bytes.Equal(bytes.Join(v.Slices, nil), data) {
			t.Errorf("%s: other bytes", name)
		}
		v.Release()
		// In order: 0, 2, the piece in it, 3, and 6 with 7.
		l.checkLent(t, r, [][2]int{{0, 0}, {1, 1}, {2, 2}, {4, 4}, {5, 6}})
		l.checkGivenBack(t, r.cache)
		r.Close()
	}
}

// TestLentNowAndThen: a storage that lends nothing is read.
func TestLentNowAndThen(t *testing.T) {
	const frames = 32
	b, data := repeated(t, frames)
	rnd := rand.New(rand.NewPCG(1, 1))
	for name, keeps := range map[string]func(int) bool{
		"never":          func(int) bool { return true },
		"now and then":   func(int) bool { return rnd.IntN(2) == 0 },
		"every other":    func(call int) bool { return call%2 == 0 },
		"the first only": func(call int) bool { return call > 1 },
	} {
		for of, ctx := range contexts(t) {
			r, l := lendingReader(t, b)
			l.keeps = keeps
			for off := 0; off < len(data); off += 900_000 {
				n := min(900_000, len(data)-off)
				v, err := r.View(ctx, int64(off), n)
				must(t, err)
				if !bytes.Equal(bytes.Join(v.Slices, nil), data[off:off+n]) {
					t.Errorf("%s, %s: other bytes at %d", name, of, off)
				}
				v.Release()
			}
			checkContents(t, r, data)
			l.checkGivenBack(t, r.cache)
			r.Close()
		}
	}
}

// TestDamageInARun is told of the frame that has it. What was lent with it reads,
// and was decoded already.
func TestDamageInARun(t *testing.T) {
	b, data := repeated(t, 5)
	for name, ctx := range contexts(t) {
		for _, lends := range []bool{true, false} {
			r, l := lendingReader(t, b)
			l.keeps = func(int) bool { return !lends }
			f := r.Log().Extents[2].Frame
			l.b[f.DataPosition()+int64(f.Stored)/2] ^= 1
			var damage *DamageError
			if v, err := r.View(ctx, 0, 4*codec.FrameSize); !errors.As(err, &damage) || v != nil || damage.Frame == nil || damage.Frame.Position != f.Position {
				t.Fatalf("%s: %v, %v", name, v, err)
			}
			idle(t, r.cache)
			decodes := r.cache.Stats().Decodes
			for _, i := range []int{0, 1, 3} {
				viewed(t, r, data, int64(i*codec.FrameSize), 1000)
			}
			if n := r.cache.Stats().Decodes; n != decodes {
				t.Errorf("%s: %d neighbours are decoded again", name, n-decodes)
			}
			viewed(t, r, data, 3*codec.FrameSize, 2*codec.FrameSize)
			if _, err := r.View(ctx, 2*codec.FrameSize, 1); !errors.As(err, &damage) {
				t.Errorf("%s: asked once more: %v", name, err)
			}
			l.checkGivenBack(t, r.cache)
			// It is not remembered: a disk may do better the next time.
			l.b[f.DataPosition()+int64(f.Stored)/2] ^= 1
			viewed(t, r, data, 0, len(data))
			r.Close()
		}
	}
}

// TestShortRun: a storage that ends in the middle of a run gives the frames that
// it has.
func TestShortRun(t *testing.T) {
	b, data := repeated(t, 4)
	r, l := lendingReader(t, b)
	defer r.Close()
	l.memory.mu.Lock()
	l.b = l.b[:r.Log().Extents[2].Frame.DataPosition()+100]
	l.memory.mu.Unlock()
	if _, err := r.View(t.Context(), 0, len(data)); err == nil {
		t.Error("what is missing is shown")
	}
	viewed(t, r, data, 0, 2*codec.FrameSize)
	l.checkGivenBack(t, r.cache)
}
