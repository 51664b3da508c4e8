package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// The seeds of the fuzz targets lie in testdata/fuzz. After a change of the
// format, make them anew with
//
//	go test ./codec -run TestFuzzSeeds -write-seeds
var writeSeeds = flag.Bool("write-seeds", false, "write the seeds of the fuzz targets")

// maxFuzz bounds the memory that a fuzz target asks for.
const maxFuzz = 1 << 20

// seeds returns the committed inputs of each target, by file name, as the
// arguments of the target.
func seeds(t *testing.T) map[string]map[string][]any {
	all := seedSet{
		"FuzzRoundTrip":      {},
		"FuzzDecodeFrame":    {},
		"FuzzDecodeLiterals": {},
		"FuzzDecompress":     {},
	}
	e := NewEncoder()
	for _, d := range allDTypes {
		for _, k := range kinds {
			src := k.make(d, 331)
			name := fmt.Sprintf("%v-%s", d, strings.ReplaceAll(k.name, " ", "-"))
			all.addLogical(e, name, d, src)
			stream, err := Compress(nil, src, d)
			if err != nil {
				t.Fatal(err)
			}
			all["FuzzDecompress"][name] = []any{stream, byte(d), uint32(len(src))}
		}
		// Four streams.
		all.addLogical(e, d.String()+"-four", d, weights(d, 1100*d.Size()))
	}
	// Fields, in one stream and in four; entries of several bytes; and both, in
	// the planes of a rotation by 3.
	sixBits := randomBytes(2000, 1)
	for i := range sixBits {
		sixBits[i] = sixBits[i]>>2 | 0x40
	}
	all.addLogical(e, "field-one", F8, sixBits[:700])
	all.addLogical(e, "field-four", F8, sixBits)
	all.addLogical(e, "several", F8, skewed(5000, 12, 1.5))
	all.addLogical(e, "runs", F8, everyOther(randomBytes(2000, 1), 300))
	all.addLogical(e, "rows", F32, everyOther(weights(F32, 8000), 4*300))
	all.addLogical(e, "quantized", Bytes, quantized(5000))
	all.addLogical(e, "narrow", BF16, weights(BF16, 2*sampleFrom))

	all["FuzzRoundTrip"]["empty"] = []any{[]byte{}, byte(0)}
	all["FuzzDecodeFrame"]["empty"] = []any{[]byte{}, byte(0), uint32(0)}
	all["FuzzDecompress"]["empty"] = []any{[]byte{}, byte(0), uint32(0)}
	all.addPlans()
	all.addForeign(t)
	all.addDamaged(e)
	all.addLiterals(e)
	return all
}

// A seedSet holds the arguments of each target's seeds, by file name.
type seedSet map[string]map[string][]any

func (s seedSet) addFrame(name string, frame []byte, plan Plan, size int) {
	s["FuzzDecodeFrame"][name] = []any{frame, byte(plan), uint32(size)}
}

// addLogical adds src, and the frame that it becomes.
func (s seedSet) addLogical(e *Encoder, name string, d DType, src []byte) {
	frame, plan := e.AppendFrame(nil, src, d)
	s.addFrame(name, frame, plan, len(src))
	s["FuzzRoundTrip"][name] = []any{src, byte(d)}
}

// addPlans adds frames of plans that the encoder does not choose, in blocks
// that do not keep to the planes.
func (s seedSet) addPlans() {
	for _, p := range []Plan{makePlan(1, 3), makePlan(2, 15), makePlan(4, 31), makePlan(8, 0), makePlan(8, 63)} {
		content := planned(p, floats(F32, 203))
		frame := appendFrameHeader(nil, 203+300)
		frame = appendRaw(frame, content[:70], false)
		frame = append(appendBlockHeader(frame, blockRLE, 300, false), 7)
		frame = appendRaw(frame, content[70:], true)
		s.addFrame("plan-"+strings.NewReplacer(" ", "-", ",", "").Replace(p.String()), frame, p, 203+300)
	}
}

// addForeign adds frames with what only a general decoder knows: sequences,
// codes of the block before, checksums, windows, blocks of no bytes.
func (s seedSet) addForeign(t *testing.T) {
	text := repeat([]byte("it was the age of wisdom, it was the age of foolishness, "), 700)
	for name, opts := range map[string][]zstd.EOption{
		"fastest": {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true)},
		"best":    {zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)},
		"window":  {zstd.WithWindowSize(1 << 10)},
	} {
		z, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		s.addFrame("foreign-"+name+"-text", z.EncodeAll(text, nil), 0, len(text))
		src := planned(BF16.Plan(), weights(BF16, 3000))
		s.addFrame("foreign-"+name+"-weights", z.EncodeAll(src, nil), BF16.Plan(), len(src))
	}
	var e Encoder
	src := skewed(2000, 12, 1.5)
	h := appendFrameHeader(nil, 2*len(src))
	h, ok := e.appendLiterals(slices.Grow(h, 3000), src, false)
	if !ok {
		t.Fatal("not coded")
	}
	// The same streams, without the table.
	blk, _, err := nextBlock(h, len(appendFrameHeader(nil, 2*len(src))))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := new(decodeTable).read(blk.coded)
	if err != nil {
		t.Fatal(err)
	}
	frame := appendLiteralsBlock(h, literalsTreeless, len(src), rest, true, true)
	if _, err := stockDecoder(t).DecodeAll(frame, nil); err != nil {
		t.Fatalf("treeless: %v", err)
	}
	s.addFrame("foreign-treeless", frame, 0, 2*len(src))
	empty := appendRaw(appendFrameHeader(nil, 9), nil, false)
	s.addFrame("foreign-empty-block", appendRaw(empty, text[:9], true), 0, 9)
}

// addDamaged adds frames that are cut, changed in one bit, or followed by
// another.
func (s seedSet) addDamaged(e *Encoder) {
	src := skewed(1500, 40, 1.3)
	frame, plan := e.AppendFrame(nil, src, F8)
	s.addFrame("damaged-cut", frame[:len(frame)-1], plan, len(src))
	s.addFrame("damaged-cut-table", frame[:20], plan, len(src))
	s.addFrame("damaged-two", append(bytes.Clone(frame), frame...), plan, len(src))
	s.addFrame("damaged-size", frame, plan, len(src)-1)
	for name, at := range map[string]int{"header": 4, "block": 7, "literals": 11, "table": 16, "stream": len(frame) - 9} {
		flipped := bytes.Clone(frame)
		flipped[at] ^= 0x04
		s.addFrame("damaged-"+name, flipped, plan, len(src))
	}
}

// addLiterals takes apart blocks that an encoder makes.
func (s seedSet) addLiterals(e *Encoder) {
	for name, src := range map[string][]byte{
		"one":         skewed(900, 12, 1.5),
		"four":        skewed(1500, 40, 1.3),
		"several":     skewed(5000, 12, 1.5),
		"field":       floats(F8, 1600),
		"long-codes":  skewed(3000, 256, 1.05),
		"two-symbols": skewed(300, 2, 1.1),
		"sixteen":     skewed(16, 3, 1.1),
		"odd-quarter": skewed(1025, 20, 1.2),
	} {
		frame, _ := e.AppendFrame(nil, src, F8)
		blk, _, err := nextBlock(frame, len(appendFrameHeader(nil, len(src))))
		if err != nil || blk.coded == nil {
			continue // stored: nothing to take apart
		}
		rest, err := new(decodeTable).read(blk.coded)
		if err != nil {
			panic(err) // the encoder made it
		}
		table := blk.coded[:len(blk.coded)-len(rest)]
		var cuts [3]uint16
		if blk.streams == 4 {
			for k := range cuts {
				cuts[k] = binary.LittleEndian.Uint16(rest[2*k:])
			}
			rest = rest[jumpTable:]
		}
		s["FuzzDecodeLiterals"][name] = []any{table, rest, uint32(len(src)), blk.streams == 4, cuts[0], cuts[1], cuts[2]}
	}
}

// literalsTreeless is the type of a literals section with the code of the one
// before, which this package does not make.
const literalsTreeless = 3

// appendLiteralsBlock appends a block of literals, of the type and with the
// sizes given, whether they are right or not, and no sequences.
func appendLiteralsBlock(dst []byte, kind, size int, coded []byte, four, last bool) []byte {
	format, sizeBits := 0, 10
	switch {
	case four && max(size, len(coded)) < 1<<10:
		format = 1
	case four && max(size, len(coded)) < 1<<14:
		format, sizeBits = 2, 14
	case four:
		format, sizeBits = 3, 18
	}
	header := (4 + 2*sizeBits + 7) / 8
	dst = appendBlockHeader(dst, blockCompressed, header+len(coded)+1, last)
	v := uint64(kind|format<<2) | uint64(size)<<4 | uint64(len(coded))<<(4+sizeBits)
	for i := range header {
		dst = append(dst, byte(v>>(8*i)))
	}
	dst = append(dst, coded...)
	return append(dst, 0)
}

func formatSeed(args []any) []byte {
	b := []byte("go test fuzz v1\n")
	for _, a := range args {
		switch a := a.(type) {
		case []byte:
			b = fmt.Appendf(b, "[]byte(%q)\n", a)
		case byte:
			b = fmt.Appendf(b, "byte(%q)\n", rune(a))
		default:
			b = fmt.Appendf(b, "%T(%v)\n", a, a)
		}
	}
	return b
}

// TestFuzzSeeds proves that the seeds of every target are there, so that none
// starts from nothing. It does not compare them: frames of bytes may change with
// the general encoder, and old ones stay good seeds.
func TestFuzzSeeds(t *testing.T) {
	for target, inputs := range seeds(t) {
		dir := filepath.Join("testdata", "fuzz", target)
		for name, args := range inputs {
			file := filepath.Join(dir, name)
			if *writeSeeds {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, formatSeed(args), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("%s: a seed is missing: %v", target, err)
			} else if !bytes.HasPrefix(got, formatSeed(nil)) {
				t.Errorf("%s: %s is no seed", target, name)
			}
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	e, z := NewEncoder(), NewDecoder()
	stock := stockDecoder(f)
	f.Fuzz(func(t *testing.T, src []byte, dtype byte) {
		if len(src) > maxFuzz {
			return
		}
		d := DType(dtype % byte(len(dtypes)))
		frame, plan := e.AppendFrame(nil, src, d)
		if len(frame) > MaxFrameSize(len(src)) {
			t.Fatalf("%d bytes make a frame of %d, the bound is %d", len(src), len(frame), MaxFrameSize(len(src)))
		}
		got := make([]byte, len(src))
		if err := z.DecodeFrame(got, frame, plan); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, src) {
			t.Fatal("other bytes")
		}
		content, err := stock.DecodeAll(frame, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, planned(plan, src)) {
			t.Fatal("other than the planned content")
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	z := NewDecoder()
	stock := stockDecoder(f)
	f.Fuzz(func(t *testing.T, frame []byte, plan byte, size uint32) {
		if size > maxFuzz {
			return
		}
		p := Plan(plan)
		buf := make([]byte, size+64)
		dst := buf[: size : size+32]
		err := z.DecodeFrame(dst, frame, p)
		if !bytes.Equal(buf[size:], make([]byte, 64)) {
			t.Fatal("DecodeFrame wrote beyond dst")
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrPlan) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		// What is decoded is what a stock decoder makes of it.
		content, err := stock.DecodeAll(frame, nil)
		if err != nil {
			t.Fatalf("stock decoder: %v", err)
		}
		if !bytes.Equal(content, planned(p, dst)) {
			t.Fatal("other than the stock decoder's content")
		}
	})
}

// FuzzDecodeLiterals puts a code table and streams into a frame whose headers
// fit them, between two other blocks, so that every input reaches the decoder of
// literals. It decodes what a stock decoder does, and nothing else.
func FuzzDecodeLiterals(f *testing.F) {
	z := NewDecoder()
	stock := stockDecoder(f)
	f.Fuzz(func(t *testing.T, table, streams []byte, size uint32, four bool, cut1, cut2, cut3 uint16) {
		n := int(size % (maxBlock + 1))
		coded := bytes.Clone(table)
		if four {
			for _, c := range []uint16{cut1, cut2, cut3} {
				coded = binary.LittleEndian.AppendUint16(coded, c)
			}
		} else {
			n %= 1 << 10
		}
		coded = append(coded, streams...)
		if len(coded) > maxBlock-8 || len(coded) >= 1<<10 && !four {
			return // headers cannot say that
		}
		const around = 5
		frame := appendFrameHeader(nil, n+2*around)
		frame = append(appendBlockHeader(frame, blockRLE, around, false), 0xee)
		frame = appendLiteralsBlock(frame, literalsHuffman, n, coded, four, false)
		frame = appendRaw(frame, []byte("after"), true)

		buf := bytes.Repeat([]byte{0xa5}, n+2*around+64)
		dst := buf[: n+2*around : n+2*around+32]
		err := z.DecodeFrame(dst, frame, 0)
		if !bytes.Equal(buf[len(dst):], bytes.Repeat([]byte{0xa5}, 64)) {
			t.Fatal("DecodeFrame wrote beyond dst")
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("an error of no kind: %v", err)
		}
		content, stockErr := stock.DecodeAll(frame, nil)
		if (err == nil) != (stockErr == nil) {
			t.Fatalf("%d bytes, four %v: error %v; stock decoder: %v", n, four, err, stockErr)
		}
		if err == nil && !bytes.Equal(content, dst) {
			t.Fatal("other than the stock decoder's content")
		}
	})
}

func FuzzDecompress(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte, dtype byte, size uint32) {
		if size > maxFuzz {
			return
		}
		d := DType(dtype)
		got, err := Decompress(nil, stream, d, int(size))
		if err != nil {
			if len(got) != 0 {
				t.Fatal("bytes with an error")
			}
			for _, known := range []error{ErrCorrupt, ErrMismatch, ErrVersion, ErrDType} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("an error of no kind: %v", err)
		}
		if len(got) != int(size) {
			t.Fatalf("%d bytes, not %d", len(got), size)
		}
		again, err := Compress(nil, got, d)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decompress(nil, again, d, len(got)); err != nil || !bytes.Equal(back, got) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}
