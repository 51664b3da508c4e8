package direct

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

const (
	// Align is what offsets, lengths and memory of direct I/O are multiples of.
	Align = 4096
	// BufferSize is how many bytes a Buffer has.
	BufferSize = 1 << 20
	// buffers is how many there are in the process, and so how many transfers at
	// once: more would gain nothing.
	buffers = 8

	hugePage = 2 << 20
)

// Buffer is aligned memory in huge pages: a transfer of it is a few long pieces
// and not hundreds of pages, which virtual disks take three times as fast. It is
// not the Go heap's.
type Buffer struct{ b []byte }

// Bytes are all of the buffer, from an aligned address on.
func (b *Buffer) Bytes() []byte { return b.b }

// Give lets others have the buffer.
func (b *Buffer) Give() {
	pool.mu.Lock()
	pool.free = append(pool.free, b)
	pool.mu.Unlock()
	pool.places.Leave()
}

// Take returns a buffer, in which is anything. It waits a little if all are in
// use, and then returns nil: a transfer that hangs keeps its own.
func Take() *Buffer { return pool.take() }

// bufferPool hands out the parts of one mapping, which is made once and never
// given back; the kernel provides memory only for what was used.
type bufferPool struct {
	once   sync.Once
	places patience.Places // one for each buffer
	mu     sync.Mutex      // guards what follows
	free   []*Buffer       // the last one was used last, and is likely to be in a processor's cache
}

var pool bufferPool

func (p *bufferPool) take() *Buffer {
	p.once.Do(p.reserve)
	if !p.places.Enter() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	b := p.free[n-1]
	p.free = p.free[:n-1]
	return b
}

// reserve maps the memory. Without it there are no buffers, and nothing to take.
func (p *bufferPool) reserve() {
	m, err := unix.Mmap(-1, 0, buffers*BufferSize+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return
	}
	skip := int(-uintptr(unsafe.Pointer(&m[0])) % hugePage)
	m = m[skip : skip+buffers*BufferSize]
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // a kernel without huge pages is only slower
	for i := buffers - 1; i >= 0; i-- {
		p.free = append(p.free, &Buffer{m[i*BufferSize : (i+1)*BufferSize : (i+1)*BufferSize]})
	}
	p.places = patience.NewPlaces(buffers)
}
