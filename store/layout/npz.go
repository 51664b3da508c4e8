package layout

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// FormatNPZ is the name of numpy's format for several arrays: a zip archive.
const FormatNPZ = "npz"

var (
	errNotNPZ       = errors.New("no part of a zip archive begins here")
	errNoMemberSize = errors.New("a member's size is not known")
)

// detectNPZ takes archives whose first member is a stored array. Archives of
// compressed arrays gain nothing.
func detectNPZ(head []byte, src Source) Layout {
	m, need, err := parseMember(head)
	if err != nil || need > len(head) || !m.isArray() {
		return nil
	}
	if _, _, err := npyHeader(head[need:]); err != nil {
		return nil
	}
	return newPieces(FormatNPZ, src, npzPiece)
}

// npzPiece reads what comes next in the archive.
func npzPiece(b []byte) (piece, int, error) {
	if len(b) < zipSignature {
		return piece{}, zipSignature, nil
	}
	switch string(b[:zipSignature]) {
	case zipLocal:
		return npzMember(b)
	case zipDescriptor:
		return npzDescriptor(b)
	case zipCentral, zipEnd, zipEnd64:
		return piece{length: math.MaxInt64}, 0, nil
	}
	return piece{}, 0, errNotNPZ
}

// npzMember reads a member's header and, of an array, the array's. Where the
// size of a member is not in front of it, as while it is being written, the
// array tells its own.
func npzMember(b []byte) (piece, int, error) {
	m, need, err := parseMember(b)
	if err != nil || need > len(b) {
		return piece{}, need, err
	}
	if !m.isArray() {
		if m.size < 0 {
			return piece{}, 0, errNoMemberSize
		}
		return piece{length: int64(need) + m.size}, 0, nil
	}
	t, more, err := npyHeader(b[need:])
	if err != nil && m.size >= 0 {
		return piece{length: int64(need) + m.size}, 0, nil
	}
	if err != nil || need+more > len(b) {
		return piece{}, need + more, err
	}
	t.Name = strings.TrimSuffix(m.name, ".npy")
	t.Begin += int64(need)
	t.End += int64(need)
	if m.size < 0 {
		m.size = t.End - int64(need)
	}
	return piece{length: int64(need) + m.size, tensor: t}, 0, nil
}

// npzDescriptor tells by what follows whether the sizes have 4 bytes or 8.
func npzDescriptor(b []byte) (piece, int, error) {
	const short, long = 16, 24
	if len(b) < long+zipSignature {
		return piece{}, long + zipSignature, nil
	}
	for _, n := range []int{short, long} {
		switch string(b[n : n+zipSignature]) {
		case zipLocal, zipCentral:
			return piece{length: int64(n)}, 0, nil
		}
	}
	return piece{}, 0, errNotNPZ
}

// member is what a local header tells.
type member struct {
	name   string
	stored bool
	size   int64 // as stored; -1 while it is not known
}

func (m *member) isArray() bool { return m.stored && strings.HasSuffix(m.name, ".npy") }

// parseMember reads the local header that b begins with. It returns how many
// bytes that has; if b has fewer, nothing else.
func parseMember(b []byte) (m member, need int, err error) {
	if len(b) < zipLocalSize {
		return m, zipLocalSize, nil
	}
	if string(b[:zipSignature]) != zipLocal {
		return m, 0, errNotNPZ
	}
	le := binary.LittleEndian
	flags, method := le.Uint16(b[6:]), le.Uint16(b[8:])
	packed, name, extra := le.Uint32(b[18:]), int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	need = zipLocalSize + name + extra
	if need > len(b) {
		return m, need, nil
	}
	m = member{name: string(b[zipLocalSize:][:name]), stored: method == 0, size: int64(packed)}
	if packed == math.MaxUint32 {
		m.size = npz64Size(b[zipLocalSize+name : need])
	}
	const sizesFollow, encrypted = 1 << 3, 1
	if flags&sizesFollow != 0 || m.size == 0 && m.isArray() {
		m.size = -1 // what is being written has 0, and no array has no header
	}
	if flags&encrypted != 0 {
		m.stored = false
	}
	return m, need, nil
}

// npz64Size finds the stored size among a local header's extra fields, where
// it follows the size of the file.
func npz64Size(extra []byte) int64 {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		extra = extra[4:]
		if n > len(extra) {
			break
		}
		if size := uint64(0); id == 1 && n >= 16 {
			if size = le.Uint64(extra[8:]); size <= math.MaxInt64-2*maxHeader {
				return int64(size)
			}
		}
		extra = extra[n:]
	}
	return -1
}
