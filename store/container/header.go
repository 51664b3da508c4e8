package container

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
)

// Version is the format version that this package reads and writes. Version 0
// was a draft, which had no delta frames.
const Version = 1

// HeaderSize is the length of the header, the skippable frame at offset 0.
const HeaderSize = 256

// Zstd's magic numbers for the two kinds of skippable frame in a container:
// records of ours, and the seek table of the zstd seekable format.
const (
	recordMagic = 0x184D2A5D
	seekMagic   = 0x184D2A5E
)

const headerMagic = "mithrilF"

// headerText tells a person who opens the file what it is.
const headerText = "\nThis is a mithrilfs container: one file, compressed without loss.\n" +
	"To get its bytes: mithrilfs cat FILE, or mount its directory.\n" +
	"Spec and a decoder in Python: docs/format.md of mithrilfs.\n"

// Byte offsets in the header.
const (
	headerAtMagic      = 8
	headerAtVersion    = 16
	headerAtGeneration = 24
	headerAtText       = 40
	headerAtSum        = HeaderSize - 8
)

// headWitness is how many of a file's first bytes say that it is a container,
// and headTolerance how many of those 16 may be damaged before it counts as
// something else: a container with a damaged head must never be taken for a
// plain file, whose bytes would be handed out as they are.
const (
	headWitness   = 16
	headTolerance = 4
)

// Generation names one state of a container's content. It is drawn when
// writing begins and bound into every frame's checksum.
type Generation [16]byte

// NewGeneration draws a random generation.
func NewGeneration() Generation { return Generation(uuid.New()) }

// String is the usual hyphenated form of a UUID.
func (g Generation) String() string { return uuid.UUID(g).String() }

// Recognize says whether a file that begins with head is a container, perhaps
// a damaged one. Such a file is never stored plain, so the answer is the same
// for every reader. A head of fewer than 16 bytes is no container.
func Recognize(head []byte) bool {
	if len(head) < headWitness {
		return false
	}
	want := appendHeader(nil, Generation{})
	same := 0
	for i := range headWitness {
		if head[i] == want[i] {
			same++
		}
	}
	return same >= headWitness-headTolerance
}

func appendHeader(dst []byte, g Generation) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	h := dst[at:]
	binary.LittleEndian.PutUint32(h, recordMagic)
	binary.LittleEndian.PutUint32(h[4:], HeaderSize-8)
	copy(h[headerAtMagic:], headerMagic)
	binary.LittleEndian.PutUint16(h[headerAtVersion:], Version)
	copy(h[headerAtGeneration:], g[:])
	text := h[headerAtText:headerAtSum]
	copy(text, bytes.Repeat([]byte{'\n'}, len(text)))
	copy(text, headerText)
	binary.LittleEndian.PutUint64(h[headerAtSum:], xxhash.Sum64(h[:headerAtSum]))
	return dst
}

// parseHeader checks the header and returns the first generation.
func parseHeader(h []byte) (Generation, error) {
	var g Generation
	if len(h) < HeaderSize {
		return g, damaged(PartHeader, 0, "the file ends inside it")
	}
	h = h[:HeaderSize]
	sumOK := binary.LittleEndian.Uint64(h[headerAtSum:]) == xxhash.Sum64(h[:headerAtSum])
	magicOK := binary.LittleEndian.Uint32(h) == recordMagic && string(h[headerAtMagic:headerAtVersion]) == headerMagic
	if !magicOK || !sumOK {
		return g, damaged(PartHeader, 0, "its checksum does not match")
	}
	if v := binary.LittleEndian.Uint16(h[headerAtVersion:]); v != Version {
		return g, &VersionError{Version: v}
	}
	copy(g[:], h[headerAtGeneration:])
	return g, nil
}
