package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A torch zip, as PyTorchStreamWriter writes it:
//
//	local header   30 bytes, name ROOT/RECORD, extra field
//	data           as it is, uncompressed
//	descriptor     16 or, beyond 4 GiB, 24 bytes; none where the header has the size
//	…
//	central directory, its end (zip64 and locator, too)
//
// The headers have no sizes, so each record's end must be known otherwise: a
// pickle ends itself, it tells the sizes of the storages data/0, data/1, …, and
// all others are so small that the descriptor can be searched. data.pkl comes
// before all storages.
const (
	zipMaxName  = 4 << 10 // bytes of a record's name
	zipMaxOther = 1 << 20 // bytes of a record that is neither pickle nor storage
)

// zipArchive is where in an archive its reading is.
type zipArchive struct {
	root      string // of all names, with the slash
	begin     int64  // of the record's data
	size      int64  // of the record's data, -1 where only its end tells
	described bool   // a descriptor follows the record
	byteOrder bool   // the record is "byteorder"
	bigEndian bool
	central   bool // the directory has begun
}

// zipRecord is at a local header, or in the central directory.
func (t *torchFile) zipRecord() error {
	b, err := t.peekHeader(zipLocalSize)
	if err != nil {
		return err
	}
	switch string(b[:4]) {
	case zipLocal:
		if t.zip.central {
			return errors.New("a record in the central directory")
		}
		return t.zipHeader(b)
	case zipCentral, zipEnd64, zipLocator64, zipEnd:
		t.zip.central, t.run.open = true, false
		return t.zipDirectory()
	}
	return errors.New("no record begins here")
}

// zipDirectory passes over an entry of the central directory, or its end.
func (t *torchFile) zipDirectory() error {
	b, err := t.peek(zipEndSize)
	if err != nil {
		return err
	}
	size := int64(0)
	switch string(b[:4]) {
	case zipCentral:
		if b, err = t.peek(zipCentralSize); err != nil {
			return err
		}
		size = zipCentralSize + int64(binary.LittleEndian.Uint16(b[28:])) +
			int64(binary.LittleEndian.Uint16(b[30:])) + int64(binary.LittleEndian.Uint16(b[32:]))
	case zipEnd64:
		if binary.LittleEndian.Uint64(b[4:]) != zipEnd64Size-12 {
			return errors.New("the end of the directory has an odd length")
		}
		size = zipEnd64Size
	case zipLocator64:
		size = zipLocatorSize
	case zipEnd:
		size = zipEndSize + int64(binary.LittleEndian.Uint16(b[20:]))
		t.finish()
		t.next = (*torchFile).start
	default:
		return errors.New("the directory does not go on here")
	}
	t.pos += size
	return nil
}

// zipHeader takes a local header of which b is the fixed part.
func (t *torchFile) zipHeader(b []byte) error {
	flags, method := binary.LittleEndian.Uint16(b[6:]), binary.LittleEndian.Uint16(b[8:])
	stored, size := binary.LittleEndian.Uint32(b[18:]), binary.LittleEndian.Uint32(b[22:])
	name, extra := int(binary.LittleEndian.Uint16(b[26:])), int(binary.LittleEndian.Uint16(b[28:]))
	const encrypted, described = 1, 8
	if method != 0 || flags&encrypted != 0 || name > zipMaxName {
		return errors.New("a record that torch would not write")
	}
	b, err := t.peek(zipLocalSize + name + extra)
	if err != nil {
		return err
	}
	record, err := t.zip.record(string(b[zipLocalSize:][:name]))
	if err != nil {
		return err
	}
	z := &t.zip
	z.described, z.size = flags&described != 0, -1
	if !z.described {
		if stored != size || size == math.MaxUint32 {
			return fmt.Errorf("record %q has a size that torch would not write", record)
		}
		z.size = int64(size)
	}
	begin := t.pos + int64(zipLocalSize+name+extra)
	if err := t.zipBegin(record, begin); err != nil {
		return err
	}
	z.begin = begin
	return nil
}

// record takes the root off a name. The first name decides what the root is.
func (z *zipArchive) record(name string) (string, error) {
	if z.root == "" {
		root, record, ok := strings.Cut(name, "/")
		switch record {
		case "data.pkl", "version", ".format_version", ".storage_alignment", "byteorder":
		default:
			ok = false
		}
		if !ok {
			return "", errors.New("the archive is not of torch")
		}
		z.root = root + "/"
		return record, nil
	}
	record, ok := strings.CutPrefix(name, z.root)
	if !ok {
		return "", fmt.Errorf("the name of a record does not begin with %q", z.root)
	}
	return record, nil
}

// zipBegin goes to a record's data, or past it.
func (t *torchFile) zipBegin(record string, begin int64) error {
	z := &t.zip
	if key, ok := strings.CutPrefix(record, "data/"); ok {
		return t.zipStorage(key, begin)
	}
	z.byteOrder, t.run.open = record == "byteorder", false
	t.pos = begin
	switch {
	case record == "data.pkl":
		if t.pickle != nil {
			return errors.New("a second data.pkl")
		}
		t.pickle = &pickle{state: t.state}
		t.next = (*torchFile).zipPickle
	default:
		t.next = (*torchFile).zipOther
	}
	return nil
}

func (t *torchFile) zipStorage(key string, begin int64) error {
	k, ok := canonicalDecimal([]byte(key))
	if !ok || t.pickle == nil {
		return fmt.Errorf("nothing tells the length of data/%s", key)
	}
	i, ok := t.state.find(uint64(k))
	if !ok || t.state.storages[i].begin >= 0 {
		return fmt.Errorf("the pickle has no storage %s, or there are two", key)
	}
	z := &t.zip
	size := t.state.storages[i].size
	if z.size >= 0 && z.size != size {
		return fmt.Errorf("storage %s has %d bytes, and %d bytes by the pickle", key, z.size, size)
	}
	z.size = size
	t.next = (*torchFile).zipAfter
	return t.place(i, begin, z.bigEndian)
}

// zipPickle is within data.pkl.
func (t *torchFile) zipPickle() error {
	if err := t.unpickle(t.zip.begin); err != nil {
		return err
	}
	size := t.pos - t.zip.begin
	if t.zip.size >= 0 && t.zip.size != size {
		return fmt.Errorf("data.pkl has %d bytes, of which its pickle has %d", t.zip.size, size)
	}
	t.zip.size = size
	t.pickle = &pickle{done: true} // what it held can go
	t.next = (*torchFile).zipAfter
	return nil
}

// zipOther is within the data of a small record. Without a size, pos is where its
// descriptor may be.
func (t *torchFile) zipOther() error {
	z := &t.zip
	if z.size < 0 {
		if err := t.zipSearch(); err != nil {
			return err
		}
	}
	if z.byteOrder {
		t.pos = z.begin
		b, err := t.peek(int(min(z.size, zipDescriptorRoom)))
		if err != nil {
			return err
		}
		z.bigEndian = string(b) != "little"
	}
	if z.size > math.MaxInt64-z.begin {
		return errors.New("a record would be too long")
	}
	t.pos, t.next = z.begin+z.size, (*torchFile).zipAfter
	return nil
}

// zipSearch finds the end of a record by its descriptor.
func (t *torchFile) zipSearch() error {
	z := &t.zip
	for t.pos-z.begin <= zipMaxOther {
		b, err := t.some(torchWindow)
		if err != nil {
			return err
		}
		for ; len(b) >= zipDescriptorRoom; b = b[1:] {
			i := bytes.Index(b[:len(b)-zipDescriptorRoom+len(zipDescriptor)], []byte(zipDescriptor))
			if i < 0 {
				t.pos += int64(len(b) - zipDescriptorRoom + 1)
				break
			}
			t.pos += int64(i)
			b = b[i:]
			if zipDescribes(b, t.pos-z.begin) > 0 {
				z.size = t.pos - z.begin
				return nil
			}
			t.pos++
		}
		if t.arrived()-t.pos < zipDescriptorRoom {
			return t.wantMore(z.begin, t.pos+zipDescriptorRoom)
		}
	}
	return errors.New("a record without a descriptor")
}

// zipDescriptorRoom is how many bytes zipDescribes looks at: what follows a
// descriptor is at least as long as the difference.
const zipDescriptorRoom = 28

// zipDescribes returns the length of the descriptor of a record of size bytes
// that b begins with, or 0. Something else of the zip must follow.
func zipDescribes(b []byte, size int64) int {
	if string(b[:4]) != zipDescriptor {
		return 0
	}
	low, low2 := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if size <= math.MaxUint32 && low == uint32(size) && low2 == uint32(size) && string(b[16:18]) == "PK" {
		return 16
	}
	wide, wide2 := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	if wide == uint64(size) && wide2 == uint64(size) && string(b[24:26]) == "PK" {
		return 24
	}
	return 0
}

// zipAfter is just past a record's data.
func (t *torchFile) zipAfter() error {
	if t.zip.described {
		b, err := t.peekHeader(zipDescriptorRoom)
		if err != nil {
			return err
		}
		n := zipDescribes(b, t.zip.size)
		if n == 0 {
			return fmt.Errorf("no descriptor after a record of %d bytes", t.zip.size)
		}
		t.pos += int64(n)
	}
	t.next = (*torchFile).zipRecord
	return nil
}
