package container

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
)

// idle waits until nobody decodes for a cache, and nothing of it is held.
func idle(t *testing.T, c *Cache) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		held := 0
		c.mu.Lock()
		for _, b := range c.entries {
			held += b.refs
		}
		c.mu.Unlock()
		if held == 0 && len(c.ahead) == 0 && len(c.admission) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d references, %d decode ahead and %d for requests", held, len(c.ahead), len(c.admission))
		}
	}
}

// viewed checks that a view of n bytes at off shows those of data.
func viewed(t *testing.T, r *Reader, data []byte, off int64, n int) {
	t.Helper()
	v, err := r.View(t.Context(), off, n)
	must(t, err)
	defer v.Release()
	if got := bytes.Join(v.Slices, nil); !bytes.Equal(got, data[off:min(int(off)+n, len(data))]) {
		t.Fatalf("%d other bytes at %d", n, off)
	}
}

// repeated is a container of so many frames, and its bytes.
func repeated(t *testing.T, frames int) (b, data []byte) {
	t.Helper()
	data = bytes.Repeat(weights(codec.FrameSize, 7), frames)
	for i := range frames {
		data[i*codec.FrameSize] = byte(i) // no two are the same
	}
	return makeContainer(t, data), data
}

// TestFramesGiveTheirMemory: who reads in order takes the memory of a few frames,
// however many there are, and however many the cache would keep.
func TestFramesGiveTheirMemory(t *testing.T) {
	const frames = 96
	b, data := repeated(t, frames)
	for _, c := range []struct {
		name  string
		cache int64
		read  int
		most  int64
	}{
		{"small reads, a large cache", 2 * frames * codec.FrameSize, 32 << 10, codec.FrameSize},
		{"small reads, a small cache", 4 * codec.FrameSize, 32 << 10, codec.FrameSize},
		// The one that is read and the next one, besides those ahead.
		{"a large cache", 2 * frames * codec.FrameSize, 128 << 10, aheadMost + 2*codec.FrameSize},
		{"a small cache", 16 * codec.FrameSize, 128 << 10, 4 * codec.FrameSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := NewCache(c.cache)
			r := openIn(t, cache, b)
			defer r.Close()
			for off := 0; off < len(data); off += c.read {
				viewed(t, r, data, int64(off), c.read)
				idle(t, cache)
				if used := cache.Stats().Used; used > c.most {
					t.Fatalf("after %d bytes it holds %d, and %d are enough", off, used, c.most)
				}
			}
			if n := cache.Stats().Decodes; n != frames {
				t.Errorf("%d frames are decoded %d times", frames, n)
			}
		})
	}
}

// TestHeldFramesKeepTheirMemory: a frame that was read to its end, and is held by
// another reader, or not read to its end, gives its memory to nobody.
func TestHeldFramesKeepTheirMemory(t *testing.T) {
	const frames = 16
	b, data := repeated(t, frames)
	cache := NewCache(2 * codec.FrameSize)
	r := openIn(t, cache, b)
	var held []*View
	for _, i := range []int64{0, 5, 6} {
		v, err := r.View(context.Background(), i*codec.FrameSize, codec.FrameSize)
		must(t, err)
		held = append(held, v)
	}
	for range 2 {
		for off := 0; off < len(data); off += 32 << 10 {
			viewed(t, r, data, int64(off), 32<<10)
		}
	}
	for k, i := range []int{0, 5, 6} {
		if !bytes.Equal(bytes.Join(held[k].Slices, nil), data[i*codec.FrameSize:(i+1)*codec.FrameSize]) {
			t.Errorf("frame %d, which is held, has other bytes", i)
		}
		held[k].Release()
	}
	idle(t, cache)
	r.Close()
	if used := cache.Stats().Used; used != 0 {
		t.Errorf("%d bytes held after Close", used)
	}
}

// TestFramesNotReadToTheirEnd stay, and so does one that is read again.
func TestFramesNotReadToTheirEnd(t *testing.T) {
	const frames = 8
	b, data := repeated(t, frames)
	cache := NewCache(2 * frames * codec.FrameSize)
	r := openIn(t, cache, b)
	defer r.Close()
	for range 2 {
		for i := range int64(frames) {
			viewed(t, r, data, i*codec.FrameSize, 1000)
		}
	}
	if n := cache.Stats().Decodes; n != frames {
		t.Errorf("the beginnings of %d frames take %d decodes", frames, n)
	}
}

// TestFrameReadAgain: one that was read to its end, and then its beginning once
// more, is not given away, whether that reader still has it or not.
func TestFrameReadAgain(t *testing.T) {
	b, data := repeated(t, 4)
	for _, held := range []bool{true, false} {
		cache := NewCache(8 * codec.FrameSize)
		r := openIn(t, cache, b)
		viewed(t, r, data, 0, codec.FrameSize)
		v, err := r.View(context.Background(), 0, 1000)
		must(t, err)
		if !held {
			v.Release()
		}
		viewed(t, r, data, codec.FrameSize, 1000)
		if held && !bytes.Equal(v.Slices[0], data[:1000]) {
			t.Error("a frame that is held has other bytes")
		}
		viewed(t, r, data, 0, 1000)
		if n := cache.Stats().Decodes; n != 2 {
			t.Errorf("held %v: two frames take %d decodes", held, n)
		}
		v.Release()
		r.Close()
	}
}

// panicking is a storage with a mistake in it.
type panicking struct {
	io.ReaderAt
	at int64
}

func (p *panicking) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.at {
		panic("a mistake")
	}
	return p.ReaderAt.ReadAt(b, off)
}

// TestPanicWhileDecoding is an error for those who read the frame, with the place
// where it began. Others go on, and nobody waits for ever.
func TestPanicWhileDecoding(t *testing.T) {
	b, data := repeated(t, 4)
	f := chainOf(t, 1, 1, 10000, 4<<10, codec.BF16, 1<<20)
	for _, c := range []struct {
		name string
		open func() (*Reader, []byte) // its first bytes read
		off  int64
	}{
		{"storage", func() (*Reader, []byte) {
			r := openIn(t, NewCache(8<<20), b)
			r.src = &panicking{r.src, r.Log().Extents[2].Frame.Position}
			return r, data[:2*codec.FrameSize]
		}, 2 * codec.FrameSize},
		{"decoder", func() (*Reader, []byte) {
			r := openIn(t, NewCache(8<<20), b)
			r.cache.decoders.New = func() any { panic("a mistake") }
			return r, nil
		}, 0},
		{"decoder of delta frames", func() (*Reader, []byte) {
			r := f.reader(t, generation(0))
			r.cache.deltaDecoders.New = func() any { panic("a mistake") }
			return r, f.logical[generation(0)][:100]
		}, 100},
	} {
		for _, ctx := range []context.Context{context.Background(), t.Context()} {
			r, good := c.open()
			for range 2 * (cap(r.cache.deltaSlots) + cap(r.cache.admission)) {
				v, err := r.View(ctx, c.off, 1000)
				if v != nil || err == nil || !strings.Contains(err.Error(), "a mistake") || !strings.Contains(err.Error(), "TestPanicWhileDecoding") && !strings.Contains(err.Error(), "panicking") {
					t.Fatalf("%s: %v, %v", c.name, v, err)
				}
			}
			got := make([]byte, len(good))
			if _, err := r.ReadAt(got, 0); len(good) > 0 && (err != nil || !bytes.Equal(got, good)) {
				t.Errorf("%s: what was not met by it: %v", c.name, err)
			}
			idle(t, r.cache)
			if n := len(r.cache.deltaSlots); n != 0 {
				t.Errorf("%s: %d decoders are at work", c.name, n)
			}
			r.Close()
		}
	}
}
