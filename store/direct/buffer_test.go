package direct

import (
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// takeAll takes every buffer there is.
func takeAll(t *testing.T) []*Buffer {
	t.Helper()
	list := make([]*Buffer, buffers)
	for i := range list {
		if list[i] = Take(); list[i] == nil {
			t.Fatalf("%d buffers, and then none", i)
		}
	}
	return list
}

func address(b *Buffer) uintptr { return uintptr(unsafe.Pointer(&b.Bytes()[0])) }

// TestBuffers: every buffer is aligned and whole, and no byte is in two of them,
// not even one that is appended.
func TestBuffers(t *testing.T) {
	list := takeAll(t)
	for i, b := range list {
		if a := address(b); a%BufferSize != 0 { // a part of a huge page, and so of Align
			t.Errorf("buffer %d begins at %#x", i, a)
		}
		if len(b.Bytes()) != BufferSize || cap(b.Bytes()) != BufferSize {
			t.Errorf("buffer %d has %d bytes, and room for %d", i, len(b.Bytes()), cap(b.Bytes()))
		}
		for k, other := range list[:i] {
			if d := int64(address(b) - address(other)); d < BufferSize && d > -BufferSize {
				t.Errorf("buffer %d begins %d bytes from buffer %d", i, d, k)
			}
		}
		for k := range b.Bytes() { // all of it is memory
			b.Bytes()[k] = byte(i)
		}
	}
	for i, b := range list {
		if first, last := b.Bytes()[0], b.Bytes()[BufferSize-1]; first != byte(i) || last != byte(i) {
			t.Errorf("buffer %d has %d and %d, which are another's", i, first, last)
		}
		b.Give()
	}
}

// TestTakeWaits: who finds all buffers taken waits a little for one, and no
// longer.
func TestTakeWaits(t *testing.T) {
	list := takeAll(t)
	begin := time.Now()
	if b := Take(); b != nil {
		t.Fatal("one more than there are")
	}
	if d := time.Since(begin); d < patience.Moment {
		t.Errorf("it waits no longer than %v", d)
	}
	time.AfterFunc(patience.Moment/10, list[0].Give)
	b := Take()
	if b != list[0] {
		t.Fatalf("%p is given back and %p taken", list[0], b)
	}
	b.Give()
	for _, b := range list[1:] {
		b.Give()
	}
	for _, b := range takeAll(t) { // as many as before
		b.Give()
	}
}

// TestTakeTheLast: the buffer that was used last is in a processor's cache.
func TestTakeTheLast(t *testing.T) {
	a, b := Take(), Take()
	b.Give()
	a.Give()
	c := Take()
	defer c.Give()
	if c != a {
		t.Error("it is not the last one that was given back")
	}
}

// TestTakeAtOnce: a buffer has one user at a time, however many there are.
func TestTakeAtOnce(t *testing.T) {
	var users sync.WaitGroup
	for user := range 4 * buffers {
		users.Go(func() {
			for range 200 {
				b := Take()
				if b == nil {
					continue // a slow machine
				}
				p := b.Bytes()
				p[0], p[BufferSize-1] = byte(user), byte(user) // -race sees two who do
				if p[0] != byte(user) || p[BufferSize-1] != byte(user) {
					t.Error("another uses the same buffer")
				}
				b.Give()
			}
		})
	}
	users.Wait()
	for _, b := range takeAll(t) {
		b.Give()
	}
}

// TestNoBuffers: where there is no memory for them, nobody waits for any.
func TestNoBuffers(t *testing.T) {
	var p bufferPool
	p.once.Do(func() {}) // as if it could not be mapped
	begin := time.Now()
	if p.take() != nil {
		t.Error("there is one")
	}
	if d := time.Since(begin); d > patience.Moment/2 {
		t.Errorf("it waits %v", d)
	}
}
