package delta

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// The seeds of the fuzz targets lie in testdata/fuzz, the golden frames in
// testdata/golden. After a change of the format, make them anew with
//
//	go test ./codec/delta -run 'TestFuzzSeeds|TestGolden' -write
var write = flag.Bool("write", false, "write the seeds of the fuzz targets and the golden frames")

// fuzzSteps returns the elements of a small training of any type: the last step,
// then those before it.
func fuzzSteps(dtype codec.DType, n int) (steps []Elements) {
	for _, values := range series(n, 9) {
		steps = append(steps, elementsOf(values, dtype))
	}
	return steps
}

// seeds returns the committed inputs of each target, by file name.
func seeds(t *testing.T) map[string]map[string][]any {
	all := map[string]map[string][]any{"FuzzRoundTrip": {}, "FuzzDecodeFrame": {}}
	for _, dtype := range allTypes {
		steps := fuzzSteps(dtype, 150)
		for used := 1; used <= maxBases; used++ {
			name := fmt.Sprintf("%v-%d", dtype, used)
			frame, ok := NewEncoder().AppendFrame(nil, steps[0], 16, steps[1:1+used], noLimit)
			if !ok {
				t.Fatal("no frame")
			}
			all["FuzzDecodeFrame"][name] = []any{frame, byte(dtype), uint16(150)}
			var data []byte
			for _, s := range steps[:1+used] {
				data = append(data, s.Data...)
			}
			all["FuzzRoundTrip"][name] = []any{data, byte(dtype), byte(used), uint16(16)}
		}
	}
	for name, data := range map[string][]byte{"zeros": make([]byte, 600), "random": randomBytes(1200, 1), "specials": specials(2000, 1)} {
		for i, dtype := range floatTypes {
			all["FuzzRoundTrip"][fmt.Sprintf("%v-%s", dtype, name)] = []any{data, byte(dtype), byte(i + 1), uint16(8)}
		}
	}
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

// TestFuzzSeeds proves that the seeds of every target are there. It does not
// compare them: old ones stay good seeds.
func TestFuzzSeeds(t *testing.T) {
	for target, inputs := range seeds(t) {
		for name, args := range inputs {
			file := filepath.Join("testdata", "fuzz", target, name)
			if *write {
				writeFile(t, file, formatSeed(args))
			}
			if got, err := os.ReadFile(file); err != nil {
				t.Errorf("%s: a seed is missing: %v", target, err)
			} else if !bytes.HasPrefix(got, formatSeed(nil)) {
				t.Errorf("%s: %s is no seed", target, name)
			}
		}
	}
}

func writeFile(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzRoundTrip takes data for src and the bases, one after another.
func FuzzRoundTrip(f *testing.F) {
	e, d := NewEncoder(), NewDecoder()
	f.Fuzz(func(t *testing.T, data []byte, dtype, used byte, row uint16) {
		if len(data) > 1<<17 {
			return
		}
		src := Elements{Type: codec.DType(dtype) % (codec.F64 + 1)}
		used = used%maxBases + 1
		n := len(data) / (int(used) + 1) / src.Type.Size()
		size := n * src.Type.Size()
		src.Data = data[:size]
		var bases []Elements
		for k := 1; k <= int(used); k++ {
			bases = append(bases, Elements{data[k*size : (k+1)*size], src.Type})
		}
		roundTrip(t, e, d, src, int(row), bases)
	})
}

// FuzzDecodeFrame decodes frames with the bases of a small training. What is
// decoded was what an encoder could have had.
func FuzzDecodeFrame(f *testing.F) {
	d := NewDecoder()
	all := map[codec.DType][]Elements{}
	for _, dtype := range allTypes {
		all[dtype] = fuzzSteps(dtype, 1<<10)
	}
	f.Fuzz(func(t *testing.T, frame []byte, dtype byte, n uint16) {
		kind := codec.DType(dtype) % (codec.F64 + 1)
		size := int(n) % (1<<10 + 1) * kind.Size()
		var bases []Elements
		if info, err := d.Inspect(frame); err == nil {
			for i, b := range info.Bases {
				step := all[b][1+i]
				bases = append(bases, Elements{step.Data[:int(n)%(1<<10+1)*b.Size()], b})
			}
		}
		buf := make([]byte, size+64)
		err := d.DecodeFrame(buf[:size:size+32], frame, bases)
		if !bytes.Equal(buf[size:], make([]byte, 64)) {
			t.Fatal("DecodeFrame wrote beyond dst")
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrBase) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}

// TestGolden proves that encoders still make the frames that they made, to the
// byte, on every processor, and that decoders read them.
func TestGolden(t *testing.T) {
	for _, dtype := range allTypes {
		steps := fuzzSteps(dtype, 2000)
		for used := 1; used <= maxBases; used++ {
			name := fmt.Sprintf("%v-%d.zst", dtype, used)
			frame := roundTrip(t, NewEncoder(), NewDecoder(), steps[0], 50, steps[1:1+used])
			file := filepath.Join("testdata", "golden", name)
			if *write {
				writeFile(t, file, frame)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(steps[0].Data))
			if err := NewDecoder().DecodeFrame(got, want, steps[1:1+used]); err != nil || !bytes.Equal(got, steps[0].Data) {
				t.Errorf("%s decodes otherwise: %v", name, err)
			}
			if isFloat(dtype) && !bytes.Equal(frame, want) {
				t.Errorf("%s: the encoder makes another frame", name)
			}
		}
	}
}
