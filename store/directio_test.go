package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/direct"
)

// uncached has a file of data in no page of the kernel, and skips the test where
// that, or direct I/O, is not to be had.
func uncached(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { _ = f.Close() }()
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	d, err := direct.Open(int(f.Fd()))
	if err != nil {
		t.Skipf("the filesystem of %s has no direct I/O: %v", name, err)
	}
	must(t, d.Close())
	st, err := f.Stat()
	must(t, err)
	for off := int64(0); off < st.Size(); off += direct.Align {
		if direct.Cached(int(f.Fd()), off, min(direct.Align, st.Size()-off)) {
			t.Skipf("the kernel keeps what is at %d, or can't tell", off)
		}
	}
}

// backingOf is a backing of a file of data, which is in no page of the kernel.
func backingOf(t *testing.T, sys system, data []byte) *backing {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, data, 0o600))
	uncached(t, name)
	f, err := os.Open(name)
	must(t, err)
	return newBacking(f, sys)
}

// randomBytes are n of them, without any order.
func randomBytes(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// TestLend: what is lent are the bytes that ReadAt reads, wherever they are.
func TestLend(t *testing.T) {
	const size = 4<<20 + 777
	data := randomBytes(size, 1)
	b := backingOf(t, kernel{}, data)
	defer func() { must(t, b.close()) }()
	r := rand.New(rand.NewPCG(1, 1))
	ranges := [][2]int64{{0, 1}, {0, direct.BufferSize}, {size - 1, 1}, {size - 777, 777}, {size - 778, 778}, {direct.Align - 1, 2}, {1, direct.BufferSize - 1}}
	for range 500 {
		n := 1 + r.Int64N(1<<r.IntN(20))
		ranges = append(ranges, [2]int64{r.Int64N(size - n), n})
	}
	for _, x := range ranges {
		off, n := x[0], x[1]
		p, giveBack := b.Lend(off, n)
		if p == nil {
			t.Fatalf("%d bytes at %d are not lent", n, off)
		}
		if !bytes.Equal(p, data[off:off+n]) {
			t.Errorf("%d other bytes at %d", n, off)
		}
		giveBack()
	}
	for _, x := range ranges {
		p := make([]byte, x[1])
		if _, err := b.ReadAt(p, x[0]); err != nil || !bytes.Equal(p, data[x[0]:x[0]+x[1]]) {
			t.Errorf("ReadAt reads %d other bytes at %d, %v", x[1], x[0], err)
		}
	}
}

// TestLendsNothing where ReadAt is the better way, or has an error to tell, and
// then keeps no buffer: there are few.
func TestLendsNothing(t *testing.T) {
	const size = 3<<20 + 100
	data := randomBytes(size, 2)
	for _, c := range []struct {
		name   string
		x      *faulty
		off, n int64
		before func(t *testing.T, b *backing)
		asked  int // how many direct reads that takes
	}{
		{name: "past the end", off: size, n: 1, asked: 1},
		{name: "far past the end", off: size + 1<<30, n: 100, asked: 1},
		{name: "over the end", off: size - 10, n: 11, asked: 1},
		{name: "too long", off: 0, n: direct.BufferSize + 1},
		{name: "too long from there", off: direct.Align - 1, n: direct.BufferSize - direct.Align + 2},
		{name: "too long by far", off: 1, n: 2 << 20},
		{name: "it fails", x: &faulty{kind: "preadDirect", every: true, err: unix.EIO}, n: 100, asked: 1},
		{name: "in memory", off: 5000, n: 100, before: func(t *testing.T, b *backing) {
			_, err := b.ReadAt(make([]byte, 100), 5000)
			must(t, err)
		}},
		{name: "all buffers are in use", n: 100, before: func(t *testing.T, _ *backing) {
			for b := direct.Take(); b != nil; b = direct.Take() {
				t.Cleanup(b.Give)
			}
		}},
		{name: "closed", n: 100, before: func(t *testing.T, b *backing) { must(t, b.close()) }},
		{name: "being closed", n: 100, before: func(t *testing.T, b *backing) { must(t, b.direct.close()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := c.x
			if x == nil {
				x = &faulty{nth: -1}
			}
			x.count, x.armed = make(map[string]int), true
			b := backingOf(t, x, data)
			if c.before != nil {
				c.before(t, b)
			}
			x.count = make(map[string]int)
			open := openDescriptors(t)
			for range 20 { // more than there are buffers
				if p, giveBack := b.Lend(c.off, c.n); p != nil || giveBack != nil {
					t.Fatalf("%d bytes at %d are lent", c.n, c.off)
				}
				if c.asked == 0 {
					break // some of them take their time
				}
			}
			if asked := x.count["preadDirect"]; asked != 20*c.asked {
				t.Errorf("it is read %d times", asked)
			}
			if now := openDescriptors(t); c.asked == 0 && c.name != "all buffers are in use" && now != open {
				t.Errorf("%d descriptors were open, %d are", open, now)
			}
			if c.name != "closed" {
				must(t, b.close())
			}
			if c.name == "all buffers are in use" {
				return
			}
			buf := direct.Take()
			if buf == nil {
				t.Fatal("no buffer is left")
			}
			buf.Give()
		})
	}
}

// TestLendAfterFailure: a direct read that fails says nothing about the next one.
func TestLendAfterFailure(t *testing.T) {
	data := randomBytes(1<<20, 3)
	x := &faulty{kind: "preadDirect", err: unix.EIO, count: make(map[string]int), armed: true}
	b := backingOf(t, x, data)
	defer func() { must(t, b.close()) }()
	if p, _ := b.Lend(0, 100); p != nil || !x.fired {
		t.Errorf("%d bytes are lent; fired %v", len(p), x.fired)
	}
	p, giveBack := b.Lend(5000, 100)
	if !bytes.Equal(p, data[5000:5100]) {
		t.Fatalf("%d bytes are lent, or others", len(p))
	}
	giveBack()
}

// TestLendWhileClosing: whoever is lent bytes while the file is closed gets them
// from that file, not from one that has its number by then, and no descriptor
// stays open.
func TestLendWhileClosing(t *testing.T) {
	data, other := randomBytes(1<<20, 4), filepath.Join(t.TempDir(), "other")
	must(t, os.WriteFile(other, make([]byte, len(data)), 0o600))
	uncached(t, other)
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, data, 0o600))
	uncached(t, name)
	before := openDescriptors(t)
	lent := 0
	for round := range 60 {
		f, err := os.Open(name)
		must(t, err)
		b := newBacking(f, kernel{})
		var lenders sync.WaitGroup
		var mu sync.Mutex
		stop := make(chan struct{})
		for i := range 4 {
			lenders.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for {
					select {
					case <-stop:
						return
					default:
					}
					off := r.Int64N(int64(len(data) - 5000))
					p, giveBack := b.Lend(off, 5000)
					if p == nil {
						continue
					}
					if !bytes.Equal(p, data[off:off+5000]) {
						t.Errorf("other bytes at %d", off)
					}
					giveBack()
					mu.Lock()
					lent++
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(round) * 50 * time.Microsecond)
		must(t, b.close())
		var others []*os.File
		for range 8 { // these take the numbers
			f, err := os.OpenFile(other, os.O_RDONLY|unix.O_DIRECT, 0)
			must(t, err)
			others = append(others, f)
		}
		time.Sleep(time.Millisecond)
		close(stop)
		lenders.Wait()
		for _, f := range others {
			must(t, f.Close())
		}
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors were open, %d are", before, after)
	}
	if lent == 0 {
		t.Error("nothing was lent")
	}
}

// TestDirectReadsFail: a sealed file is read past the page cache, and reads right
// where none of that works.
func TestDirectReadsFail(t *testing.T) {
	data := testWeights(t)[:3<<20]
	dir := t.TempDir()
	s, err := Open(dir, Options{Workers: 2})
	must(t, err)
	storeFile(t, s, "f", data)
	must(t, s.Close())
	if !isContainer(t, filepath.Join(dir, "f")) {
		t.Fatal("it is no container")
	}
	for _, c := range []struct {
		name string
		x    *faulty
	}{
		{"none fails", &faulty{nth: -1}},
		{"some fail", &faulty{kind: "preadDirect", nth: 1, err: unix.EIO}},
		{"all fail", &faulty{kind: "preadDirect", every: true, err: unix.EIO}},
		{"all fail, and are not allowed", &faulty{kind: "preadDirect", every: true, err: unix.EINVAL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			uncached(t, filepath.Join(dir, "f"))
			c.x.count, c.x.armed = make(map[string]int), true
			s, err := Open(dir, Options{sys: c.x, ReadOnly: true})
			must(t, err)
			defer func() { must(t, s.Close()) }()
			if got, err := readLogical(s, "f"); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, or others, %v", len(got), err)
			}
			if c.x.count["preadDirect"] == 0 || c.x.fired != (c.x.kind != "") {
				t.Errorf("fired %v; calls: %v", c.x.fired, c.x.count)
			}
		})
	}
}
