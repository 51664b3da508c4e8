package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
)

// testTensor is one tensor of a safetensors file.
type testTensor struct {
	name, dtype string
	shape       []int
	data        []byte
}

// tensors makes a safetensors file.
func tensors(list ...testTensor) []byte {
	header, at := "{", 0
	var data []byte
	for i, t := range list {
		if i > 0 {
			header += ","
		}
		shape := strings.ReplaceAll(fmt.Sprint(t.shape), " ", ",")
		header += fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.name, t.dtype, shape, at, at+len(t.data))
		at += len(t.data)
		data = append(data, t.data...)
	}
	header += "}"
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), data...)
}

func f32s(values ...float64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

func bf16s(values ...float64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint16(b, uint16(math.Float32bits(float32(v))>>16))
	}
	return b
}

func diffOf(t testing.TB, a, b []byte) difference {
	t.Helper()
	write(t, "a", a)
	write(t, "b", b)
	list := decode[[]difference](t, "diff", "--json", "a", "b")
	if len(list) != 1 {
		t.Fatalf("%d objects", len(list))
	}
	return list[0]
}

// What counts as a change, and how large it is.
func TestDiffElements(t *testing.T) {
	t.Chdir(t.TempDir())
	inf, nan := math.Inf(1), math.NaN()
	zero := math.Copysign(0, -1)
	for _, c := range []struct {
		name           string
		typeA, typeB   string
		a, b           []byte
		n              int
		status         tensorStatus
		changed        int64
		nonFinite      int64
		largest, means float64 // of the mean, the sum
	}{
		{"equal", "F32", "F32", f32s(1, nan, inf, 0), f32s(1, nan, inf, 0), 4, tensorEqual, 0, 0, 0, 0},
		{"changed", "F32", "F32", f32s(1, 2, -4, 0), f32s(1, 1, -2, 0), 4, tensorChanged, 2, 0, 0.5, 1},
		{"signs", "F32", "F32", f32s(1, -3), f32s(-1, 1), 2, tensorChanged, 2, 0, 2, 2 + 4.0/3},
		{"zeros", "F32", "F32", f32s(0, zero, 0), f32s(zero, 0, 0), 3, tensorChanged, 2, 0, 0, 0},
		{"from zero", "F32", "F32", f32s(0), f32s(5), 1, tensorChanged, 1, 0, 1, 1},
		{"non-finite", "F32", "F32", f32s(1, inf, nan, inf, 2), f32s(inf, 1, 1, -inf, 4), 5, tensorChanged, 5, 4, 0.5, 0.5},
		{"bf16", "BF16", "BF16", bf16s(1, 2, 3), bf16s(1, 2, 6), 3, tensorChanged, 1, 0, 0.5, 0.5},
		{"cast", "F32", "BF16", f32s(1, 2, nan, zero, 1+1.0/4096), bf16s(1, 2, nan, 0, 1), 5, tensorChanged, 1, 0, 1 / 4097.0, 1 / 4097.0},
		{"cast, equal", "BF16", "F32", bf16s(1, inf, 0), f32s(1, inf, 0), 3, tensorEqual, 0, 0, 0, 0},
		{"huge", "F64", "F64", binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.MaxFloat64)),
			binary.LittleEndian.AppendUint64(nil, math.Float64bits(-math.MaxFloat64)), 1, tensorChanged, 1, 0, 2, 2},
		{"f16", "F16", "F32", []byte{0, 0x3c, 1, 0, 0, 0x7c, 0, 0xc0}, f32s(1, math.Ldexp(1, -24), inf, -2), 4, tensorEqual, 0, 0, 0, 0},
		{"f8 e4m3", "F8_E4M3", "F32", []byte{0x38, 0x01, 0x7e, 0xff, 0xb8}, f32s(1, math.Ldexp(1, -9), 448, nan, -1), 5, tensorEqual, 0, 0, 0, 0},
		{"f8 e5m2", "F8_E5M2", "F32", []byte{0x3c, 0x01, 0x7c, 0xfe}, f32s(1, math.Ldexp(1, -16), inf, nan), 4, tensorEqual, 0, 0, 0, 0},
		{"integers", "I16", "I16", []byte{1, 0, 0xff, 0xff}, []byte{1, 0, 1, 0}, 2, tensorChanged, 1, 0, 2, 2},
		{"unsigned", "U8", "U8", []byte{200, 100}, []byte{200, 50}, 2, tensorChanged, 1, 0, 0.5, 0.5},
		{"bool", "BOOL", "BOOL", []byte{0, 1}, []byte{1, 1}, 2, tensorChanged, 1, 0, 1, 1},
		{"integer and float", "I32", "F32", f32s(1), f32s(1), 1, tensorDType, 0, 0, 0, 0},
		{"two integers", "I32", "U32", f32s(1), f32s(1), 1, tensorDType, 0, 0, 0, 0},
	} {
		d := diffOf(t, tensors(testTensor{"w", c.typeA, []int{c.n}, c.a}), tensors(testTensor{"w", c.typeB, []int{c.n}, c.b}))
		r := d.Tensors[0]
		if len(d.Tensors) != 1 || r.Status != c.status || r.Changed != c.changed || r.NonFinite != c.nonFinite || d.Count[c.status] != 1 {
			t.Errorf("%s: %+v", c.name, r)
		}
		if c.status == tensorDType {
			if r.Largest != nil || r.Elements != 0 {
				t.Errorf("%s: %+v", c.name, r)
			}
			continue
		}
		mean := c.means / float64(int64(c.n)-c.nonFinite)
		if *r.Largest != c.largest || math.Abs(*r.Mean-mean) > 1e-15 || r.Fraction != float64(c.changed)/float64(c.n) || r.Elements != int64(c.n) {
			t.Errorf("%s: largest %v, mean %v: %+v", c.name, *r.Largest, *r.Mean, r)
		}
	}
}

func TestDiffTensors(t *testing.T) {
	t.Chdir(t.TempDir())
	a := tensors(testTensor{"same", "F32", []int{2}, f32s(1, 2)}, testTensor{"some", "F32", []int{4}, f32s(1, 2, 3, 4)},
		testTensor{"more", "BF16", []int{2}, bf16s(1, 2)}, testTensor{"shape", "F32", []int{2, 1}, f32s(1, 2)},
		testTensor{"gone", "F32", []int{1}, f32s(1)}, testTensor{"none", "F32", []int{0, 5}, nil})
	b := tensors(testTensor{"new", "F32", []int{1}, f32s(1)}, testTensor{"none", "F32", []int{0, 5}, nil}, testTensor{"some", "F32", []int{4}, f32s(1, 2, 3, 5)},
		testTensor{"more", "F32", []int{2}, f32s(2, 4)}, testTensor{"shape", "F32", []int{1, 2}, f32s(1, 2)},
		testTensor{"same", "F32", []int{2}, f32s(1, 2)})
	write(t, "a", a)
	write(t, "b", b)
	want(t, "diff", succeed(t, "diff", "a", "b"), `A         a
B         b
tensors   7: 1 only in A, 1 only in B, 1 of another shape, 2 changed, 2 equal
elements  8, 37.5000 % changed
change    largest 0.5, mean 0.15

   CHANGED  LARGEST  MEAN  DTYPE       SHAPE            TENSOR
    only A        -     -  F32         [1]              gone
    only B        -     -  F32         [1]              new
     shape        -     -  F32         [2, 1] → [1, 2]  shape
100.0000 %      0.5   0.5  BF16 → F32  [2]              more
 25.0000 %      0.2  0.05  F32         [4]              some
`)
	if out := succeed(t, "diff", "--all", "a", "b"); !strings.Contains(out, "  0.0000 %        0     0  F32         [2]              same\n") {
		t.Errorf("no equal tensor in\n%s", out)
	}
	want(t, "diff of a file with itself", succeed(t, "diff", "a", "a"), "A         a\nB         a\ntensors   6: 6 equal\nelements  11, 0.0000 % changed\nchange    largest 0, mean 0\n")
	out := succeed(t, "diff", "--json", "a", "b")
	for _, part := range []string{`"shape_b": null`, `"largest_relative_change": null`, `"only_a": 1`} {
		if !strings.Contains(out, part) {
			t.Errorf("no %s in\n%s", part, out)
		}
	}
}

// Containers, plain files and formats in any mix.
func TestDiffFiles(t *testing.T) {
	data := fixture(t)
	out := succeed(t, "diff", packedModel, "plain/model.safetensors")
	if !strings.Contains(out, "tensors   2: 2 equal\nelements  269184, 0.0000 % changed\n") {
		t.Errorf("\n%s", out)
	}
	changed := append([]byte(nil), data...)
	changed[len(changed)-1] ^= 0x80 // a sign
	write(t, "plain/model.safetensors", changed)
	out = succeed(t, "diff", packedModel, "plain/model.safetensors")
	if !strings.Contains(out, "\n0.0004 %        2  7.44e-06  BF16") {
		t.Errorf("\n%s", out)
	}
	// Files without tensors.
	write(t, "notes", []byte("learning rate 3e-5\n"))
	out = succeed(t, "diff", packedNotes, "notes")
	if !strings.Contains(out, "5.2632 %        -     -  bytes  [19]   (all bytes)\n") {
		t.Errorf("\n%s", out)
	}
	out = succeed(t, "diff", packedModel, "notes")
	if !strings.Contains(out, "tensors   3: 2 only in A, 1 only in B\n") {
		t.Errorf("\n%s", out)
	}
	// What is damaged is not compared.
	b := read(t, packedModel)
	b[len(b)/2] ^= 1
	write(t, packedModel, b)
	if o := invoke(t, "diff", "notes", packedModel); o.code != exitOK { // nothing of it needs to be read
		t.Errorf("code %d: %s", o.code, o.stderr)
	}
	o := invoke(t, "diff", "plain/model.safetensors", packedModel)
	if o.code != exitFailed || o.stdout != "" || !strings.HasPrefix(o.stderr, "mithrilfs: "+packedModel+": damaged container: ") {
		t.Errorf("code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	write(t, packedModel, b[:len(b)-100])
	if o := invoke(t, "diff", "notes", packedModel); o.code != exitFailed || !strings.Contains(o.stderr, "unsealed container") {
		t.Errorf("code %d: %s", o.code, o.stderr)
	}
}

// Many pieces give the same result on any number of processors, in little memory.
func TestDiffPieces(t *testing.T) {
	t.Chdir(t.TempDir())
	r := rand.New(rand.NewPCG(1, 2))
	const n = 3*compareElements + 12345
	a := make([]byte, 2*n)
	for i := range a {
		a[i] = byte(r.Uint32())
	}
	b := append([]byte(nil), a...)
	var wantChanged int64
	for i := 0; i < n; i += 1 + r.IntN(100) {
		b[2*i] ^= 1
		wantChanged++
	}
	fileA, fileB := tensors(testTensor{"w", "BF16", []int{n}, a}), tensors(testTensor{"w", "BF16", []int{n}, b})
	first := diffOf(t, fileA, fileB)
	if got := first.Tensors[0]; got.Changed != wantChanged || got.Elements != n {
		t.Errorf("%+v, %d changed", got, wantChanged)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if second := diffOf(t, fileA, fileB); *second.Tensors[0].Mean != *first.Tensors[0].Mean {
		t.Errorf("mean %v, then %v", *first.Tensors[0].Mean, *second.Tensors[0].Mean)
	}
}

// Every f16 is what a conversion by the book gives.
func TestHalves(t *testing.T) {
	for u, got := range halves() {
		exponent, fraction := u>>10&31, u&0x3ff
		var v float64
		switch exponent {
		case 31:
			v = math.Inf(1)
			if fraction != 0 {
				v = math.NaN()
			}
		case 0:
			v = float64(fraction) / (1 << 24)
		default:
			v = (1 + float64(fraction)/1024) * math.Pow(2, float64(exponent-15))
		}
		if u>>15 == 1 {
			v = -v
		}
		if float64(got) != v && !(math.IsNaN(v) && math.IsNaN(float64(got))) {
			t.Fatalf("%04x: %v, not %v", u, got, v)
		}
	}
}

func TestDiffArguments(t *testing.T) {
	fixture(t)
	if o := invoke(t, "diff", packedModel); o.code != exitUsage {
		t.Errorf("code %d", o.code)
	}
	o := invoke(t, "diff", packedModel, "absent")
	want(t, "standard error", o.stderr, "mithrilfs: stat absent: no such file or directory\n")
	if o.code != exitFailed || o.stdout != "" {
		t.Errorf("code %d, %s", o.code, o.stdout)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	defer func() { _ = full.Close() }()
	var stderr bytes.Buffer
	if code := run([]string{"diff", packedModel, packedModel}, nil, full, &stderr); code != exitFailed {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}
