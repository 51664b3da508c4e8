package store

import (
	"os"
	"sync"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/direct"
)

// directIO are the descriptors by which a backing's inode is read and written past
// the page cache, opened when they are first needed.
type directIO struct {
	mu    sync.Mutex // guards what follows
	read  *os.File   // nil: not opened yet
	never bool       // it can't be, or not any more
}

var _ container.Lender = (*backing)(nil)

// Lend makes a backing a container.Lender.
func (b *backing) Lend(off, n int64) ([]byte, func()) {
	from, end := direct.Down(off), off+n
	if direct.Up(end)-from > direct.BufferSize || b.cached(from, end-from) {
		return nil, nil
	}
	f := b.direct.forReading(b)
	if f == nil {
		return nil, nil
	}
	buf := direct.Take()
	if buf == nil {
		return nil, nil
	}
	got, err := b.sys.preadDirect(f, buf, from, int(end-from))
	if err != nil || int64(got) < end-from {
		buf.Give()
		return nil, nil // an error is for ReadAt to meet, or not
	}
	return buf.Bytes()[off-from : end-from], buf.Give
}

// cached says whether the page cache is the better way to [off, off+n).
func (b *backing) cached(off, n int64) bool {
	yes := true
	_ = b.control(func(fd int) error {
		yes = direct.Cached(fd, off, n)
		return nil
	})
	return yes
}

// forReading returns the descriptor for reading, nil if there is none.
func (d *directIO) forReading(b *backing) *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read == nil && !d.never {
		err := b.control(func(fd int) (err error) {
			d.read, err = direct.Open(fd, false)
			return err
		})
		d.never = err != nil
	}
	return d.read
}

// close closes what there is, for good.
func (d *directIO) close() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read != nil {
		err = d.read.Close()
	}
	d.read, d.never = nil, true
	return err
}
