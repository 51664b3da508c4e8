package container

import (
	"errors"
	"fmt"
	"io"
)

// State says how a container's log was found.
type State struct {
	// Sealed: the log came from an index at the container's end.
	Sealed bool
	// Once: it was sealed, and its index, trailer or seek table has been damaged
	// since. Never set together with Sealed.
	Once bool
	// Tail is why the log was replayed and where it ended, for people; nil for
	// a sealed container, and for an unsealed one whose last byte ends a record.
	Tail error
}

// Summary is what a look at head and tail tells, without reading the index.
type Summary struct {
	Container bool  // the file is one, perhaps damaged
	Sealed    bool  // Size is known
	Size      int64 // logical size
}

// Summarize looks at the head and the tail of a file of size bytes: three
// small reads. The error is ErrDamaged or ErrVersion for a container that can't
// be read, or an error of r.
func Summarize(r io.ReaderAt, size int64) (Summary, error) {
	_, t, sealed, err := readEnds(r, size)
	switch {
	case errors.Is(err, ErrNotContainer):
		return Summary{}, nil
	case err != nil:
		return Summary{Container: true}, err
	}
	return Summary{Container: true, Sealed: sealed, Size: t.size}, nil
}

// readEnds reads header and trailer. The error is ErrNotContainer when neither
// is there.
func readEnds(r io.ReaderAt, size int64) (first Generation, t trailer, sealed bool, err error) {
	head := make([]byte, min(size, HeaderSize))
	if err := readFull(r, head, 0); err != nil {
		return first, t, false, err
	}
	t, sealed, err = readTrailer(r, size)
	if err != nil {
		return first, t, false, err
	}
	if !sealed && !Recognize(head) {
		return first, t, false, ErrNotContainer
	}
	first, err = parseHeader(head)
	return first, t, sealed, err
}

// readTrailer finds the trailer of a sealed container through the seek table
// that ends the file.
func readTrailer(r io.ReaderAt, size int64) (t trailer, ok bool, err error) {
	const least = HeaderSize + indexFixedSize + trailerSize
	if size < least+seekTableSize(0) {
		return t, false, nil
	}
	var footer [seekFooterSize]byte
	if err := readFull(r, footer[:], size-seekFooterSize); err != nil {
		return t, false, err
	}
	n, ok := parseSeekFooter(footer[:])
	if !ok || seekTableSize(n) > size-least {
		return t, false, nil
	}
	table := size - seekTableSize(n)
	var b [trailerSize]byte
	if err := readFull(r, b[:], table-trailerSize); err != nil {
		return t, false, err
	}
	t, ok, err = parseTrailer(b[:])
	if !ok || err != nil {
		return t, false, err
	}
	if t.index < HeaderSize || t.index > table-trailerSize-indexFixedSize {
		return t, false, nil
	}
	t.end = table - trailerSize
	return t, true, nil
}

// readLog reads the state of a container of size bytes: from its index, or by
// replaying its records. Frames that no index vouches for are passed to check.
// The error matches ErrNotContainer, ErrDamaged or ErrVersion, or is one of r.
func readLog(r io.ReaderAt, size int64, check func(*Log, *Frame) error) (*Log, State, error) {
	first, t, sealed, err := readEnds(r, size)
	if err != nil {
		return nil, State{}, err
	}
	once, err := endsWithFooter(r, size)
	if err != nil {
		return nil, State{}, err
	}
	var indexErr error
	if sealed {
		l, err := readIndex(r, t, first)
		if err == nil {
			l.end = size
			return l, State{Sealed: true}, nil
		}
		if !errors.Is(err, ErrDamaged) {
			return nil, State{}, err
		}
		indexErr = err
	}
	l, tail, err := replay(r, size, first, check)
	if err != nil {
		return nil, State{}, err
	}
	if indexErr != nil && l.end == t.index {
		tail = indexErr // the log is whole; all that is wrong is its index
	}
	return l, State{Once: once, Tail: tail}, nil
}

func endsWithFooter(r io.ReaderAt, size int64) (bool, error) {
	var footer [seekFooterSize]byte
	if size < HeaderSize+seekFooterSize {
		return false, nil
	}
	if err := readFull(r, footer[:], size-seekFooterSize); err != nil {
		return false, err
	}
	_, ok := parseSeekFooter(footer[:])
	return ok, nil
}

func readIndex(r io.ReaderAt, t trailer, first Generation) (*Log, error) {
	x := make([]byte, t.end-t.index)
	if err := readFull(r, x, t.index); err != nil {
		return nil, err
	}
	l, err := parseIndex(x, t)
	if err != nil {
		return nil, err
	}
	if l.Generations[0] != first {
		return nil, damaged(PartIndex, t.index, "its first generation is not the header's")
	}
	return l, nil
}

// readFull reads all of p; a file that ends sooner is an error, since every
// offset was checked against its size.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
}
