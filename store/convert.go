package store

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// A plain file may be edited so that it begins, or ends, like a container. It
// could never be told apart from one again, so it is made one before the edit is
// applied: in a sibling, so that a crash leaves the one or the other.

// plainly runs a change of the content. Where a plain file refuses it, the file
// becomes a container first. The caller holds mu.
func (f *File) plainly(change func() error) error {
	err := change()
	if errors.Is(err, ErrMagic) {
		if err = f.goContainer(); err == nil {
			err = change()
		}
	}
	return err
}

// goContainer stores the file anew, as a container. The caller holds mu.
func (f *File) goContainer() error {
	for try := 0; ; try++ {
		err := f.goContainerOnce()
		if !errors.Is(err, errChanged) || try == maxTries {
			return err
		}
	}
}

// goContainerOnce fails with errChanged where a client has given the file's name
// to another meanwhile.
func (f *File) goContainerOnce() error {
	st, err := f.backing.stat()
	if err != nil {
		return err
	}
	if f.content.size() == 0 { // there is nothing to lose, nor to begin a container with
		return f.beginContainer()
	}
	rel, named := f.present()
	if st.Nlink > 1 || st.Nlink == 1 && !named {
		return f.convertInPlace()
	}
	if st.Nlink == 0 {
		rel = privateDir // beside that there is a place for what will have no name
	}
	b, err := f.store.newSibling(rel, f.backing)
	if err != nil {
		if notAllowed(err) {
			err = errors.Join(ErrMagic, err)
		}
		return err
	}
	c, err := f.checkedCopy(b.backing)
	if err == nil {
		err = f.take(b, c, st.Nlink)
	}
	if err != nil {
		b.giveUp(c)
	}
	return err
}

// beginContainer makes an empty file a container, whatever is written to it.
func (f *File) beginContainer() error {
	if err := f.backing.Truncate(0); err != nil {
		return err
	}
	f.backing.mark()
	s := newSaving(container.Create(f.backing, f.store.cache, f.store.encoders), 0)
	s.layout = layout.Bytes()
	f.content.close()
	f.content = s
	return nil
}

// checkedCopy writes the file into a container, compares, and makes it durable.
// The caller holds mu.
func (f *File) checkedCopy(to *backing) (content, error) {
	c, err := f.copyTo(to, form{container: true}, locked)
	if err == nil {
		err = f.compare(c, locked)
	}
	if err == nil {
		err = to.sync(false)
	}
	return c, err
}

// take makes the sibling with content c what the file is kept in. The caller
// holds mu.
func (f *File) take(b *sibling, c content, links uint32) error {
	switch {
	case f.replacing != nil: // itself a sibling, of which nobody else knows
		b.target = f.replacing.target
		f.replacing.discard()
		_ = f.backing.close() // copied
		f.replacing.sibling = b
	case links == 0:
		b.discard()
		f.kept = append(f.kept, f.backing)
		f.store.ids.handOver(f.key, b.key)
	default:
		return f.exchangeLocked(b, c)
	}
	f.content.close()
	f.content, f.backing = c, b.backing
	return nil
}

// present returns the name that the file has now, wherever clients moved it or
// the directories above.
func (f *File) present() (rel string, ok bool) {
	st, err := f.backing.stat()
	if err != nil {
		return "", false
	}
	for _, rel := range []string{f.store.root.nameOf(f.backing.fd()), f.at} {
		if named, err := f.store.root.stat(rel); err == nil && keyOf(&named) == keyOf(&st) {
			return rel, true
		}
	}
	return "", false
}

// beginsLikeContainer says whether a file would be taken for a container by its
// first bytes, which are those of r and then zeros up to size.
func beginsLikeContainer(r io.ReaderAt, size int64) bool {
	head := make([]byte, min(size, headWitness))
	_, err := r.ReadAt(head, 0)
	return ignoreEOF(err) == nil && container.Recognize(head)
}

// headWitness is not less than what container.Recognize looks at.
const headWitness = 64

// endsLikeContainer says whether a file that begins otherwise would be taken for
// a container with a damaged head.
func endsLikeContainer(r io.ReaderAt, size int64) bool {
	if size < container.HeaderSize {
		return false
	}
	sum, _ := container.Summarize(r, size) // an error is damage, or leaves it as it is
	return sum.Container
}

// dataFrom is where, from off on, a content may have other bytes than zeros, or
// size.
func dataFrom(c content, off, size int64) int64 {
	switch c := c.(type) {
	case *head:
		if off >= int64(len(c.buf)) {
			return size
		}
	case *plain:
		at, err := unix.Seek(c.backing.fd(), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return size
		}
		if err == nil {
			off = at
		}
	}
	return min(off, size)
}
