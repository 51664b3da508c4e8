package store

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/direct"
)

// directIO is the descriptor by which a backing's inode is read past the page
// cache, opened when it is first needed.
type directIO struct {
	mu    sync.Mutex // guards what follows
	file  *os.File   // nil: not opened yet
	never bool       // it can't be, or not any more
}

var _ container.Lender = (*backing)(nil)

// Lend makes a backing a container.Lender.
func (b *backing) Lend(off, n int64) ([]byte, func()) {
	from, end := direct.Down(off), off+n
	if direct.Up(end)-from > direct.BufferSize || b.cached(from, end-from) {
		return nil, nil
	}
	f := b.direct.open(b)
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

// open returns the descriptor, nil if there is none.
func (d *directIO) open(b *backing) *os.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil && !d.never {
		err := b.control(func(fd int) (err error) {
			d.file, err = direct.Open(fd)
			return err
		})
		d.never = err != nil && !passing(err)
	}
	return d.file
}

// passing says whether an error may not come the next time.
func passing(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// close closes it for good.
func (d *directIO) close() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		err = d.file.Close()
	}
	d.file, d.never = nil, true
	return err
}
