package container

import (
	"encoding/binary"
	"errors"
	"io"
)

// ErrUnsealed is of a container that does not end with an index.
var ErrUnsealed = errors.New("unsealed container")

// ReadSealed reads the state of a sealed container of size bytes from its index:
// four small reads and one of the index, whatever the file's length. A container
// that is not sealed is ErrUnsealed; unlike Open, it decodes nothing. Other errors
// match ErrNotContainer, ErrDamaged or ErrVersion, or are those of r.
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

// ReadBases reads what a container of size bytes depends on, sealed or not, from
// the record that stands first in a dependent. The error is ErrDamaged or
// ErrVersion, or one of r.
func ReadBases(r io.ReaderAt, size int64) ([]Base, error) {
	head := make([]byte, min(size, HeaderSize))
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	if _, err := parseHeader(head); err != nil {
		return nil, err
	}
	var b [recordAtNumber]byte
	if size-HeaderSize < int64(len(b)) {
		return nil, nil
	}
	if err := readFull(r, b[:], HeaderSize); err != nil {
		return nil, err
	}
	length := skippableHeaderSize + int64(binary.LittleEndian.Uint32(b[4:]))
	if binary.LittleEndian.Uint32(b[:]) != recordMagic || string(b[recordAtTag:]) != tagBases {
		return nil, nil
	}
	if length < basesFixedSize+8 || length > size-HeaderSize {
		return nil, damaged(PartRecord, HeaderSize, "its length is impossible")
	}
	record := make([]byte, length)
	if err := readFull(r, record, HeaderSize); err != nil {
		return nil, err
	}
	if !recordSumOK(record) {
		return nil, damaged(PartRecord, HeaderSize, "its checksum does not match")
	}
	d, _, _, ok := parseBasesRecord(record)
	if !ok {
		return nil, damaged(PartRecord, HeaderSize, "its fields are impossible")
	}
	return d.Bases, nil
}
