package container

import (
	"errors"
	"io"
)

// ErrUnsealed: the container does not end with an index.
var ErrUnsealed = errors.New("unsealed container")

// ReadSealed reads the state of a sealed container of size bytes from its index:
// four small reads and one of the index, whatever the file's length. A container
// that is not sealed is ErrUnsealed, and nothing of it is decoded, as Open does.
// Other errors match ErrNotContainer, ErrDamaged or ErrVersion, or are those of r.
func ReadSealed(r io.ReaderAt, size int64) (*Log, error) {
	first, t, sealed, err := readEnds(r, size)
	if err != nil {
		return nil, err
	}
	if !sealed {
		return nil, ErrUnsealed
	}
	l, err := readIndex(r, t, first)
	if err != nil {
		return nil, err
	}
	l.end = size
	return l, nil
}
