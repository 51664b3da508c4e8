package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// addGolden adds the committed containers as seeds.
func addGolden(f *testing.F) {
	f.Helper()
	sums, err := os.ReadFile(filepath.Join(goldenDir, "SHA256SUMS"))
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		b, err := os.ReadFile(filepath.Join(goldenDir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// mend gives every record and index of a container the checksums that belong to
// it, so that what a fuzzer changes is looked at.
func mend(b []byte) []byte {
	b = bytes.Clone(b)
	le := binary.LittleEndian
	for at := 0; at+recordAtNumber <= len(b); {
		n := skippableHeaderSize + int(le.Uint32(b[at+4:]))
		if n > len(b)-at || n < recordAtNumber+8 {
			return b
		}
		r := b[at : at+n]
		switch tag := string(r[recordAtTag:recordAtNumber]); {
		case at == 0:
			le.PutUint64(r[n-8:], xxhash.Sum64(r[:n-8]))
		case le.Uint32(r) == recordMagic && tag == tagIndex && n >= indexFixedSize+trailerSize:
			t := r[n-trailerSize:]
			le.PutUint64(t[trailerAtSum:], xxhash.Sum64(r[:n-trailerSize]))
			le.PutUint64(t[trailerAtOwnSum:], xxhash.Sum64(t[:trailerAtOwnSum]))
		case le.Uint32(r) == recordMagic:
			endRecord(r)
			if tag == tagFrame && n == frameRecordSize {
				n += int(min(le.Uint32(r[recordAtFields+12:]), uint32(len(b))))
			}
		}
		at += n
	}
	return b
}

// FuzzOpen: whatever a file holds, reading it ends, with the right kind of error.
func FuzzOpen(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, mend(b)} {
			cache := NewCache(1 << 20)
			cache.SetResolver(pinned{goldenDir, cache})
			r, err := Open(bytes.NewReader(b), int64(len(b)), cache)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrNotContainer) {
					t.Errorf("%v is no damage", err)
				}
				continue
			}
			d := r.Dependence()
			if !d.valid() {
				t.Errorf("an impossible dependence: %+v", d)
			}
			p := make([]byte, 1000)
			for _, e := range r.Log().Extents {
				if _, err := r.ReadAt(p, e.Start); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrBase) &&
					e.Start+int64(len(p)) <= r.Size() {
					t.Errorf("reading at %d: %v", e.Start, err)
				}
			}
			r.Close()
			if used := cache.Stats().Used; used != 0 {
				t.Errorf("%d bytes held after Close", used)
			}
		}
	})
}

// FuzzBasesRecord: a record that is accepted is written again as it was, and
// every range that it gives lies in its base.
func FuzzBasesRecord(f *testing.F) {
	_, list := familyDependences()
	for _, d := range list {
		f.Add(appendBasesRecord(nil, &d, 0, generation(1)), int64(100), uint16(64))
	}
	f.Fuzz(func(t *testing.T, r []byte, offset int64, length uint16) {
		if len(r) < basesFixedSize+8 {
			return
		}
		d, number, g, ok := parseBasesRecord(r)
		if !ok {
			return
		}
		again := appendBasesRecord(nil, &d, number, g)
		back, _, _, ok := parseBasesRecord(again)
		if !ok || len(again) != len(r) || !bytes.Equal(appendDependence(nil, &d), appendDependence(nil, &back)) {
			t.Errorf("%+v is read back as %+v", d, back)
		}
		if offset < 0 || offset > 1<<62 {
			return
		}
		frame := Frame{Offset: offset, Length: uint32(length), Coding: CodingDelta, Bases: uint8(len(d.Bases))}
		ranges := d.Ranges(offset, offset+int64(length))
		if d.serves(&frame) != (len(ranges) == len(d.Bases)) {
			t.Errorf("ranges %v of %+v", ranges, d)
		}
		for i, x := range ranges {
			if x.Offset < 0 || x.Length <= 0 || x.Offset > d.Bases[i].Size-x.Length || x.Length%int64(x.DType.Size()) != 0 {
				t.Errorf("range %+v in a base of %d bytes", x, d.Bases[i].Size)
			}
		}
	})
}

// FuzzIndex: an index that is accepted is written again as it was.
func FuzzIndex(f *testing.F) {
	addGolden(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = mend(b)
		_, tr, sealed, err := readEnds(bytes.NewReader(b), int64(len(b)))
		if err != nil || !sealed {
			return
		}
		x := b[tr.index:tr.end]
		l, err := parseIndex(x, tr)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v is no damage", err)
			}
			return
		}
		again := appendIndex(nil, l, tr.index)
		back, ok, err := parseTrailer(again[len(again)-trailerSize:])
		if !ok || err != nil || len(again)-trailerSize != len(x) {
			t.Fatalf("an index of %d bytes, written again as %d: %v", len(x), len(again)-trailerSize, err)
		}
		if _, err := parseIndex(again[:len(again)-trailerSize], back); err != nil {
			t.Error(err)
		}
	})
}
