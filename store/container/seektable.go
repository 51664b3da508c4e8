package container

import (
	"encoding/binary"
	"math"
)

// The seek table of the zstd seekable format 0.1.0
// (contrib/seekable_format/zstd_seekable_compression_format.md in zstd): a
// skippable frame of 8-byte entries, closed by a 9-byte footer.
const (
	seekFooterSize  = 9
	seekFooterMagic = 0x8F92EAB1
	seekEntrySize   = 8
	maxSeekEntries  = 0x8000000
)

// seekTableSize is the length of a seek table of n entries, its skippable
// frame's header included.
func seekTableSize(n int64) int64 {
	return skippableHeaderSize + n*seekEntrySize + seekFooterSize
}

func appendSeekTable(dst []byte, spans []span) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, seekMagic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(seekTableSize(int64(len(spans)))-skippableHeaderSize))
	for _, s := range spans {
		dst = binary.LittleEndian.AppendUint32(dst, s.stored)
		dst = binary.LittleEndian.AppendUint32(dst, s.content)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(spans)))
	dst = append(dst, 0) // descriptor: no checksums
	return binary.LittleEndian.AppendUint32(dst, seekFooterMagic)
}

// parseSeekFooter returns how many entries the table before the footer has.
func parseSeekFooter(b []byte) (n int64, ok bool) {
	n = int64(binary.LittleEndian.Uint32(b))
	return n, len(b) == seekFooterSize && n <= maxSeekEntries && b[4] == 0 &&
		binary.LittleEndian.Uint32(b[5:]) == seekFooterMagic
}

// parseSeekTable reads a whole table and checks that its entries add up to
// total, the length of all that stands before it.
func parseSeekTable(b []byte, total int64) ([]span, bool) {
	if len(b) < skippableHeaderSize+seekFooterSize {
		return nil, false
	}
	n, ok := parseSeekFooter(b[len(b)-seekFooterSize:])
	if !ok || seekTableSize(n) != int64(len(b)) || binary.LittleEndian.Uint32(b) != seekMagic ||
		int64(binary.LittleEndian.Uint32(b[4:])) != int64(len(b)-skippableHeaderSize) {
		return nil, false
	}
	spans := make([]span, n)
	var sum int64
	for i := range spans {
		e := b[skippableHeaderSize+i*seekEntrySize:]
		spans[i] = span{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])}
		sum += int64(spans[i].stored)
	}
	return spans, sum == total
}

// seekable says whether spans fit a seek table.
func seekable(spans []span) bool {
	return len(spans) <= maxSeekEntries && seekTableSize(int64(len(spans))) <= math.MaxUint32
}
