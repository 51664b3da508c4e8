package codec

import (
	"bytes"
	"flag"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// A kernel is chosen by the features of the processor. These tests compare those
// that this one has with their twins in Go, which the others have.

// exhaustive makes the tests of lengths leave none out. That takes minutes.
var exhaustive = flag.Bool("exhaustive", false, "test kernels at every length up to 48 KiB, and around three blocks of a frame")

// kernelLengths calls f with every length from 0 to five times what any kernel
// handles at once, with a sample of those up to three times what any function
// that calls one does, and with some around the blocks of a frame.
func kernelLengths(f func(n int)) {
	const dense = 5 * 64
	most, step, around := 3*4096+70, 7, 1
	switch {
	case *exhaustive:
		most, step, around = 3*sampleFrom+70, 1, 70
	case testing.Short() || raceEnabled:
		step = 61
	}
	for n := 0; n <= most; n++ {
		if n <= dense || n%step == 0 {
			f(n)
		}
	}
	for n := maxBlock; n <= 3*maxBlock; n += maxBlock {
		for k := n - around; k <= n+around; k++ {
			f(k)
		}
	}
}

// longest is at least as long as any length of kernelLengths.
const longest = 3*maxBlock + 70

func splitGo(planes *[maxWidth][]byte, src []byte, width, rot int) {
	switch p := planes; width {
	case 2:
		split2Go(p[0], p[1], src, rot)
	case 4:
		split4Go(p[0], p[1], p[2], p[3], src, rot)
	case 8:
		split8Go(p, src, rot)
	}
}

func mergeGo(dst []byte, planes *[maxWidth][]byte, width, rot int) {
	switch p := planes; width {
	case 2:
		merge2Go(dst, p[0], p[1], rot)
	case 4:
		merge4Go(dst, p[0], p[1], p[2], p[3], rot)
	case 8:
		merge8Go(dst, p, rot)
	}
}

// checkSplit splits and merges src, by split and merge and by the functions in Go,
// with every buffer at a place.
func checkSplit(t *testing.T, src []byte, width, rot, place int) {
	t.Helper()
	n := len(src) / width
	src = src[:n*width]
	var want [maxWidth][]byte
	for k := range width {
		want[k] = make([]byte, n)
	}
	splitGo(&want, src, width, rot)
	checkSplitTo(t, &want, src, width, rot, place)
	back := make([]byte, len(src))
	mergeGo(back, &want, width, rot)
	if !bytes.Equal(back, src) {
		t.Fatalf("mergeGo of %d elements of %d bytes, rotated %d: other bytes", n, width, rot)
	}
}

// checkSplitTo is checkSplit when the planes begin with want.
func checkSplitTo(t *testing.T, want *[maxWidth][]byte, src []byte, width, rot, place int) {
	t.Helper()
	n := len(src) / width
	input := fencedCopy(0, src, place)
	var got [maxWidth][]byte
	var intact [maxWidth]func() bool
	for k := range width {
		at := place
		if place > 0 {
			at = (place*7 + k) % 64
		}
		got[k], intact[k] = fenced(2+k, n, at)
	}
	split(&got, input, width, rot)
	for k := range width {
		if !bytes.Equal(got[k], want[k][:n]) || !intact[k]() {
			t.Fatalf("split of %d elements of %d bytes, rotated %d, at %d: plane %d differs", n, width, rot, place, k)
		}
	}
	back, wide := fenced(1, len(src), place)
	merge(back, &got, width, rot)
	if !bytes.Equal(back, src) || !wide() {
		t.Fatalf("merge of %d elements of %d bytes, rotated %d, at %d: other bytes", n, width, rot, place)
	}
}

func TestSplitKernels(t *testing.T) {
	src := randomBytes(8*longest, 1)
	for _, width := range []int{2, 4, 8} {
		for rot := range 8 * width {
			checkSplit(t, src[:1000*width], width, rot, placeOf(rot))
		}
		places(func(place int) {
			for n := range 5 * 64 {
				checkSplit(t, src[:n*width], width, 3, place)
			}
		})
		var want [maxWidth][]byte
		for k := range width {
			want[k] = make([]byte, longest)
		}
		splitGo(&want, src[:longest*width], width, 1)
		kernelLengths(func(n int) { checkSplitTo(t, &want, src[:n*width], width, 1, placeOf(n)) })
	}
}

// codesOf returns a huffman with a code for every byte of src, which has two
// different ones at least, of which those that differ from all others may get
// long ones.
func codesOf(src []byte) *huffman {
	h := new(huffman)
	countBytes(&h.count, src)
	h.build()
	return h
}

// A streamReference is what Go makes of a long source, from which follows the
// stream of every end of it: its bits come first in the whole's, and a 1 bit
// follows them.
type streamReference struct {
	src, stream []byte
	bits        []int // in the codes of the last n bytes
}

func referenceOf(src []byte, codes *[256]symbolCode) streamReference {
	r := streamReference{src: src, stream: make([]byte, 2*len(src)+16), bits: make([]int, len(src)+1)}
	encodeStreamGo(r.stream, src, codes, 0, 0, 0)
	for i := range src {
		r.bits[i+1] = r.bits[i] + int(codes[src[len(src)-1-i]].n)
	}
	return r
}

// end returns the last n bytes of the source.
func (r *streamReference) end(n int) []byte { return r.src[len(r.src)-n:] }

// sameStream reports whether stream is that of the last n bytes.
func (r *streamReference) sameStream(n int, stream []byte) bool {
	last, over := r.bits[n]/8, r.bits[n]%8
	return len(stream) == last+1 && bytes.Equal(stream[:last], r.stream[:last]) &&
		stream[last] == r.stream[last]&(1<<over-1)|1<<over
}

// tablesOf returns the tables that a decoder makes of h's codes, with 1 to
// mostSymbols bytes in an entry, or nil if the codes have no description.
func tablesOf(t *testing.T, h *huffman) []*decodeTable {
	t.Helper()
	description, ok := h.appendTable(nil)
	if !ok {
		return nil
	}
	var tables []*decodeTable
	for most := 1; most <= mostSymbols; most++ {
		d := new(decodeTable)
		if rest, err := d.read(description); err != nil || len(rest) != 0 {
			t.Fatalf("table: %v", err)
		}
		d.build(most)
		tables = append(tables, d)
	}
	return tables
}

// checkStream encodes the last n bytes of r, with all buffers at a place, and
// decodes them with tables.
func checkStream(t *testing.T, h *huffman, r *streamReference, tables []*decodeTable, n, place int) {
	t.Helper()
	src := fencedCopy(0, r.end(n), place)
	length := r.bits[n]/8 + 1
	got, intact := fenced(1, length+8, place)
	if m := h.encodeStream(got, src); !r.sameStream(n, got[:m]) || !intact() {
		t.Fatalf("stream of %d bytes at %d: other bytes", n, place)
	}
	got = fencedCopy(2, got[:length], place)
	back, intact := fenced(0, n, place)
	for _, d := range tables {
		clear(back)
		s, err := newStream(got, 0, length, 0, n)
		if err == nil {
			err = s.decode(back, got, d)
		}
		if err != nil || !bytes.Equal(back, r.end(n)) || !intact() {
			t.Fatalf("decoded stream of %d bytes at %d: other bytes, error %v", n, place, err)
		}
	}
}

// skewed returns bytes of k values, of which each is r times as likely as the
// next.
func skewed(n, k int, r float64) []byte {
	g := rand.New(rand.NewPCG(uint64(k), 1))
	values := g.Perm(256)[:k]
	b := make([]byte, n)
	for i := range b {
		v := 0
		for v < k-1 && g.Float64() > 1-1/r {
			v++
		}
		b[i] = byte(values[v])
	}
	b[0], b[n-1] = byte(values[0]), byte(values[k-1])
	return b
}

func TestStreamKernels(t *testing.T) {
	for _, src := range [][]byte{
		skewed(5000, 2, 1.5), skewed(5000, 12, 2), skewed(5000, 40, 1.3),
		skewed(5000, 256, 1.01), skewed(9000, 100, 1.1), weights(F8, 20000),
	} {
		h := codesOf(src)
		r, tables := referenceOf(src, &h.codes), tablesOf(t, h)
		for n := range 5*64 + 1 {
			checkStream(t, h, &r, tables, n, placeOf(n))
		}
		places(func(place int) { checkStream(t, h, &r, tables, 4900-place, place) })
	}
	for _, src := range [][]byte{skewed(longest, 20, 1.7), skewed(longest, 256, 1.01)} {
		h := codesOf(src)
		r, tables := referenceOf(src, &h.codes), tablesOf(t, h)
		places(func(place int) {
			for n := range 3 * 64 {
				checkStream(t, h, &r, tables[n%mostSymbols:][:1], n, place)
			}
		})
		kernelLengths(func(n int) { checkStream(t, h, &r, tables[n%mostSymbols:][:1], n, placeOf(n)) })
	}
	// Only the longest codes.
	src := skewed(1<<16, 14, 2)
	h := codesOf(src)
	for v, c := range h.codes {
		if int(c.n) == h.maxBits {
			r := referenceOf(bytes.Repeat([]byte{byte(v)}, 1000), &h.codes)
			checkStream(t, h, &r, tablesOf(t, h), 1000, 1)
		}
	}
}

// TestLiterals codes and decodes blocks of every length: one stream, four, and
// four whose rounds the kernel shares with Go.
func TestLiterals(t *testing.T) {
	e, z := NewEncoder(), NewDecoder()
	for _, src := range [][]byte{skewed(longest, 20, 1.7), skewed(longest, 256, 1.01), floats(F8, longest)} {
		kernelLengths(func(n int) {
			if n < minLiterals || n > maxBlock || constant(src[:n]) {
				return
			}
			place := placeOf(n)
			input := fencedCopy(0, src[:n], place)
			frame, ok := e.appendLiterals(make([]byte, 0, MaxFrameSize(n)), input, true)
			if !ok {
				return
			}
			blk, _, err := nextBlock(fencedCopy(2, frame, place), 0)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			back, intact := fenced(1, n, place)
			clear(back)
			if err := z.decodeLiterals(back, &blk); err != nil || !bytes.Equal(back, input) || !intact() {
				t.Fatalf("%d bytes at %d: other bytes, error %v", n, place, err)
			}
		})
	}
}

// TestDecodeFour compares the kernel's outputs and states, also for input that
// no encoder made.
func TestDecodeFour(t *testing.T) {
	for _, src := range [][]byte{skewed(1<<16, 12, 2), skewed(1<<16, 60, 1.2), skewed(1<<16, 256, 1.01)} {
		h := codesOf(src)
		table, ok := h.appendTable(nil)
		if !ok {
			t.Fatal("no table")
		}
		d := new(decodeTable)
		if _, err := d.read(table); err != nil {
			t.Fatal(err)
		}
		for most := 1; most <= mostSymbols; most++ {
			d.build(most)
			for rounds := 1; rounds <= 40; rounds++ {
				checkDecodeFour(t, d, rounds, rounds%8, placeOf(rounds))
				places(func(place int) { checkDecodeFour(t, d, rounds%3+1, rounds%8, place) })
			}
		}
	}
}

// checkDecodeFour makes rounds that load from the first byte of the input to the
// last, and may store in all of the output. The first stream begins shift bits
// above where it could.
func checkDecodeFour(t *testing.T, d *decodeTable, rounds, shift, place int) {
	t.Helper()
	first := 64 + (rounds-1)*lookUps*tableBits + shift
	part := rounds * lookUps * mostSymbols
	var want fourStreams
	for k := range 4 {
		want[k], want[4+k] = first+k*301, k*part
	}
	input := fencedCopy(0, randomBytes((want[3]+7)/8, uint64(first)), place)
	got := want
	out, intact := fenced(1, 4*part, place)
	clear(out)
	wantOut := bytes.Clone(out)
	decodeFourGo(wantOut, input, &d.entries, &want, rounds)
	if !decodeFourVector(out, input, d, &got, rounds) {
		return
	}
	if got != want || !bytes.Equal(out, wantOut) || !intact() {
		t.Fatalf("%d rounds at %d: %v, not %v", rounds, place, got, want)
	}
}

// fieldsOf returns src with all but the fields set to f's base.
func fieldsOf(f field, src []byte) []byte {
	src = bytes.Clone(src)
	mask := byte(1<<f.bits-1) << f.shift
	for i := range src {
		src[i] = src[i]&mask | f.base&^mask
	}
	return src
}

// checkField packs and unpacks the last n bytes of r, which f's Huffman code
// made, by kernels and in Go, with all buffers at a place.
func checkField(t *testing.T, f field, r *streamReference, n, place int) {
	t.Helper()
	src := fencedCopy(0, r.end(n), place)
	length := n*f.bits/8 + 1
	got, intact := fenced(1, length+8, place)
	if m := f.packGo(got, src, 0); !r.sameStream(n, got[:m]) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: other bytes in Go than its Huffman code makes", f, n, place)
	}
	clear(got)
	if m := f.pack(got, src); !r.sameStream(n, got[:m]) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: other bytes", f, n, place)
	}
	got = fencedCopy(2, got[:length], place)
	back, intact := fenced(0, n, place)
	clear(back)
	f.unpack(back, got)
	if !bytes.Equal(back, r.end(n)) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: unpacked other bytes", f, n, place)
	}
	clear(back)
	f.unpackGo(back, got)
	if !bytes.Equal(back, r.end(n)) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: unpacked other bytes in Go", f, n, place)
	}
}

func TestFieldKernels(t *testing.T) {
	random := randomBytes(longest, 2)
	var h huffman
	for k := 1; k <= 7; k++ {
		for shift := range 9 - k {
			f := field{base: 0x5a &^ (byte(1<<k-1) << shift), shift: shift, bits: k}
			h.buildField(f)
			short := 1000
			if shift == 0 {
				short = longest
			}
			r := referenceOf(fieldsOf(f, random[:short]), &h.codes)
			for n := range 5*64 + 1 {
				checkField(t, f, &r, n, placeOf(n))
			}
			places(func(place int) { checkField(t, f, &r, 900-place, place) })
			if shift == 0 {
				places(func(place int) {
					for n := range 3 * 64 {
						checkField(t, f, &r, n, place)
					}
				})
				kernelLengths(func(n int) { checkField(t, f, &r, n, placeOf(n)) })
			}
		}
	}
}

// TestFieldTables proves that a decoder finds the fields that an encoder codes.
func TestFieldTables(t *testing.T) {
	var h huffman
	for k := 1; k <= 7; k++ {
		for shift := range 9 - k {
			want := field{base: 0xff &^ (byte(1<<k-1) << shift), shift: shift, bits: k}
			if shift%2 == 0 {
				want.base = 0
			}
			h.buildField(want)
			table, ok := h.appendTable(nil)
			if !ok {
				t.Logf("%+v has no description", want)
				continue
			}
			d := new(decodeTable)
			if _, err := d.read(table); err != nil {
				t.Fatal(err)
			}
			if got, ok := d.field(); !ok || got != want {
				t.Errorf("%+v is read as %+v, %v", want, got, ok)
			}
		}
	}
}

// TestCountOthers has half of the values known.
func TestCountOthers(t *testing.T) {
	for seed, src := range [][]byte{randomBytes(longest, 3), skewed(longest, 12, 2)} {
		r := rand.New(rand.NewPCG(uint64(seed), 5))
		var count, all [256]uint32
		for v := range count {
			count[v] = r.Uint32N(2)
		}
		known := 0 // bytes of src in all
		kernelLengths(func(n int) {
			for ; known < n; known++ {
				all[src[known]]++
			}
			checkCounts(t, src[:n], &count, &all, placeOf(n))
		})
		places(func(place int) {
			clear(all[:])
			for n := range 5 * 64 {
				checkCounts(t, src[:n], &count, &all, place)
				all[src[n]]++
			}
		})
	}
}

// checkCounts compares what counters find in b with all, the occurrences of each
// value.
func checkCounts(t *testing.T, b []byte, count, all *[256]uint32, place int) {
	t.Helper()
	b = fencedCopy(0, b, place)
	want := *all
	got := [256]uint32{7: 9} // left over
	if countBytes(&got, b); got != want {
		t.Fatalf("%d bytes at %d: %v, not %v", len(b), place, got, want)
	}
	for v, c := range count {
		if c != 0 {
			want[v] = 0
		}
	}
	clear(got[:])
	countOthersGo(&got, b, count)
	if got != want {
		t.Fatalf("others of %d bytes at %d: %v in Go, not %v", len(b), place, got, want)
	}
	got[7] = 9
	if countOthers(&got, b, count); got != want {
		t.Fatalf("others of %d bytes at %d: %v, not %v", len(b), place, got, want)
	}
}

// TestSameBytes pins frames, so that they are the same whatever a processor can
// do. A change of what the encoder chooses changes them, but nothing else does.
func TestSameBytes(t *testing.T) {
	sum := xxhash.New()
	e := NewEncoder()
	add := func(d DType, src []byte) {
		frame, plan := e.AppendFrame([]byte{byte(d)}, src, d)
		_, _ = sum.Write(append(frame, byte(plan)))
	}
	for _, d := range allDTypes[1:] { // Bytes depend on the general encoder
		for _, n := range []int{100, 3001, 70001, 256 << 10} {
			add(d, randomBytes(n, 1))
			add(d, smallInts(d, n))
			add(d, specials(d, n))
			add(d, flat(d, n))
			add(d, floats(d, n))
			add(d, everyOther(floats(d, n), 300*d.Size()))
		}
	}
	const want = 0x86ce990958f407f5
	if got := sum.Sum64(); got != want {
		t.Errorf("the frames' XXH64 is %#x, not %#x", got, uint64(want))
	}
}

// floats returns elements whose highest byte but for a sign varies as exponents
// do. It only uses integers: floating-point arithmetic differs in last bits from
// one processor to another.
func floats(d DType, n int) []byte {
	b := randomBytes(n, 11)
	w := d.Size()
	for i := w - 1; i < n; i += w {
		b[i] = b[i]&0x80 | 0x3f - byte(bits.LeadingZeros8(b[i]&0x7f|1)-1)
	}
	return b
}

func FuzzSplitKernels(f *testing.F) {
	f.Add(randomBytes(1100, 1), byte(0), byte(1), byte(0))
	f.Add(randomBytes(1100, 1), byte(1), byte(3), byte(1))
	f.Add(randomBytes(1100, 1), byte(2), byte(4), byte(63))
	f.Fuzz(func(t *testing.T, src []byte, width, rot, place byte) {
		if len(src) > maxFuzz {
			return
		}
		w := 2 << (width % 3)
		checkSplit(t, src, w, int(rot)%(8*w), placeOf(int(place)))
	})
}

func FuzzStreamKernels(f *testing.F) {
	f.Add(skewed(700, 12, 2), byte(0), uint64(5))
	f.Add(skewed(700, 200, 1.1), byte(3), uint64(6))
	f.Fuzz(func(t *testing.T, src []byte, place byte, known uint64) {
		if len(src) < 2 || constant(src) || len(src) > maxBlock {
			return
		}
		h := codesOf(src)
		r := referenceOf(src, &h.codes)
		checkStream(t, h, &r, tablesOf(t, h), len(src), placeOf(int(place)))
		var count, all [256]uint32
		for v := range count {
			count[v] = uint32(known >> (v % 64) & 1)
		}
		for _, x := range src {
			all[x]++
		}
		checkCounts(t, src, &count, &all, placeOf(int(place)))
	})
}

func FuzzFieldKernels(f *testing.F) {
	f.Add(randomBytes(300, 1), byte(6), byte(2), byte(0x40), byte(9))
	f.Fuzz(func(t *testing.T, src []byte, width, shift, base, place byte) {
		if len(src) > maxFuzz {
			return
		}
		k := 1 + int(width)%7
		g := field{base: base, shift: int(shift) % (9 - k), bits: k}
		g.base &^= byte(1<<k-1) << g.shift
		var h huffman
		h.buildField(g)
		r := referenceOf(fieldsOf(g, src), &h.codes)
		checkField(t, g, &r, len(src), placeOf(int(place)))
	})
}
