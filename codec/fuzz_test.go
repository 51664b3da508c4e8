package codec

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	all := map[string]map[string][]any{
		"FuzzRoundTrip":   {},
		"FuzzDecodeFrame": {},
		"FuzzDecompress":  {},
	}
	e := NewEncoder()
	for _, d := range allDTypes {
		for _, k := range kinds {
			src := k.make(d, 331)
			name := fmt.Sprintf("%v-%s", d, strings.ReplaceAll(k.name, " ", "-"))
			frame, plan := e.AppendFrame(nil, src, d)
			stream, err := Compress(nil, src, d)
			if err != nil {
				t.Fatal(err)
			}
			all["FuzzRoundTrip"][name] = []any{src, byte(d)}
			all["FuzzDecodeFrame"][name] = []any{frame, byte(plan), uint32(len(src))}
			all["FuzzDecompress"][name] = []any{stream, byte(d), uint32(len(src))}
		}
		// Four streams.
		src := weights(d, 1100*d.Size())
		frame, plan := e.AppendFrame(nil, src, d)
		all["FuzzDecodeFrame"][d.String()+"-four"] = []any{frame, byte(plan), uint32(len(src))}
		all["FuzzRoundTrip"][d.String()+"-four"] = []any{src, byte(d)}
	}
	// Fields, in one stream and in four; entries of several bytes; and both, in
	// the planes of a rotation by 3.
	sixBits := randomBytes(2000, 1)
	for i := range sixBits {
		sixBits[i] = sixBits[i]>>2 | 0x40
	}
	for name, in := range map[string]struct {
		d   DType
		src []byte
	}{
		"field-one":  {F8, sixBits[:700]},
		"field-four": {F8, sixBits},
		"several":    {F8, skewed(5000, 12, 1.5)},
		"narrow":     {BF16, weights(BF16, 2*sampleFrom)},
	} {
		frame, plan := e.AppendFrame(nil, in.src, in.d)
		all["FuzzDecodeFrame"][name] = []any{frame, byte(plan), uint32(len(in.src))}
		all["FuzzRoundTrip"][name] = []any{in.src, byte(in.d)}
	}
	all["FuzzRoundTrip"]["empty"] = []any{[]byte{}, byte(0)}
	all["FuzzDecodeFrame"]["empty"] = []any{[]byte{}, byte(0), uint32(0)}
	all["FuzzDecompress"]["empty"] = []any{[]byte{}, byte(0), uint32(0)}
	return all
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
