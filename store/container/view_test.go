package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// TestView shows what ReadAt reads, over frames, holes and overwritten pieces.
func TestView(t *testing.T) {
	m := &memory{}
	w := newTestWriter(m)
	put(t, w, weights(3*codec.FrameSize+1000, 1), 0, codec.BF16)
	put(t, w, weights(2*codec.FrameSize, 2), 6*codec.FrameSize, codec.F32)
	put(t, w, weights(5000, 3), codec.FrameSize-1000, codec.Bytes)
	must(t, w.SetSize(9*codec.FrameSize))
	must(t, w.Seal("bytes", nil))
	cache := NewCache(1 << 20) // less than the file
	r, err := Open(m, int64(len(m.b)), cache)
	must(t, err)
	size := r.Size()
	rnd := rand.New(rand.NewPCG(1, 1))
	var held []*View
	for range 300 {
		off := rnd.Int64N(size)
		n := 1 + rnd.IntN(1<<rnd.IntN(21))
		want := make([]byte, min(int64(n), size-off))
		_, err := r.ReadAt(want, off)
		must(t, err)
		v, err := r.View(context.Background(), off, n)
		must(t, err)
		if got := bytes.Join(v.Slices, nil); v.Len() != len(want) || !bytes.Equal(got, want) {
			t.Fatalf("view of %d bytes at %d differs", n, off)
		}
		if held = append(held, v); len(held) > 4 {
			held[0].Release()
			held = held[1:]
		}
	}
	for _, v := range held {
		v.Release()
	}
	if _, err := r.View(context.Background(), size, 1); !errors.Is(err, io.EOF) {
		t.Errorf("past the end: %v", err)
	}
	if used := cache.Stats().Used; used > 1<<20 {
		t.Errorf("%d bytes stay in a cache of 1 MiB", used)
	}
	for _, b := range cache.entries {
		if b.refs != 0 {
			t.Errorf("the frame at %d is still held", b.key.position)
		}
	}
	// Damage gives no bytes.
	f := r.Log().Extents[len(r.Log().Extents)-1].Frame
	m.b[f.DataPosition()+10] ^= 1
	r.Close()
	var damage *DamageError
	if v, err := r.View(context.Background(), 0, int(size)); !errors.As(err, &damage) || v != nil {
		t.Errorf("%v, %v", v, err)
	}
}

// TestStateAfterSeal: whoever goes on reading from a Writer sees that it has
// sealed.
func TestStateAfterSeal(t *testing.T) {
	w := newTestWriter(&memory{})
	put(t, w, weights(1000, 1), 0, codec.BF16)
	if w.State().Sealed {
		t.Error("sealed before Seal")
	}
	must(t, w.Seal("bytes", nil))
	if !w.State().Sealed {
		t.Error("not sealed after Seal")
	}
}
