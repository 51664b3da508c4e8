package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// A file is stored anew, in a sibling that replaces it, when that is worth it:
// a plain file that has grown into tensors, a container whose layout was
// guessed before its bytes were there, one that has become mostly dead bytes,
// or one that is nothing but text by now. That is decided at the last close and
// done in the background. Nothing of it is seen by clients.

const (
	// wasteMin and half of what is live are what dead bytes must exceed at the
	// last close.
	wasteMin = 1 << 20
	// bloatMin and four times what is live are what dead bytes must exceed
	// while the file is being written: it goes plain then, until its last close.
	bloatMin = 64 << 20
	// pieceMin is how long the pieces must be, on average, in which a container
	// was written: what frames cost beyond their bytes is 2 % of that.
	pieceMin = 20 << 10
)

var errChanged = errors.New("the file changed meanwhile")

// form is how a file is to be stored: as a container, or plain.
type form struct {
	container bool
	why       string
}

// better says how the file should be stored, if not as it is. The caller holds
// mu.
func (f *File) better() (form, bool) {
	if f.mtime == (unix.Timespec{}) || !f.replaceable() || f.replacing != nil {
		return form{}, false
	}
	switch c := f.content.(type) {
	case *plain:
		if c.loaded >= headMax && c.lowest >= headMax {
			return form{}, false // what it begins with was plain before
		}
		if f.detect() != nil {
			return form{true, "it holds numbers, or the end of a container"}, true
		}
	case *saving:
		return f.betterContainer(c)
	}
	return form{}, false
}

func (f *File) betterContainer(c *saving) (form, bool) {
	dead, live := c.waste()
	l := f.detect()
	switch {
	case dead > wasteMin && dead > live/2:
		return form{l != nil, "it is mostly dead bytes"}, true
	case l == nil && c.layout.Format() != layout.Bytes().Format():
		return form{false, "it is no longer numbers"}, true
	case l != nil && l.Format() != c.layout.Format() && l.Format() == layout.FormatSafetensors:
		return form{true, "it has become safetensors"}, true
	case l != nil && c.misaligned > c.length/8:
		return form{true, "much of it was written out of order"}, true
	case l != nil && c.cuts > c.length/pieceMin:
		return form{true, "it was written in small pieces"}, true
	}
	return form{}, false
}

// detect looks at the first bytes of the file as it is now; nil is for plain.
func (f *File) detect() layout.Layout { return f.detectFrom(&settled{f.content, locked}) }

// detectFrom is detect for a layout that goes on reading from src.
func (f *File) detectFrom(src layout.Source) layout.Layout {
	size := f.content.size()
	if endsLikeContainer(f.content, size) {
		return layout.Bytes()
	}
	if size < containerMin {
		return nil
	}
	head := make([]byte, min(size, headMax))
	if _, err := f.content.ReadAt(head, 0); err != nil {
		return nil
	}
	if container.Recognize(head) {
		return layout.Bytes()
	}
	return layout.Detect(head, src)
}

// settled is a layout.Source of a file that is all there. Layouts read from it
// whenever they are asked for a region.
type settled struct {
	content content
	read    reading
}

func (s *settled) Size() int64 { return s.Arrived() }

// Arrived is 0 where the file must not be read any more.
func (s *settled) Arrived() (n int64) {
	_ = s.read(func() error { n = s.content.size(); return nil })
	return n
}

func (s *settled) ReadAt(p []byte, off int64) (n int, err error) {
	err = s.read(func() (err error) {
		n, err = s.content.ReadAt(p, off)
		return err
	})
	return n, err
}

// reconsider stores the file anew, in the background, if that is better.
func (f *File) reconsider() {
	f.mu.RLock()
	want, ok := f.better()
	version := f.version
	f.mu.RUnlock()
	s := f.store
	if !ok || !s.hold(f) {
		return
	}
	s.background.Go(func() {
		defer s.drop(f)
		err := f.rewrite(want, version)
		switch {
		case err == nil:
			s.counters.storedAnew.Add(1)
			s.log.Info("stored anew", "file", f.name, "container", want.container, "why", want.why)
		case !errors.Is(err, errChanged):
			s.log.Warn("can't store anew", "file", f.name, "error", err)
		}
	})
}

// hold keeps a File for the background, unless the store is closing.
func (s *Store) hold(f *File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	f.opens++
	return true
}

// rewrite copies the file to a sibling in the form that is wanted, compares
// the two, and lets the sibling take the name, unless a client has changed the
// file by then.
func (f *File) rewrite(want form, version uint64) error {
	var b *sibling
	read := func(do func() error) error { return f.unchanged(version, do) }
	err := read(func() (err error) {
		rel, ok := f.present()
		if !ok {
			return errChanged
		}
		b, err = f.store.newSibling(rel, f.backing)
		return err
	})
	if err != nil {
		return err
	}
	c, err := f.copyTo(b.backing, want, read)
	if err == nil {
		err = f.compare(c, read)
	}
	if err == nil {
		err = b.backing.sync(false)
	}
	if err == nil {
		err = f.exchange(b, c, version)
	}
	if err != nil {
		b.giveUp(c)
	}
	return err
}

// unchanged runs do under the lock for reading, unless a client has changed the
// file or wants to.
func (f *File) unchanged(version uint64, do func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.version != version || f.store.hurried() {
		return errChanged
	}
	return do()
}

// reading runs what reads the file's content, or says why it must not.
type reading func(do func() error) error

// locked is the reading of one who holds mu.
func locked(do func() error) error { return do() }

// copyTo writes the file's bytes into an empty backing file, in the form that is
// wanted.
func (f *File) copyTo(b *backing, want form, read reading) (content, error) {
	var size int64
	var l layout.Layout
	src := &settled{read: locked}
	err := read(func() error {
		size, src.content = f.content.size(), f.content
		if want.container {
			l = f.detectFrom(src)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	src.read = read // the layout is asked while others write
	var to content = newPlain(b, 0)
	if want.container {
		b.mark()
		s := newSaving(container.Create(b, f.store.cache, f.store.encoders), 0)
		if s.length, s.layout = size, l; l == nil {
			s.layout = layout.Bytes()
		}
		to = s
	}
	err = f.copyBytes(to, size, read)
	src.content, src.read = to, locked // which is in the file's place soon
	if err == nil {
		err = to.settle(true)
	}
	return to, err
}

// copyBytes copies size bytes, but not those that are known to be zeros.
func (f *File) copyBytes(to content, size int64, read reading) error {
	buf := make([]byte, 4*codec.FrameSize)
	for off := int64(0); ; {
		var p []byte
		err := read(func() error {
			off = dataFrom(f.content, off, size)
			p = buf[:min(int64(len(buf)), size-off)]
			_, err := f.content.ReadAt(p, off)
			return ignoreEOF(err)
		})
		if err == nil && len(p) > 0 {
			_, err = to.WriteAt(p, off)
		}
		if err != nil {
			return err
		}
		if off += int64(len(p)); off >= size {
			break
		}
	}
	if to.size() < size {
		return to.Truncate(size)
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// compare reads both and fails if they differ: the original is about to go.
func (f *File) compare(c content, read reading) error {
	have, want := make([]byte, codec.FrameSize), make([]byte, codec.FrameSize)
	for off, size := int64(0), c.size(); ; off += codec.FrameSize {
		var n int64
		err := read(func() error {
			if now := f.content.size(); now != size {
				return fmt.Errorf("the copy has %d bytes, the file %d", size, now)
			}
			off = dataFrom(f.content, off, size)
			n = min(codec.FrameSize, size-off)
			_, err := f.content.ReadAt(want[:n], off)
			return ignoreEOF(err)
		})
		if err != nil || n == 0 {
			return err
		}
		if _, err := c.ReadAt(have[:n], off); ignoreEOF(err) != nil {
			return err
		}
		if !bytes.Equal(have[:n], want[:n]) {
			return fmt.Errorf("the copy differs between bytes %d and %d", off, off+n)
		}
	}
}

// exchange lets the sibling with content c take the file's place.
func (f *File) exchange(b *sibling, c content, version uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version != version || f.replacing != nil {
		return errChanged
	}
	return f.keepCtime(func() error { return f.exchangeLocked(b, c) })
}

func (f *File) exchangeLocked(b *sibling, c content) error {
	f.store.names.Lock()
	defer f.store.names.Unlock()
	st, err := f.store.statVisible(f.backing)
	if err != nil {
		return err
	}
	if st.Nlink != 1 {
		return errChanged // a second name would go on leading to the old inode
	}
	if err := copyMetadata(f.backing, b.backing); err != nil {
		return err
	}
	times := [2]unix.Timespec{
		{Sec: st.Atime.Sec, Nsec: int64(st.Atime.Nsec)}, {Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
	}
	if err := futimens(b.backing.fd(), times[0], times[1]); err != nil {
		return err
	}
	dir := b.openDir()
	replaced, err := f.letTake(b, keyOf(&st))
	if err == nil && !replaced {
		err = errChanged
	}
	if err != nil {
		closeDir(dir)
		return err
	}
	f.setDir(dir)
	old := f.backing
	f.content.close()
	f.content, f.backing = c, b.backing
	if s, ok := c.(*saving); ok && f.store.durability == DurabilityRename {
		s.beforeIndex = func() error { return b.backing.sync(false) }
	}
	if err := old.close(); err != nil {
		f.store.log.Warn("closing what was replaced", "file", f.name, "error", err)
	}
	return nil
}

// bloated says whether overwriting has left so many dead bytes that the file
// had better be plain while it is being written.
func (s *saving) bloated() bool {
	if s.dead < bloatMin {
		return false // an estimate that costs nothing
	}
	s.dead = 0 // look again after as much
	dead, live := s.waste()
	return dead > bloatMin && dead > 4*live
}

// waste is how many bytes of the container are dead, and how many live.
func (s *saving) waste() (dead, live int64) {
	live, end := s.w.Usage()
	return end - live, live
}

// goPlain turns a container that is being written into a plain file. The
// caller holds mu.
func (f *File) goPlain() error {
	if !f.replaceable() || f.replacing != nil {
		return nil
	}
	if err := f.content.settle(false); err != nil {
		return err
	}
	rel, ok := f.present()
	if !ok {
		return nil
	}
	b, err := f.store.newSibling(rel, f.backing)
	if err != nil {
		f.store.log.Debug("can't go plain", "file", f.name, "error", err)
		return nil
	}
	c, err := f.copyTo(b.backing, form{}, locked)
	if err == nil {
		err = b.backing.sync(false)
	}
	if err == nil {
		err = f.exchangeLocked(b, c)
	}
	if err != nil {
		b.giveUp(c)
		if errors.Is(err, errChanged) || errors.Is(err, ErrMagic) {
			return nil // it stays as it is
		}
	}
	return err
}
