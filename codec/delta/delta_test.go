package delta

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

const noLimit = math.MaxInt

// roundTrip codes src and reads the frame back, with the decoder and the
// reference, and returns the frame.
func roundTrip(t *testing.T, e *Encoder, d *Decoder, src Elements, row int, bases []Elements) []byte {
	t.Helper()
	frame, ok := e.AppendFrame(nil, src, row, bases, noLimit)
	if !ok {
		t.Fatalf("no frame of %d bytes of %v", len(src.Data), src.Type)
	}
	info, err := d.Inspect(frame)
	if err != nil || info.Type != src.Type || len(info.Bases) > len(bases) {
		t.Fatalf("Inspect: %v, %v", info, err)
	}
	got := make([]byte, len(src.Data)+8)
	if err := d.DecodeFrame(got[:len(src.Data)], frame, bases[:len(info.Bases)]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, append(bytes.Clone(src.Data), make([]byte, 8)...)) {
		t.Fatal("other bytes")
	}
	want, err := referenceDecode(frame, bases)
	if err != nil || !bytes.Equal(want, src.Data) {
		t.Fatalf("the reference decodes other bytes: %v", err)
	}
	return frame
}

func lengths() []int {
	l := []int{0, 1, 2, 7, 8, 9, 127, 128, 129, 1000, 4096, 5000}
	if !testing.Short() && !raceEnabled {
		l = append(l, 20_000)
	}
	return l
}

func TestRoundTrip(t *testing.T) {
	for _, dtype := range allTypes {
		t.Run(dtype.String(), func(t *testing.T) {
			e, d := NewEncoder(), NewDecoder()
			for _, n := range lengths() {
				steps := series(n, 1)
				src := elementsOf(steps[0], dtype)
				var bases []Elements
				for k := 1; k <= maxBases; k++ {
					bases = append(bases, elementsOf(steps[k], dtype))
					for _, row := range []int{0, 1, 100, n} {
						if n > 5000 && row != 100 {
							continue
						}
						roundTrip(t, e, d, src, row, bases)
					}
				}
			}
		})
	}
}

// TestOddData codes what no training makes: residuals, steps and exponents of
// every size.
func TestOddData(t *testing.T) {
	for _, dtype := range allTypes {
		for name, odd := range map[string]func(int, uint64) []byte{"random": randomBytes, "specials": specials} {
			t.Run(fmt.Sprintf("%v/%s", dtype, name), func(t *testing.T) {
				e, d := NewEncoder(), NewDecoder()
				for _, n := range lengths() {
					size := n * dtype.Size()
					near := elementsOf(series(n, 2)[0], dtype)
					all := []Elements{near, {odd(size, 1), dtype}, {odd(size, 2), dtype}, {odd(size, 3), dtype}, {make([]byte, size), dtype}}
					for i := range all {
						for k := 1; k <= maxBases; k++ {
							var bases []Elements
							for j := range k {
								bases = append(bases, all[(i+1+j)%len(all)])
							}
							roundTrip(t, e, d, all[i], 64, bases)
						}
					}
				}
			})
		}
	}
}

// TestTrainingShrinks proves that frames of a training are as small as they
// should be, and that each further base helps.
func TestTrainingShrinks(t *testing.T) {
	steps := series(32<<10, 3)
	for _, tt := range []struct {
		dtype codec.DType
		least [maxBases]float64 // ratios for 1, 2 and 3 bases
	}{
		{codec.BF16, [maxBases]float64{6, 9, 10.5}},
		{codec.F16, [maxBases]float64{3.2, 5.5, 5.8}},
		{codec.F32, [maxBases]float64{1.7, 2, 2}},
	} {
		e, d := NewEncoder(), NewDecoder()
		src := elementsOf(steps[0], tt.dtype)
		var bases []Elements
		for k, least := range tt.least {
			bases = append(bases, elementsOf(steps[k+1], tt.dtype))
			frame := roundTrip(t, e, d, src, 0, bases)
			ratio := float64(len(src.Data)) / float64(len(frame))
			t.Logf("%v, %d bases: %.2f", tt.dtype, k+1, ratio)
			if ratio < least {
				t.Errorf("%v with %d bases: %.2f, want %.1f", tt.dtype, k+1, ratio, least)
			}
		}
	}
}

// TestCasts proves that what is the same in another type costs almost nothing.
func TestCasts(t *testing.T) {
	values := series(10_000, 4)[0]
	for _, base := range floatTypes {
		for _, dtype := range floatTypes {
			e, d := NewEncoder(), NewDecoder()
			from := elementsOf(values, base)
			src := Elements{make([]byte, len(values)*dtype.Size()), dtype}
			castElements(src.Data, dtype, from)
			if frame := roundTrip(t, e, d, src, 0, []Elements{from}); len(frame) > 20 {
				t.Errorf("%v from %v: %d bytes", dtype, base, len(frame))
			}
			// One element differs.
			src.Data[7777]++
			if frame := roundTrip(t, e, d, src, 0, []Elements{from}); len(frame) > 600 {
				t.Errorf("%v from %v but for one: %d bytes", dtype, base, len(frame))
			}
			// The base is of an earlier step.
			from = elementsOf(series(10_000, 4)[1], base)
			roundTrip(t, e, d, src, 0, []Elements{from, elementsOf(values, codec.F32)})
		}
	}
}

func TestSparseIntegers(t *testing.T) {
	base := Elements{randomBytes(64<<10, 5), codec.I64}
	src := Elements{bytes.Clone(base.Data), codec.I64}
	src.Data[8*1000] ^= 1
	frame := roundTrip(t, NewEncoder(), NewDecoder(), src, 0, []Elements{base})
	if len(frame) > 200 {
		t.Errorf("%d bytes", len(frame))
	}
}

func TestLimit(t *testing.T) {
	src := Elements{randomBytes(10_000, 1), codec.BF16}
	base := Elements{randomBytes(10_000, 2), codec.BF16}
	full, _ := codec.NewEncoder().AppendFrame(nil, src.Data, src.Type)
	dst := []byte("before")
	if got, ok := NewEncoder().AppendFrame(dst, src, 0, []Elements{base}, len(full)); ok || !bytes.Equal(got, dst) {
		t.Errorf("a frame of %d bytes where the full one has %d", len(got)-len(dst), len(full))
	}
	frame := roundTrip(t, NewEncoder(), NewDecoder(), src, 0, []Elements{base})
	if _, ok := NewEncoder().AppendFrame(nil, src, 0, []Elements{base}, len(frame)); ok {
		t.Error("a frame as long as the limit")
	}
	got, ok := NewEncoder().AppendFrame(dst, src, 0, []Elements{base}, len(frame)+1)
	if !ok || !bytes.Equal(got, append([]byte("before"), frame...)) {
		t.Error("another frame below the limit")
	}
}

func TestUnsuitableBases(t *testing.T) {
	src := elementsOf(series(100, 1)[0], codec.BF16)
	for name, bases := range map[string][]Elements{
		"none":     {},
		"four":     {src, src, src, src},
		"short":    {{src.Data[:198], codec.BF16}},
		"integers": {{src.Data, codec.I16}},
		"narrow":   {src, {src.Data, codec.F32}},
	} {
		if _, ok := NewEncoder().AppendFrame(nil, src, 0, bases, noLimit); ok {
			t.Errorf("%s: a frame", name)
		}
	}
	odd := Elements{src.Data[:199], codec.BF16}
	if _, ok := NewEncoder().AppendFrame(nil, odd, 0, []Elements{odd}, noLimit); ok {
		t.Error("a frame of half an element")
	}
}

func TestWrongBases(t *testing.T) {
	steps := series(5000, 6)
	for _, dtype := range allTypes {
		e, d := NewEncoder(), NewDecoder()
		src, base, before, other := elementsOf(steps[0], dtype), elementsOf(steps[1], dtype), elementsOf(steps[2], dtype), elementsOf(steps[3], dtype)
		if bytes.Equal(base.Data, other.Data) {
			other.Data[100]++
		}
		frame := roundTrip(t, e, d, src, 0, []Elements{base, before})
		dst := make([]byte, len(src.Data))
		if err := d.DecodeFrame(dst, frame, []Elements{other, before}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: another base: %v", dtype, err)
		}
		if err := d.DecodeFrame(dst, frame, nil); !errors.Is(err, ErrBase) {
			t.Errorf("%v: no base: %v", dtype, err)
		}
		short := Elements{base.Data[dtype.Size():], dtype}
		if err := d.DecodeFrame(dst, frame, []Elements{short, short}); !errors.Is(err, ErrBase) {
			t.Errorf("%v: a short base: %v", dtype, err)
		}
		if err := d.DecodeFrame(dst[:len(dst)-dtype.Size()], frame, []Elements{short, short}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: a short frame: %v", dtype, err)
		}
		wrong := Elements{make([]byte, len(steps[0])*8), codec.F64}
		if dtype == codec.F64 {
			wrong.Type = codec.I64
		}
		if err := d.DecodeFrame(dst, frame, []Elements{wrong, wrong}); !errors.Is(err, ErrBase) {
			t.Errorf("%v: a base of another type: %v", dtype, err)
		}
	}
}

// TestDamage changes and cuts off every byte.
func TestDamage(t *testing.T) {
	steps := series(300, 7)
	for _, dtype := range []codec.DType{codec.Bytes, codec.I32, codec.BF16, codec.F32, codec.F64} {
		e, d := NewEncoder(), NewDecoder()
		src, bases := elementsOf(steps[0], dtype), []Elements{elementsOf(steps[1], dtype), elementsOf(steps[2], dtype), elementsOf(steps[3], dtype)}
		for used := 1; used <= len(bases); used++ {
			frame := roundTrip(t, e, d, src, 16, bases[:used])
			dst := make([]byte, len(src.Data))
			check := func(damaged []byte, what string, at int) {
				err := d.DecodeFrame(dst, damaged, bases)
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrBase) && !(err == nil && bytes.Equal(dst, src.Data)) {
					t.Fatalf("%v: byte %d of %d %s: %v", dtype, at, len(frame), what, err)
				}
			}
			for i := range frame {
				check(frame[:i], "cut off", i)
				for _, x := range []byte{1, 0x80, 0xff} {
					damaged := bytes.Clone(frame)
					damaged[i] ^= x
					check(damaged, "changed", i)
				}
			}
			check(append(bytes.Clone(frame), 0), "added", len(frame))
		}
	}
}

// TestScratch proves that frames do not depend on those before them, and that
// long frames leave coders usable.
func TestScratch(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	for _, n := range []int{5000, 10, 3000, 0, 129} {
		for _, dtype := range floatTypes {
			steps := series(n, 8)
			src, bases := elementsOf(steps[0], dtype), []Elements{elementsOf(steps[1], dtype), elementsOf(steps[2], dtype)}
			used := roundTrip(t, e, d, src, 50, bases)
			fresh := roundTrip(t, NewEncoder(), NewDecoder(), src, 50, bases)
			if !bytes.Equal(used, fresh) {
				t.Fatalf("%v, %d elements: other frames", dtype, n)
			}
		}
	}
}
