package container

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/mithrilfs/mithrilfs/codec"
)

// Reader gives a container's logical bytes. All methods are safe for
// concurrent use.
type Reader struct {
	src   io.ReaderAt
	cache *Cache
	id    uint64

	readers readers
	bases   bases

	mu    sync.RWMutex // guards what follows, which only a Writer changes
	state State
	log   *Log
}

var _ io.ReaderAt = (*Reader)(nil)

// Open reads the state of the container of size bytes in src. The error
// matches ErrNotContainer, ErrDamaged or ErrVersion, or is one of src. An
// unsealed container is replayed, which decodes it once.
func Open(src io.ReaderAt, size int64, cache *Cache) (*Reader, error) {
	check := func(l *Log, f *Frame) error {
		buf := sized(&cache.decoded, int(f.Length))
		defer cache.decoded.Put(buf)
		return cache.decode(src, f, l.generation(f), buf.B)
	}
	log, state, err := readLog(src, size, check)
	if err != nil {
		return nil, err
	}
	return newReader(src, cache, log, state), nil
}

func newReader(src io.ReaderAt, cache *Cache, log *Log, state State) *Reader {
	return &Reader{src: src, cache: cache, id: cache.lastID.Add(1), log: log, state: state}
}

// Close drops what the cache holds of the container, and gives its bases back.
// It does not close src.
func (r *Reader) Close() {
	r.cache.forget(r.id)
	r.closeBases()
}

// State says how the log was found when the container was opened, or that it
// has been sealed since.
func (r *Reader) State() State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state
}

// Size is the logical size.
func (r *Reader) Size() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.Size
}

// Log returns a copy of the state. Its slices are shared with a Writer only
// where a Writer never changes them.
func (r *Reader) Log() Log {
	r.mu.RLock()
	defer r.mu.RUnlock()
	l := *r.log
	l.Extents = append(Extents(nil), l.Extents...)
	return l
}

// End is the byte offset just past the log, which grows with every change.
func (r *Reader) End() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.end
}

// Usage is how many bytes of the container the live frames take, their records
// included, and its end: what is between is dead, or index and tables.
func (r *Reader) Usage() (live, end int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.log.storedBytes(), r.log.end
}

// ReadAt fills p with logical bytes from off on, as io.ReaderAt has it. Bytes
// that no frame covers are zeros. A frame that is damaged gives a DamageError
// after the bytes before it, one whose base is not available a BaseError; other
// frames still read.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	return r.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt, or the error unix.EINTR.
func (r *Reader) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	together := together{r: r}
	defer together.release()
	done := 0
	for done < len(p) {
		together.reach(ctx, off+int64(done), off+int64(len(p)))
		n, err := r.readPiece(ctx, p[done:], off+int64(done), r.Size())
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readPiece reads from one extent or hole of a logical file of size bytes.
func (r *Reader) readPiece(ctx context.Context, p []byte, off, size int64) (int, error) {
	if off >= size {
		return 0, io.EOF
	}
	found, b, err := r.piece(ctx, off, min(size, off+int64(len(p))))
	if err != nil {
		return 0, err
	}
	if b == nil {
		clear(p[:len(found)])
		return len(found), nil
	}
	defer r.cache.release(b)
	return copy(p, found), nil
}

// zeros is what a hole shows.
var zeros [codec.FrameSize]byte

// piece returns logical bytes from off on, up to end or that of the extent or
// hole there, and the block in which they lie, to be released; nil for a hole.
func (r *Reader) piece(ctx context.Context, off, end int64) ([]byte, *block, error) {
	r.mu.RLock()
	e, next, ok := r.log.Extents.At(off)
	var g Generation
	if ok {
		g = r.log.generation(&e.Frame)
	}
	r.mu.RUnlock()
	if !ok {
		if next >= 0 {
			end = min(end, next)
		}
		return zeros[:min(int64(len(zeros)), end-off)], nil, nil
	}
	b, err := r.block(ctx, &e, g)
	if err != nil {
		return nil, nil, err
	}
	return b.buf.B[off-e.Frame.Offset : min(end, e.End())-e.Frame.Offset], b, nil
}

// block returns the decoded frame of an extent, to be released.
func (r *Reader) block(ctx context.Context, e *Extent, g Generation) (*block, error) {
	if e.Frame.Coding == CodingDelta {
		return r.deltaBlock(ctx, &e.Frame, g)
	}
	blocks, err := r.cache.acquire(ctx, r, []fullFrame{{e.Frame, g}})
	if err != nil {
		return nil, err
	}
	return blocks[0], nil
}

// Check reads a frame from the container itself, past any cache, and checks
// its record, its content and its checksum. What it needs of bases may come from
// the cache.
func (r *Reader) Check(f Frame) error {
	r.mu.RLock()
	g := r.log.generation(&f)
	r.mu.RUnlock()
	var have, want [frameRecordSize]byte
	if err := readFull(r.src, have[:], f.Position); err != nil {
		return err
	}
	putFrameRecord(want[:], &f, g)
	if !bytes.Equal(have[:], want[:]) {
		return &DamageError{Part: PartRecord, Position: f.Position, Frame: &f,
			Reason: "it differs from the index (the data can still be read)"}
	}
	buf := sized(&r.cache.decoded, int(f.Length))
	defer r.cache.decoded.Put(buf)
	if f.Coding == CodingDelta {
		return r.checkDelta(&f, g, buf.B)
	}
	return r.cache.decode(r.src, &f, g, buf.B)
}
