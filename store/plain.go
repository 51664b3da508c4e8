package store

import (
	"bytes"
	"context"
	"io"
	"math"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// plain is a file whose backing bytes are its logical bytes. A change after
// which it would look like a container is ErrMagic: it could never be told
// apart from one again.
type plain struct {
	backing *backing
	loaded  int64 // the size that it had when it was opened
	lowest  int64 // offset of the first byte changed since
	// long says that there are headWitness bytes: later ones do not matter for
	// what the file begins like.
	long bool
}

func newPlain(b *backing, size int64) *plain {
	return &plain{backing: b, loaded: size, lowest: math.MaxInt64, long: size >= headWitness}
}

func (p *plain) ReadAt(b []byte, off int64) (int, error) { return p.backing.ReadAt(b, off) }

func (p *plain) ReadAtContext(ctx context.Context, b []byte, off int64) (int, error) {
	return p.backing.ReadAtContext(ctx, b, off)
}

func (p *plain) WriteAt(b []byte, off int64) (int, error) {
	if len(b) > 0 && p.critical(b, off) && p.looksLikeContainer(&edited{p.backing, b, off}, max(p.size(), off+int64(len(b)))) {
		return 0, ErrMagic
	}
	p.lowest = min(p.lowest, off)
	return p.backing.WriteAt(b, off)
}

// seekTableEnd is what every container ends with.
var seekTableEnd = []byte{0xb1, 0xea, 0x92, 0x8f}

// critical says whether writing b may change what the file looks like.
func (p *plain) critical(b []byte, off int64) bool {
	return off < headWitness || !p.long || len(b) < len(seekTableEnd) || bytes.HasSuffix(b, seekTableEnd)
}

// looksLikeContainer is for what the file is going to be.
func (p *plain) looksLikeContainer(r io.ReaderAt, size int64) bool {
	p.long = size >= headWitness
	return beginsLikeContainer(r, size) || endsLikeContainer(r, size)
}

// edited is a file as it will be when b has been written at off.
type edited struct {
	file io.ReaderAt
	b    []byte
	off  int64
}

// ReadAt reads zeros where the file is too short.
func (e *edited) ReadAt(p []byte, off int64) (int, error) {
	n, err := e.file.ReadAt(p, off)
	if ignoreEOF(err) != nil {
		return n, err
	}
	clear(p[n:])
	if from := max(off, e.off); from < min(off+int64(len(p)), e.off+int64(len(e.b))) {
		copy(p[from-off:], e.b[from-e.off:])
	}
	return len(p), nil
}

func (p *plain) Truncate(size int64) error {
	if p.looksLikeContainer(&edited{file: p.backing}, size) {
		return ErrMagic
	}
	p.lowest = min(p.lowest, size, p.size())
	return p.backing.Truncate(size)
}

func (p *plain) allocate(off, length int64, keepSize bool) error {
	mode := uint32(0)
	if keepSize {
		mode = unix.FALLOC_FL_KEEP_SIZE
	} else if size := max(p.size(), off+length); p.looksLikeContainer(&edited{file: p.backing}, size) {
		return ErrMagic
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
