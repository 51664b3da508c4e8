package codec

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// A kernel is chosen by the features of the processor. These tests compare those
// that this one has with their twins in Go, which the others have.

// guarded returns n bytes that begin align bytes after a multiple of 64 or so,
// and a function that reports whether the bytes around them are untouched.
func guarded(n, align int) (b []byte, intact func() bool) {
	const guard = 128
	all := bytes.Repeat([]byte{0xa5}, n+2*guard+align)
	from, to := guard+align, guard+align+n
	return all[from:to:to], func() bool {
		for i, x := range all {
			if (i < from || i >= to) && x != 0xa5 {
				return false
			}
		}
		return true
	}
}

// aligned returns a copy of b that begins align bytes after where another would.
func aligned(b []byte, align int) []byte {
	return append(make([]byte, align, align+len(b)), b...)[align:]
}

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

// checkSplit splits and merges src, which begins at align, into planes of n
// bytes: by split and merge, and by the functions in Go.
func checkSplit(t *testing.T, src []byte, width, rot, align int) {
	t.Helper()
	n := len(src) / width
	src = aligned(src[:n*width], align)
	var want, got [maxWidth][]byte
	var intact [maxWidth]func() bool
	for k := range width {
		want[k] = make([]byte, n)
		got[k], intact[k] = guarded(n, (align*7+k)%64)
	}
	splitGo(&want, src, width, rot)
	split(&got, src, width, rot)
	for k := range width {
		if !bytes.Equal(got[k], want[k]) || !intact[k]() {
			t.Fatalf("split of %d elements of %d bytes, rotated %d, at %d: plane %d differs", n, width, rot, align, k)
		}
	}
	back, wide := guarded(len(src), align)
	merge(back, &got, width, rot)
	if !bytes.Equal(back, src) || !wide() {
		t.Fatalf("merge of %d elements of %d bytes, rotated %d, at %d: other bytes", n, width, rot, align)
	}
	mergeGo(back, &got, width, rot)
	if !bytes.Equal(back, src) {
		t.Fatalf("mergeGo of %d elements of %d bytes, rotated %d: other bytes", n, width, rot)
	}
}

func TestSplitKernels(t *testing.T) {
	src := randomBytes(8*1000, 1)
	for _, width := range []int{2, 4, 8} {
		for rot := range 8 * width {
			checkSplit(t, src, width, rot, 0)
		}
		for n := range 400 {
			checkSplit(t, src[:n*width], width, 3, n%64)
		}
		for align := range 64 {
			checkSplit(t, src, width, 1, align)
		}
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

// checkStream encodes src, which begins at align, by the kernel and in Go, and
// decodes it.
func checkStream(t *testing.T, h *huffman, src []byte, align int) {
	t.Helper()
	src = aligned(src, align)
	most := len(src)*h.maxBits/8 + 9
	want, _ := guarded(most, 0)
	got, intact := guarded(most, align)
	n := encodeStreamGo(want, src, &h.codes, 0, 0, 0)
	m := h.encodeStream(got, src)
	if !bytes.Equal(got[:m], want[:n]) || !intact() {
		t.Fatalf("stream of %d bytes at %d: other bytes", len(src), align)
	}

	table, ok := h.appendTable(nil)
	if !ok {
		return
	}
	d := new(decodeTable)
	if rest, err := d.read(table); err != nil || len(rest) != 0 {
		t.Fatalf("table: %v", err)
	}
	back, intact := guarded(len(src), align)
	for most := 1; most <= mostSymbols; most++ {
		d.build(most)
		s, err := newStream(got, 0, m, 0, len(src))
		if err == nil {
			clear(back)
			err = s.decode(back, got, d)
		}
		if err != nil || !bytes.Equal(back, src) || !intact() {
			t.Fatalf("decoded stream of %d bytes at %d: other bytes, error %v", len(src), align, err)
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
		for n := range 700 {
			checkStream(t, h, src[len(src)-n:], n%64)
		}
		for align := range 64 {
			checkStream(t, h, src[align:], align)
		}
	}
	// Only the longest codes.
	src := skewed(1<<16, 14, 2)
	h := codesOf(src)
	for v, c := range h.codes {
		if int(c.n) == h.maxBits {
			checkStream(t, h, bytes.Repeat([]byte{byte(v)}, 1000), 1)
		}
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
			for align := range 64 {
				rounds := align % 40
				input := aligned(randomBytes(4000, uint64(align)), align)
				part := rounds * lookUps * mostSymbols
				var want fourStreams
				for k := range 4 {
					want[k], want[4+k] = 64+rounds*lookUps*tableBits+k*300*8+(align+k)%8, k*part
				}
				got := want
				out, intact := guarded(4*part, align)
				wantOut := bytes.Clone(out)
				decodeFourGo(wantOut, input, &d.entries, &want, rounds)
				if rounds == 0 || !decodeFourVector(out, input, d, &got, rounds) {
					continue
				}
				if got != want || !bytes.Equal(out, wantOut) || !intact() {
					t.Fatalf("%d rounds at %d: %v, not %v", rounds, align, got, want)
				}
			}
		}
	}
}

// checkField packs and unpacks the fields of src, which begins at align, by
// kernels and in Go. All but the fields is cleared in src.
func checkField(t *testing.T, f field, src []byte, align int) {
	t.Helper()
	src = aligned(src, align)
	mask := byte(1<<f.bits-1) << f.shift
	f.base &^= mask
	for i := range src {
		src[i] = src[i]&mask | f.base
	}
	length := len(src)*f.bits/8 + 1
	want, _ := guarded(length+8, 0)
	got, intact := guarded(length+8, align)
	n, m := f.packGo(want, src, 0), f.pack(got, src)
	if n != length || m != length || !bytes.Equal(got[:m], want[:n]) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: other bytes", f, len(src), align)
	}
	back, intact := guarded(len(src), align)
	f.unpack(back, got[:length:length])
	if !bytes.Equal(back, src) || !intact() {
		t.Fatalf("%+v of %d bytes at %d: unpacked other bytes", f, len(src), align)
	}
	clear(back)
	f.unpackGo(back, got[:length:length])
	if !bytes.Equal(back, src) {
		t.Fatalf("%+v of %d bytes: unpacked other bytes in Go", f, len(src))
	}

	// The general coder makes the same.
	var h huffman
	h.buildField(f)
	clear(want)
	if k := encodeStreamGo(want, src, &h.codes, 0, 0, 0); !bytes.Equal(want[:k], got[:m]) {
		t.Fatalf("%+v of %d bytes: other than its Huffman code", f, len(src))
	}
}

func TestFieldKernels(t *testing.T) {
	src := randomBytes(1000, 2)
	for k := 1; k <= 7; k++ {
		for shift := range 9 - k {
			f := field{base: 0x5a, shift: shift, bits: k}
			for n := range 200 {
				checkField(t, f, src[n:2*n], n%64)
			}
			for align := range 64 {
				checkField(t, f, src, align)
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

func TestCountOthers(t *testing.T) {
	for n := range 400 {
		checkOthers(t, randomBytes(n, 3), n%64, uint64(n))
	}
	checkOthers(t, randomBytes(20001, 4), 5, 1)
	checkOthers(t, weights(F8, 20001), 5, 2)
}

// checkOthers has half of the values known.
func checkOthers(t *testing.T, b []byte, align int, seed uint64) {
	t.Helper()
	b = aligned(b, align)
	g := rand.New(rand.NewPCG(seed, 5))
	var count, want, got [256]uint32
	for v := range count {
		count[v] = g.Uint32N(2)
	}
	for _, x := range b {
		if count[x] == 0 {
			want[x]++
		}
	}
	countOthersGo(&got, b, &count)
	if got != want {
		t.Fatalf("%d bytes at %d: %v in Go, not %v", len(b), align, got, want)
	}
	got[7] = 9 // left over
	if countOthers(&got, b, &count); got != want {
		t.Fatalf("%d bytes at %d: %v, not %v", len(b), align, got, want)
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
		}
	}
	const want = 0x296dd568496239d4
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
	f.Fuzz(func(t *testing.T, src []byte, width, rot, align byte) {
		w := 2 << (width % 3)
		checkSplit(t, src, w, int(rot)%(8*w), int(align)%64)
	})
}

func FuzzStreamKernels(f *testing.F) {
	f.Add(skewed(700, 12, 2), byte(0))
	f.Add(skewed(700, 200, 1.1), byte(3))
	f.Fuzz(func(t *testing.T, src []byte, align byte) {
		if len(src) < 2 || constant(src) || len(src) > maxBlock {
			return
		}
		checkStream(t, codesOf(src), src, int(align)%64)
		checkOthers(t, src, int(align)%64, uint64(len(src)))
	})
}

func FuzzFieldKernels(f *testing.F) {
	f.Add(randomBytes(300, 1), byte(6), byte(2), byte(0x40), byte(9))
	f.Fuzz(func(t *testing.T, src []byte, width, shift, base, align byte) {
		k := 1 + int(width)%7
		checkField(t, field{base: base, shift: int(shift) % (9 - k), bits: k}, src, int(align)%64)
	})
}
