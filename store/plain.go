package store

import (
	"context"
	"io"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// plain is a file whose backing bytes are its logical bytes.
type plain struct{ backing *backing }

func (p *plain) ReadAt(b []byte, off int64) (int, error) { return p.backing.ReadAt(b, off) }

func (p *plain) ReadAtContext(ctx context.Context, b []byte, off int64) (int, error) {
	return p.backing.ReadAtContext(ctx, b, off)
}

// WriteAt refuses what would make the file look like a container: it could
// never be told apart from one again.
func (p *plain) WriteAt(b []byte, off int64) (int, error) {
	if off < headWitness && p.beginsLikeContainer(b, off) {
		return 0, ErrMagic
	}
	return p.backing.WriteAt(b, off)
}

// headWitness is more than the first bytes by which container.Recognize knows
// a container.
const headWitness = 64

func (p *plain) beginsLikeContainer(b []byte, off int64) bool {
	head := make([]byte, headWitness)
	n, err := p.backing.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return false // the write will tell
	}
	end := max(n, min(int(off)+len(b), headWitness))
	copy(head[off:], b)
	return container.Recognize(head[:end])
}

func (p *plain) Truncate(size int64) error { return p.backing.Truncate(size) }

func (p *plain) allocate(off, length int64, keepSize bool) error {
	mode := uint32(0)
	if keepSize {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(p.backing.fd(), mode, off, length) })
	return err
}

// size asks the backing filesystem: whoever sees the backing directory may
// append to a plain file there.
func (p *plain) size() int64 {
	st, err := p.backing.stat()
	if err != nil {
		return 0 // not for an open file
	}
	return int64(st.Size)
}

func (p *plain) flush() error              { return nil }
func (p *plain) settle(bool) error         { return nil }
func (p *plain) reader() *container.Reader { return nil }
func (p *plain) close()                    {}
