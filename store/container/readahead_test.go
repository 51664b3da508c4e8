package container

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
)

// announced is a storage that notes what it is told will be read.
type announced struct {
	*memory
	told chan [2]int64
}

func (a *announced) Announce(off, n int64) { a.told <- [2]int64{off, off + n} }

// TestAnnounce: a sequential reader's next frames are announced, each once, and
// none for a reader at random places.
func TestAnnounce(t *testing.T) {
	m := &memory{}
	w := newTestWriter(m)
	const frames = 96
	put(t, w, weights(frames*codec.FrameSize, 1), 0, codec.BF16)
	must(t, w.Seal("bytes", nil))
	a := &announced{m, make(chan [2]int64, 100)}
	r, err := Open(a, int64(len(m.b)), NewCache(1<<20))
	must(t, err)
	read := func(off int64, n int) { r.announce(off, off+int64(n)) }
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		read(rnd.Int64N(r.Size()), 4096)
	}
	select {
	case x := <-a.told:
		t.Fatalf("random reads announce %v", x)
	case <-time.After(50 * time.Millisecond):
	}
	log, end := r.Log(), int64(0)
	for off := int64(0); off < r.Size(); off += 1 << 20 {
		read(off, 1<<20)
		for waiting := true; waiting; { // announcements come from elsewhere
			select {
			case x := <-a.told:
				if x[0] < 0 || x[1] > int64(len(m.b)) || x[0] >= x[1] {
					t.Fatalf("%v of %d bytes announced", x, len(m.b))
				}
				e, _, _ := log.Extents.At(off)
				if x[0] <= e.Frame.Position {
					t.Errorf("reading at %d announced %v, which is behind it", off, x)
				}
				if x[0] < end {
					t.Errorf("%v is announced again: the last announcement ended at %d", x, end)
				}
				end = x[1]
			case <-time.After(5 * time.Millisecond):
				waiting = false
			}
		}
	}
	if end < int64(len(m.b))/2 {
		t.Errorf("a sequential reader was told of up to byte %d of %d only", end, len(m.b))
	}
}
