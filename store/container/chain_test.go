package container

import (
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
)

// TestAnnounceOfBases: who reads a dependent in order has its bases' next frames
// announced, too.
func TestAnnounceOfBases(t *testing.T) {
	const frame = 256 << 10
	f := chainOf(t, 1, 1, 2*sequentialAfter/2, frame, codec.BF16, 1<<20)
	b := &announced{&memory{b: f.stored[generation(1)]}, make(chan [2]int64, 100)}
	base, err := Open(b, int64(len(b.b)), f.cache)
	must(t, err)
	f.preset = map[Generation]*Reader{generation(1): base}
	r := f.reader(t, generation(0))
	checkContents(t, r, f.logical[generation(0)])
	r.Close()
	select {
	case x := <-b.told:
		if x[0] <= base.Log().Extents[sequentialAfter/frame-1].Frame.Position || x[1] > int64(len(b.b)) {
			t.Errorf("%v of %d bytes announced", x, len(b.b))
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing is announced")
	}
}
