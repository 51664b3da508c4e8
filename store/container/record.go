package container

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
)

// A record is a skippable frame: magic, payload length, a tag of four letters,
// fixed fields, and the XXH64 of all bytes before it.
const (
	tagFrame      = "FRAM"
	tagSize       = "SIZE"
	tagGeneration = "GENR"
	tagBases      = "BASE"
	tagIndex      = "INDX"

	frameRecordSize      = 72
	sizeRecordSize       = 48
	generationRecordSize = 56

	skippableHeaderSize = 8 // magic and payload length
	recordAtTag         = 8
	recordAtNumber      = 12
	recordAtGeneration  = 16
	recordAtFields      = 32
)

// MaxFrameLength is the largest number of logical bytes that a frame may
// cover. A record that says more is damaged.
const MaxFrameLength = 64 << 20

// Coding says what a zstd frame holds.
type Coding uint8

// The codings.
const (
	CodingFull  Coding = 0 // the planned bytes; no base is needed
	CodingDelta Coding = 1 // a frame of package delta: differences from bases
)

// Frame is one frame of the log: which logical bytes it holds and where.
type Frame struct {
	Offset     int64      // first logical byte
	Position   int64      // byte offset of its record in the container
	Length     uint32     // logical bytes
	Stored     uint32     // bytes of its zstd frame, which follows the record
	Number     uint32     // records of its generation before it
	Generation uint16     // ordinal in Log.Generations
	Plan       codec.Plan // 0 for a delta frame
	Coding     Coding
	Bases      uint8  // how many of Dependence.Bases it needs, the first ones
	Sum        uint64 // contentSum of the logical bytes
}

// End is the logical offset just past the frame.
func (f *Frame) End() int64 { return f.Offset + int64(f.Length) }

// DataPosition is the byte offset of the zstd frame in the container.
func (f *Frame) DataPosition() int64 { return f.Position + frameRecordSize }

// DataEnd is the byte offset just past the zstd frame.
func (f *Frame) DataEnd() int64 { return f.DataPosition() + int64(f.Stored) }

// contentSum is the XXH64 of a frame's logical bytes followed by what binds
// them to their place: generation, number, offset and length.
func contentSum(data []byte, g Generation, number uint32, offset int64) uint64 {
	var d xxhash.Digest
	d.Reset()
	return continueSum(&d, data, g, number, offset)
}

func continueSum(d *xxhash.Digest, data []byte, g Generation, number uint32, offset int64) uint64 {
	_, _ = d.Write(data) // never fails
	var bind [32]byte
	copy(bind[:], g[:])
	binary.LittleEndian.PutUint32(bind[16:], number)
	binary.LittleEndian.PutUint64(bind[20:], uint64(offset))
	binary.LittleEndian.PutUint32(bind[28:], uint32(len(data)))
	_, _ = d.Write(bind[:])
	return d.Sum64()
}

func beginRecord(r []byte, tag string, number uint32, g Generation) {
	binary.LittleEndian.PutUint32(r, recordMagic)
	binary.LittleEndian.PutUint32(r[4:], uint32(len(r)-skippableHeaderSize))
	copy(r[recordAtTag:], tag)
	binary.LittleEndian.PutUint32(r[recordAtNumber:], number)
	copy(r[recordAtGeneration:], g[:])
}

func endRecord(r []byte) {
	n := len(r) - 8
	binary.LittleEndian.PutUint64(r[n:], xxhash.Sum64(r[:n]))
}

func recordSumOK(r []byte) bool {
	n := len(r) - 8
	return binary.LittleEndian.Uint64(r[n:]) == xxhash.Sum64(r[:n])
}

// putFrameRecord fills r, of frameRecordSize bytes.
func putFrameRecord(r []byte, f *Frame, g Generation) {
	clear(r)
	beginRecord(r, tagFrame, f.Number, g)
	b := r[recordAtFields:]
	binary.LittleEndian.PutUint64(b, uint64(f.Offset))
	binary.LittleEndian.PutUint32(b[8:], f.Length)
	binary.LittleEndian.PutUint32(b[12:], f.Stored)
	b[16] = byte(f.Plan)
	b[17] = byte(f.Coding)
	b[18] = f.Bases
	binary.LittleEndian.PutUint64(b[24:], f.Sum)
	endRecord(r)
}

// parseFrameRecord reads a record whose checksum holds. The caller sets
// Position and resolves the generation.
func parseFrameRecord(r []byte) (f Frame, g Generation, ok bool) {
	copy(g[:], r[recordAtGeneration:])
	b := r[recordAtFields:]
	offset := binary.LittleEndian.Uint64(b)
	f = Frame{
		Number: binary.LittleEndian.Uint32(r[recordAtNumber:]),
		Length: binary.LittleEndian.Uint32(b[8:]),
		Stored: binary.LittleEndian.Uint32(b[12:]),
		Plan:   codec.Plan(b[16]),
		Coding: Coding(b[17]),
		Bases:  b[18],
		Sum:    binary.LittleEndian.Uint64(b[24:]),
	}
	if offset > math.MaxInt64-MaxFrameLength {
		return f, g, false
	}
	f.Offset = int64(offset)
	return f, g, f.plausible()
}

// plausible holds for every frame that a writer of this version makes.
func (f *Frame) plausible() bool {
	if f.Length == 0 || f.Length > MaxFrameLength || f.Stored == 0 ||
		int64(f.Stored) > int64(codec.MaxFrameSize(int(f.Length))) {
		return false
	}
	switch f.Coding {
	case CodingFull:
		return f.Plan.Valid() && f.Bases == 0
	case CodingDelta:
		return f.Plan == 0 && f.Bases >= 1 && f.Bases <= MaxBases && f.Length <= delta.MaxContent
	}
	return false
}

// putSizeRecord fills r, of sizeRecordSize bytes: the logical size is now size.
func putSizeRecord(r []byte, number uint32, g Generation, size int64) {
	clear(r)
	beginRecord(r, tagSize, number, g)
	binary.LittleEndian.PutUint64(r[recordAtFields:], uint64(size))
	endRecord(r)
}

func parseSizeRecord(r []byte) (size int64, number uint32, g Generation, ok bool) {
	n := binary.LittleEndian.Uint64(r[recordAtFields:])
	copy(g[:], r[recordAtGeneration:])
	return int64(n), binary.LittleEndian.Uint32(r[recordAtNumber:]), g, n <= math.MaxInt64
}

// putGenerationRecord fills r, of generationRecordSize bytes: the records that
// follow belong to g, which continues previous.
func putGenerationRecord(r []byte, g, previous Generation) {
	clear(r)
	beginRecord(r, tagGeneration, 0, g)
	copy(r[recordAtFields:], previous[:])
	endRecord(r)
}

func parseGenerationRecord(r []byte) (g, previous Generation) {
	copy(g[:], r[recordAtGeneration:])
	copy(previous[:], r[recordAtFields:])
	return g, previous
}
