package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// A sealed container is coded anew, against others or to stand alone, in a
// sibling that replaces it. Its logical bytes and its last generation stay, so
// what depends on it goes on finding them. Nothing of it is seen by clients.
//
// The order in which things become durable is what makes every crash harmless:
// the bases and their pins, then the new container, then its name, then the pin
// that the old one had.

var (
	// errNoGain says that the new form would take no less space.
	errNoGain = errors.New("it would not become smaller")
	// errCircle says that a base would need the file itself.
	errCircle = errors.New("a base depends on it")
)

// member is a container that is to be coded anew, or to be a base.
type member struct {
	rel        string
	key        Key // its backing inode, as it was found
	generation container.Generation
}

// recoding is a member on its way to another form.
type recoding struct {
	store   *Store
	bases   *bases // by which bases are found
	pace    func() error
	run     func(work func()) // runs the encoder
	workers int

	file    *File
	version uint64 // of file, when it began
	reader  *container.Reader
	backing *backing            // of reader
	others  []*container.Reader // the bases, the nearest first
	release []func()
	depend  container.Dependence
}

// recode stores m with delta frames against bases, the nearest first, or full
// without any, if that takes no more than limit bytes. It says how many it takes.
// depend tells which elements of m are where in the bases.
func (r *recoding) recode(m member, bases []member, depend container.Dependence, limit int64) (stored int64, err error) {
	defer r.close()
	if err := r.open(m); err != nil {
		return 0, err
	}
	for _, b := range bases {
		if err := r.openBase(b, m.generation); err != nil {
			return 0, err
		}
	}
	r.depend = depend
	log := r.reader.Log()
	return r.replace(&log, limit)
}

// open opens the member, which must be as it was found, and nobody's who writes.
func (r *recoding) open(m member) error {
	s := r.store
	f, err := s.OpenInode(context.Background(), m.rel, s.ids.of(m.key), Read)
	if err != nil {
		return err
	}
	r.file = f
	f.mu.RLock()
	defer f.mu.RUnlock()
	r.version = f.version
	if err := f.settledAs(m.generation); err != nil {
		return err
	}
	if key, err := f.backing.inode(); err != nil || key != m.key {
		return errors.Join(err, errChanged) // it has another form by now
	}
	if st, err := s.statVisible(f.backing); err != nil || st.Nlink != 1 {
		return errors.Join(err, errChanged) // several names lead to it
	}
	r.reader, r.backing, err = r.another(f)
	return err
}

// settledAs is an error unless the file is a sealed container of the generation g
// that nobody has open for writing. The caller holds mu.
func (f *File) settledAs(g container.Generation) error {
	c := f.content.reader()
	if c == nil || f.Changing() || f.replacing != nil || f.unsettled() || !c.State().Sealed {
		return errChanged
	}
	if log := c.Log(); log.Generation() != g {
		return errChanged
	}
	return nil
}

// another opens the file's container once more, for the cache of this recoding,
// and for nobody's descriptors but its own. The caller holds f.mu.
func (r *recoding) another(f *File) (*container.Reader, *backing, error) {
	fd, err := unix.Open(descriptorPath(f.backing.fd()), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(descriptorPath(f.backing.fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	b := newBacking(os.NewFile(uintptr(fd), f.name), r.store.root.sys)
	st, err := b.stat()
	if err != nil {
		return nil, nil, errors.Join(err, b.close())
	}
	c, err := container.Open(b, int64(st.Size), r.bases.cache)
	if err != nil {
		return nil, nil, errors.Join(err, b.close())
	}
	return c, b, nil
}

// openBase pins a base and opens it through its pin, unless it depends on the
// generation not.
func (r *recoding) openBase(m member, not container.Generation) error {
	s := r.store
	f, err := s.OpenInode(context.Background(), m.rel, s.ids.of(m.key), Read)
	if err != nil {
		return err
	}
	err = f.syncAside()
	if err == nil {
		err = f.pinAs(m.generation)
	}
	if e := f.Release(false); err == nil {
		err = e
	}
	if err == nil {
		err = r.acyclic(m.generation, not)
	}
	if err != nil {
		return err
	}
	b, release, err := r.bases.Resolve(context.Background(), m.generation)
	if err != nil {
		return err
	}
	r.others, r.release = append(r.others, b), append(r.release, release)
	return nil
}

// syncAside makes what is in the backing file durable without keeping anybody
// waiting: it may be much.
func (f *File) syncAside() error {
	f.mu.RLock()
	fd, err := unix.FcntlInt(uintptr(f.backing.fd()), unix.F_DUPFD_CLOEXEC, 0)
	f.mu.RUnlock()
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), f.name)
	return errors.Join(f.store.root.sys.fsync(file), file.Close())
}

// pinAs pins the file, which must be a sealed container of the generation g.
func (f *File) pinAs(g container.Generation) error {
	f.mu.RLock() // until it is pinned nobody changes it
	defer f.mu.RUnlock()
	if err := f.settledAs(g); err != nil {
		return err
	}
	if err := errors.Join(f.lost, f.store.failures.of(f.key)); err != nil {
		return fmt.Errorf("it may not be on the disk: %w", err) // a sync says that once, and then no more
	}
	return f.store.pin(g, f.backing)
}

// acyclic fails if the base g needs the generation not, as what pins lead to is
// now.
func (r *recoding) acyclic(g, not container.Generation) error {
	next, seen := []container.Generation{g}, map[container.Generation]bool{g: true}
	for len(next) > 0 {
		g := next[len(next)-1]
		next = next[:len(next)-1]
		if g == not {
			return errCircle
		}
		b, release, err := r.bases.Resolve(context.Background(), g)
		if errors.Is(err, unix.ENOENT) {
			continue // what is missing needs nothing
		}
		if err != nil {
			return err
		}
		for _, d := range b.Dependence().Bases {
			if !seen[d.Generation] {
				seen[d.Generation] = true
				next = append(next, d.Generation)
			}
		}
		release()
	}
	return nil
}

// replace writes the new form, compares, and puts it in the place of the old one.
func (r *recoding) replace(log *container.Log, limit int64) (stored int64, err error) {
	f := r.file
	var b *sibling
	err = f.unchanged(r.version, func() (err error) {
		rel, ok := f.present()
		if !ok {
			return errChanged
		}
		b, err = r.store.newSibling(rel, f.backing)
		return err
	})
	if err != nil {
		return 0, err
	}
	b.backing.mark()
	var c content
	onIdleThread(func() { stored, err = r.fill(b.backing, log, limit) })
	if err == nil {
		c, err = r.settle(b.backing, stored)
	}
	if err == nil {
		err = f.takeForm(b, c, r.version, log.Generation())
	}
	if err != nil {
		b.giveUp(c)
		return stored, err
	}
	f.settleName()
	r.store.bases.replaced(log.Generation())
	r.bases.replaced(log.Generation())
	return stored, nil
}

// fill writes the new container and compares. The thread that does it may be kept
// waiting for long, so it holds no lock that others want.
func (r *recoding) fill(b *backing, log *container.Log, limit int64) (stored int64, err error) {
	if err := r.write(b, log, limit); err != nil {
		return 0, err
	}
	st, err := b.stat()
	if err != nil {
		return 0, err
	}
	return int64(st.Size), r.compare(b, log, int64(st.Size))
}

// settle makes the new container durable and opens it for clients.
func (r *recoding) settle(b *backing, stored int64) (content, error) {
	if err := b.sync(false); err != nil {
		return nil, err
	}
	c, err := container.Open(b, stored, r.store.cache)
	if err != nil {
		return nil, err
	}
	return &sealed{c}, nil
}

// write writes the whole container.
func (r *recoding) write(b *backing, log *container.Log, limit int64) error {
	w := container.CreateDelta(&limited{b, limit}, log.Generation(), r.depend)
	w.Workers, w.Run = r.workers, r.run
	tensors := make([]layout.Tensor, len(log.Tensors))
	for i, t := range log.Tensors {
		tensors[i] = layout.Tensor(t)
	}
	l, size, frame := layout.Known(log.Format, tensors), log.Size, int64(codec.FrameSize)
	if len(r.others) > 0 {
		frame = delta.FrameSize
	}
	for off := int64(0); off < size; {
		p, err := nextPiece(l, off, size, frame)
		if err == nil {
			err = r.pace()
		}
		if err == nil && len(log.Extents.Within(p.begin, p.end)) > 0 { // else it is a hole
			p.row = rowOf(log.Tensors, p.begin)
			err = r.append(w, p)
		}
		if err != nil {
			w.Close()
			return err
		}
		off = p.end
	}
	return w.Seal(log.Format, log.Tensors, size)
}

// append reads a piece, and what the bases have there, and hands it over.
func (r *recoding) append(w *container.DeltaWriter, p piece) error {
	var held []*bytebufferpool.ByteBuffer
	done := func() {
		for _, b := range held {
			waiting.Put(b)
		}
	}
	read := func(from io.ReaderAt, off, n int64) ([]byte, error) {
		buf := ownBuffer(int(n))
		held = append(held, buf)
		return buf.B, readWhole(from, buf.B, off)
	}
	data, err := read(r.reader, p.begin, p.end-p.begin)
	var bases []delta.Elements
	for i, at := range r.depend.Ranges(p.begin, p.end) {
		if err != nil {
			break
		}
		e := delta.Elements{Type: at.DType}
		e.Data, err = read(r.others[i], at.Offset, at.Length)
		bases = append(bases, e)
	}
	if err != nil {
		done()
		return err
	}
	return w.Append(container.Piece{Offset: p.begin, DType: p.dtype, Row: p.row, Data: data, Bases: bases, Done: done})
}

func readWhole(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// compare decodes the new container, as it is in the file, and fails if it
// differs from the old one.
func (r *recoding) compare(b *backing, log *container.Log, stored int64) error {
	c, err := container.Open(b, stored, r.bases.cache)
	if err != nil {
		return err
	}
	defer c.Close()
	if l := c.Log(); l.Size != r.reader.Size() || l.Generation() != log.Generation() || !c.State().Sealed {
		return fmt.Errorf("the new form has %d bytes, the old one %d", l.Size, r.reader.Size())
	}
	return r.sameBytes(c)
}

// sameBytes fails if another container holds other bytes than the file's.
func (r *recoding) sameBytes(c *container.Reader) error {
	have, want := make([]byte, codec.FrameSize), make([]byte, codec.FrameSize)
	for off, size := int64(0), r.reader.Size(); off < size; off += codec.FrameSize {
		if err := r.pace(); err != nil {
			return err
		}
		n := min(codec.FrameSize, size-off)
		if err := errors.Join(readWhole(c, have[:n], off), readWhole(r.reader, want[:n], off)); err != nil {
			return err
		}
		if !bytes.Equal(have[:n], want[:n]) {
			return fmt.Errorf("the other form differs between bytes %d and %d", off, off+n)
		}
	}
	return nil
}

// takeForm lets the sibling, which holds the file's bytes in another form and
// the same generation, take the file's place, and the pin's if there is one.
func (f *File) takeForm(b *sibling, c content, version uint64, g container.Generation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version != version || f.store.stopped() {
		return errChanged
	}
	if err := f.settledAs(g); err != nil {
		return err
	}
	old, err := f.backing.inode()
	if err != nil {
		return err
	}
	return f.keepCtime(func() error {
		if err := f.exchangeLocked(b, c); err != nil {
			return err
		}
		f.movePinFrom(old, g)
		return nil
	})
}

// settleName makes the names of what was coded anew durable: only then may the
// bases go that its old form needed.
func (f *File) settleName() {
	err := f.syncDirAside()
	if err == nil && f.store.pins.count.Load() > 0 {
		err = f.store.syncDir(basesDir)
	}
	if err != nil {
		f.store.undurable.Store(true)
		f.store.log.Error("a name could not be made durable: no bases are let go of until the next mount", "file", f.name, "error", err)
	}
}

// syncDirAside is syncName that keeps nobody waiting.
func (f *File) syncDirAside() error {
	f.mu.RLock()
	if f.dir == nil { // somebody has made it durable
		f.mu.RUnlock()
		return nil
	}
	fd, err := unix.FcntlInt(f.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.mu.RUnlock()
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), f.name)
	err = f.store.root.sys.fsync(dir)
	if errors.Is(err, unix.EINVAL) {
		err = nil // a filesystem that has nothing to sync there
	}
	return errors.Join(err, dir.Close())
}

// movePinFrom moves the pin of the inode that the file had to the one that it
// has. One that can't be moved goes on leading to the same bytes, and the next
// census finds it.
func (f *File) movePinFrom(old Key, g container.Generation) {
	if pinned, ok := f.store.pins.of(g); !ok || pinned != old {
		return
	}
	if err := f.store.movePin(g, old, f.backing); err != nil {
		f.store.log.Warn("can't move a pin", "file", f.name, "error", err)
	}
}

// close gives up what the recoding holds.
func (r *recoding) close() {
	for _, release := range r.release {
		release()
	}
	if r.reader != nil {
		r.reader.Close()
		_ = r.backing.close() // opened for reading
	}
	if r.file != nil {
		_ = r.file.Release(false) // nothing is sealed by that
	}
}

// limited is a Storage that takes no more than limit bytes.
type limited struct {
	*backing
	limit int64
}

// WriteAt fails with errNoGain past the limit.
func (l *limited) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > l.limit {
		return 0, errNoGain
	}
	return l.backing.WriteAt(p, off)
}
