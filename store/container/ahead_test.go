package container

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// TestDecodeAhead: what a sequential reader will ask for is decoded before, and
// every frame once.
func TestDecodeAhead(t *testing.T) {
	const frames, read = 96, 128 << 10
	b, data := repeated(t, frames)
	cache := NewCache(2 * frames * codec.FrameSize)
	r := openIn(t, cache, b)
	defer r.Close()
	for off := 0; off < len(data); off += read {
		before := cache.Stats()
		viewed(t, r, data, int64(off), read)
		idle(t, cache) // what it decodes ahead, too
		s := cache.Stats()
		asked := uint64(off/codec.FrameSize + 1)
		switch {
		case off+read <= sequentialAfter && s.Decodes != asked:
			t.Fatalf("after %d bytes %d frames are decoded: it is not known to be sequential yet", off+read, s.Decodes)
		case off+read > sequentialAfter && s.Decodes < min(asked+uint64(cache.aheadBytes())/2/codec.FrameSize, frames):
			t.Fatalf("after %d bytes %d frames are decoded", off+read, s.Decodes)
		case s.Decodes > min(asked+uint64(cache.aheadBytes())/codec.FrameSize+1, frames):
			t.Fatalf("after %d bytes %d frames are decoded, which is too far ahead", off+read, s.Decodes)
		case off > sequentialAfter && s.Hits == before.Hits:
			t.Fatalf("what is read at %d was not decoded ahead", off)
		}
	}
	if n := cache.Stats().Decodes; n != frames {
		t.Errorf("%d frames are decoded %d times", frames, n)
	}
}

// TestDecodeAheadOfMany: several readers in order, none of which waits for what
// is ahead of it, read what is there.
func TestDecodeAheadOfMany(t *testing.T) {
	const frames, readers = 64, 4
	b, data := repeated(t, frames)
	cache := NewCache(4 << 20) // of which each has some ahead of it
	r := openIn(t, cache, b)
	done := make(chan bool)
	for i := range readers {
		go func() {
			defer func() { done <- true }()
			for off := int64(i) * codec.FrameSize * frames / readers; off < int64(len(data)); off += 128 << 10 {
				v, err := r.View(t.Context(), off, 128<<10)
				if err != nil || !bytes.Equal(bytes.Join(v.Slices, nil), data[off:off+128<<10]) {
					t.Errorf("other bytes at %d, %v", off, err)
					return
				}
				v.Release()
			}
		}()
	}
	for range readers {
		<-done
	}
	idle(t, cache)
	if used := cache.Stats().Used; used > 4<<20 {
		t.Errorf("%d bytes stay in a cache of 4 MiB", used)
	}
}

// TestNothingAheadOfRandomReads, be they small or large.
func TestNothingAheadOfRandomReads(t *testing.T) {
	const frames, apart = 24, sequentialSlack + 4*codec.FrameSize
	m := &memory{}
	w := newTestWriter(m)
	data := make([]byte, frames*apart)
	for i := range frames {
		copy(data[i*apart:], weights(4*codec.FrameSize, uint64(i)))
		put(t, w, data[i*apart:i*apart+4*codec.FrameSize], int64(i*apart), codec.BF16)
	}
	must(t, w.SetSize(int64(len(data))))
	must(t, w.Seal("bytes", nil))
	cache := NewCache(128 << 20)
	r := openIn(t, cache, m.bytes())
	defer r.Close()
	rnd := rand.New(rand.NewPCG(1, 1))
	order := rnd.Perm(frames)
	for _, i := range order { // of each four frames one
		viewed(t, r, data, int64(i*apart), codec.FrameSize)
	}
	for range 200 { // only the first of each four
		viewed(t, r, data, int64(rnd.IntN(frames)*apart+rnd.IntN(codec.FrameSize-4096)), 4096)
	}
	idle(t, cache)
	if n := cache.Stats().Decodes; n > 2*frames { // those that gave their memory to the next come again
		t.Errorf("%d frames are asked for and %d are decoded", frames, n)
	}
	if n := cache.Stats().Used; n > frames*codec.FrameSize {
		t.Errorf("%d bytes are held, of %d frames", n, frames)
	}
	for _, p := range r.readers.at {
		if p.told > p.next {
			t.Errorf("who is at %d has his frames decoded up to %d", p.next, p.told)
		}
	}
}
