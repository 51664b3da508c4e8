package layout

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
)

const torchFixtures = "../../testdata/torch"

// fixtureHead is how many bytes Detect sees of a fixture, which must be less
// than most of them have.
const fixtureHead = 2000

// arrive lets data arrive in front of a layout as a saving does: nothing is
// there that the layout was not asked about. It returns the regions, in order.
func arrive(t testing.TB, data []byte, head int) (Layout, []Region) {
	src := source(data)
	src.arrived, src.size = 0, -1
	l := Detect(data[:min(head, len(data))], src)
	if l == nil {
		return nil, nil
	}
	var regions []Region
	for off := int64(0); off < int64(len(data)); {
		r, err := l.Region(off)
		if err != nil || r.Begin > off || r.End <= off {
			t.Fatalf("at %d: %+v, %v", off, r, err)
		}
		r.Begin = off
		off = min(r.End, int64(len(data)))
		r.End = off
		src.arrived = off
		if n := len(regions); n > 0 && regions[n-1].DType == codec.Bytes && r.DType == codec.Bytes && r.End-r.Begin < torchMinRegion {
			regions[n-1].End = r.End // structure comes in pieces
			continue
		}
		regions = append(regions, r)
	}
	return l, regions
}

// span is a storage of a fixture.
type span struct {
	begin, end int64
	class      string
}

func (s *span) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&s.begin, &s.end, &s.class})
}

func torchTruth(t testing.TB) map[string][]span {
	b, err := os.ReadFile(filepath.Join(torchFixtures, "truth.json"))
	if err != nil {
		t.Fatal(err)
	}
	var truth map[string][]span
	if err := json.Unmarshal(b, &truth); err != nil {
		t.Fatal(err)
	}
	if len(truth) < 15 {
		t.Fatalf("only %d fixtures", len(truth))
	}
	return truth
}

func torchFixture(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join(torchFixtures, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTorchRegions: each large storage of numbers is a region, exactly, and no
// other bytes are but some that follow it.
func TestTorchRegions(t *testing.T) {
	for name, spans := range torchTruth(t) {
		if name == "protocol4.pt" {
			continue // see TestTorchUnexpected
		}
		t.Run(name, func(t *testing.T) {
			data := torchFixture(t, name)
			for _, head := range []int{100, fixtureHead, 1 << 20} {
				l, regions := arrive(t, data, head)
				if l == nil || l.Problem() != nil {
					t.Fatalf("head %d: %v", head, l)
				}
				if want := strings.HasSuffix(name, ".legacy.pt"); l.Format() == FormatTorchLegacy != want {
					t.Errorf("format %q", l.Format())
				}
				if name == "big_endian.pt" {
					spans = nil
				}
				checkSpans(t, spans, regions)
			}
		})
	}
}

// TestTorchKnown: what was numbers when a file was written is so when it is
// edited.
func TestTorchKnown(t *testing.T) {
	for name := range torchTruth(t) {
		l, regions := arrive(t, torchFixture(t, name), 1<<20)
		if l == nil {
			continue // protocol4.pt
		}
		known := Known(l.Format(), l.Tensors())
		for _, r := range regions {
			i := slices.IndexFunc(l.Tensors(), func(x Tensor) bool { return x.Begin == r.Begin })
			if name == "big_endian.pt" || i < 0 || r.DType == codec.Bytes {
				continue
			}
			if k, err := known.Region(r.Begin); err != nil || k.Begin != r.Begin || k.DType != r.DType {
				t.Errorf("%s: %+v was written, %+v is known: %v", name, r, k, err)
			}
		}
	}
}

// TestTorchBigEndian: numbers of the other byte order are bytes.
func TestTorchBigEndian(t *testing.T) {
	legacy := torchFixture(t, "optimizer.legacy.pt")
	at := bytes.Index(legacy, []byte("little_endian")) + len("little_endian")
	at += bytes.IndexByte(legacy[at:], 0x88)
	legacy[at] = 0x89
	for _, data := range [][]byte{legacy, torchFixture(t, "big_endian.pt")} {
		l, regions := arrive(t, data, 1<<20)
		if l == nil || l.Problem() != nil || len(l.Tensors()) != 18 {
			t.Fatalf("%v", l)
		}
		for _, r := range regions {
			if r.DType != codec.Bytes {
				t.Errorf("%s: %+v", l.Format(), r)
			}
		}
	}
}

// TestZipDescribes: descriptors are of two lengths, and the bytes after them
// decide which.
func TestZipDescribes(t *testing.T) {
	for _, c := range []struct {
		name string
		b    string
		size int64
		want int
	}{
		{"short", "PK\x07\x08crc!\x05\x00\x00\x00\x05\x00\x00\x00PK\x03\x04", 5, 16},
		{"short, of another size", "PK\x07\x08crc!\x05\x00\x00\x00\x05\x00\x00\x00PK\x03\x04", 6, 0},
		{"short, before nothing of the zip", "PK\x07\x08crc!\x05\x00\x00\x00\x05\x00\x00\x00ABCD", 5, 0},
		{"long", "PK\x07\x08crc!\x05\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00PK\x03\x04", 5, 24},
		{"long, of nothing", "PK\x07\x08crc!\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00PK\x03\x04", 0, 24},
		{"short, of nothing", "PK\x07\x08crc!\x00\x00\x00\x00\x00\x00\x00\x00PK\x03\x04", 0, 16},
		{"beyond 4 GiB", "PK\x07\x08crc!\x05\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00PK\x01\x02", 1<<32 + 5, 24},
		{"short, beyond 4 GiB", "PK\x07\x08crc!\x05\x00\x00\x00\x05\x00\x00\x00PK\x01\x02", 1<<32 + 5, 0},
		{"no signature", "PK\x07\x09crc!\x05\x00\x00\x00\x05\x00\x00\x00PK\x03\x04", 5, 0},
	} {
		b := make([]byte, zipDescriptorRoom)
		copy(b, c.b)
		if got := zipDescribes(b, c.size); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// checkSpans compares regions with what is true. An UntypedStorage may be of any
// type.
func checkSpans(t *testing.T, spans []span, regions []Region) {
	t.Helper()
	want, untyped := map[Region]bool{}, map[Region]bool{}
	for _, s := range spans {
		class, ok := torchStorageClass("torch", s.class)
		if !ok {
			t.Fatalf("class %s", s.class)
		}
		r := Region{s.begin, s.end, class.codec()}
		switch {
		case s.end-s.begin < torchMinRegion:
		case s.class == "UntypedStorage":
			untyped[Region{s.begin, s.end, 0}] = true
		case r.DType != codec.Bytes:
			want[r] = true
		}
	}
	for i, r := range regions {
		follows := i > 0 && regions[i-1].End == r.Begin && regions[i-1].DType == r.DType && r.End-r.Begin < torchMinRegion
		if r.DType != codec.Bytes && !want[r] && !untyped[Region{r.Begin, r.End, 0}] && !follows {
			t.Errorf("%+v is no storage", r)
		}
		delete(want, r)
	}
	for r := range want {
		t.Errorf("%+v is missing", r)
	}
}

// TestTorchNames: tensors have the names that their place in the object gives
// them, and the types and shapes of torch.
func TestTorchNames(t *testing.T) {
	for name, want := range map[string][]string{
		"state_dict.pt": {"0.weight float32 [32 48]", "0.bias float32 [32]", "1.weight float32 [32]", "1.bias float32 [32]",
			"2.weight float32 [16 32]", "2.bias float32 [16]"},
		"module.pt": {"0.weight float32 [32 48]", "0.bias float32 [32]", "1.weight float32 [32]", "1.bias float32 [32]",
			"2.weight float32 [16 32]", "2.bias float32 [16]"},
		"optimizer.pt": {"state.0.step float32 []", "state.0.exp_avg float32 [32 48]", "state.0.exp_avg_sq float32 [32 48]"},
		"nested.pt": {"model.layers.0.w float32 [24 32]", "model.layers.1.w float32 [24 32]", "model.layers.1.b.0 float32 [1000]",
			"model.layers.1.b.1 float32 [7]", "rng uint8 [5056]"},
		"views.pt": {"all, tied float32 [64 33]", "halves.a float32 [40 32]", "halves.b float32 [40 32]", "transposed float32 [40 30]",
			"parameter float32 [30 30]", "scalar float32 []", "storage uint8 [3600]"},
		"types.pt": {"float64 float64 [40 32]", "float16 float16 [40 32]", "bfloat16 bfloat16 [40 32]",
			"float8_e4m3fn float8_e4m3fn [40 32]", "float8_e5m2 float8_e5m2 [40 32]", "complex64 complex64 [40 32]"},
		"dcp.distcp": {"2/data/0 float32 [80 60]", "3/data/0 bfloat16 [3000]", "4/data/0 float32 []"},
	} {
		for _, name := range []string{name, strings.Replace(name, ".pt", ".legacy.pt", 1)} {
			if name == "types.legacy.pt" {
				continue // torch can't write one
			}
			l, _ := arrive(t, torchFixture(t, name), fixtureHead)
			if l == nil {
				t.Fatalf("%s is not recognised", name)
			}
			var got []string
			for _, x := range l.Tensors() {
				got = append(got, fmt.Sprint(x.Name, " ", x.DType, " ", x.Shape))
			}
			for _, w := range want {
				if !slices.Contains(got, w) {
					t.Errorf("%s: no %q in %q", name, w, got)
				}
			}
			checkTorchTensors(t, l.Tensors())
		}
	}
}

// TestTorchUnexpected: what torch would not load is left to the stride probe.
func TestTorchUnexpected(t *testing.T) {
	zip := torchFixture(t, "state_dict.pt")
	pkl := bytes.Index(zip, []byte("\x80\x02"))
	for name, alter := range map[string]func(b []byte) []byte{
		"protocol 4":      func([]byte) []byte { return torchFixture(t, "protocol4.pt") },
		"compressed":      func(b []byte) []byte { b[8] = 8; return b },
		"encrypted":       func(b []byte) []byte { b[6] |= 1; return b },
		"no root":         func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("archive/"), []byte("archive_")) },
		"another zip":     func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("data.pkl"), []byte("data.npy")) },
		"opcode":          func(b []byte) []byte { b[pkl+2] = 'i'; return b },
		"negative size":   func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("M\x00\x06t"), []byte("J\xff\xff\xff\xfft")) },
		"another size":    func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("M\x00\x06t"), []byte("M\x01\x06t")) },
		"unknown storage": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("FloatStorage"), []byte("FloatStorige")) },
		"storage not in file": func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("X\x01\x00\x00\x000"), []byte("X\x01\x00\x00\x009"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := alter(bytes.Clone(zip))
			if bytes.Equal(b, zip) {
				t.Fatal("nothing was altered")
			}
			if l, _ := arrive(t, b, 1<<20); l != nil && l.Problem() == nil {
				t.Errorf("taken for %s", l.Format())
			}
		})
	}
}

func randomF32(n int) []byte {
	return numbersOf(n, func(b []byte, v float64) []byte {
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	})
}

// TestTorchDamage: from where a file stops being torch's, what looks like
// numbers is still numbers.
func TestTorchDamage(t *testing.T) {
	data := randomF32(1 << 18)
	zip := torchZip([]made{{"a", "FloatStorage", 1 << 18, data}, {"b", "FloatStorage", 1 << 18, data}})
	at := bytes.Index(zip, []byte("made/data/1")) - zipLocalSize - 16
	if string(zip[at:at+4]) != zipDescriptor {
		t.Fatal("no descriptor")
	}
	zip[at] = 'Q'
	l, regions := arrive(t, zip, 1<<16)
	if l == nil || l.Problem() == nil {
		t.Fatalf("%v", l)
	}
	numbers := int64(0)
	for _, r := range regions {
		if r.DType == codec.F32 {
			if r.Begin%4 != 0 {
				t.Errorf("%+v is out of step", r)
			}
			numbers += r.End - r.Begin
		}
	}
	if numbers < 2<<20-2*stepMin {
		t.Errorf("only %d bytes are numbers: %v", numbers, regions)
	}
	if list := l.Tensors(); len(list) != 1 || list[0].Name != "a" {
		t.Errorf("%v", list)
	}
}

// TestTorchSequences: archives one after another, whole or cut, of either format.
func TestTorchSequences(t *testing.T) {
	a, b := torchFixture(t, "state_dict.pt"), torchFixture(t, "nested.legacy.pt")
	truth := torchTruth(t)
	shifted := func(name string, by int) (list []span) {
		for _, s := range truth[name] {
			list = append(list, span{s.begin + int64(by), s.end + int64(by), s.class})
		}
		return list
	}
	data := slices.Concat(a, b, a)
	l, regions := arrive(t, data, fixtureHead)
	if l == nil || l.Problem() != nil {
		t.Fatalf("%v", l)
	}
	checkSpans(t, slices.Concat(truth["state_dict.pt"], shifted("nested.legacy.pt", len(a)), shifted("state_dict.pt", len(a)+len(b))), regions)
	for cut := 0; cut < len(a); cut += 7 {
		l, _ := arrive(t, a[:cut], cut)
		if l == nil {
			continue
		}
		for _, x := range l.Tensors() {
			if x.End > int64(cut) {
				t.Errorf("cut at %d: %v", cut, x)
			}
		}
	}
}

var manyTensors = flag.Int("tensors", 200_000, "how many tensors TestTorchManyTensors makes; try 2000000")

// TestTorchManyTensors: a file of very many tiny tensors is told apart, within
// bounded memory.
func TestTorchManyTensors(t *testing.T) {
	n := *manyTensors
	tensors := make([]made, n)
	for i := range tensors {
		tensors[i] = made{"layer." + strconv.Itoa(i), "FloatStorage", 1, []byte("abcd")}
	}
	tensors[n-1] = made{"last", "FloatStorage", 1 << 20, make([]byte, 4<<20)}
	data := torchZip(tensors)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	l, regions := arrive(t, data, 1<<20)
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if l == nil || l.Problem() != nil {
		t.Fatalf("%v", l)
	}
	live := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d tensors, %d MB, of which %d MB pickle: %v, %d MB live", n, len(data)>>20, len(torchPickle(tensors))>>20, took, live>>20)
	if live > 160<<20 {
		t.Errorf("%d MB are held", live>>20)
	}
	numbers := int64(0)
	for _, r := range regions {
		if r.DType == codec.F32 {
			numbers += r.End - r.Begin
		}
	}
	if numbers < 4<<20 || numbers > 4<<20+torchMinRegion {
		t.Errorf("%d bytes are numbers", numbers)
	}
	checkTorchTensors(t, l.Tensors())
	runtime.KeepAlive(data)
}

// TestPickleHostile: what a pickle makes the interpreter hold is bounded, and it
// ends.
func TestPickleHostile(t *testing.T) {
	const many = 1 << 20
	rep := func(s string) []byte { return bytes.Repeat([]byte(s), many) }
	for name, data := range map[string][]byte{
		"marks":          rep("("),
		"values":         rep("N"),
		"nested tuples":  slices.Concat([]byte("N"), rep("\x85")),
		"full tuples":    rep("NNN\x87"),
		"memo":           slices.Concat([]byte("N"), rep("r\xff\xff\xff\x0f")),
		"late globals":   rep("ctorch\nfloat32\nr\x00\x00\xff\x0fb"),
		"lists":          slices.Concat([]byte("]"), rep("]a")),
		"dict in itself": slices.Concat([]byte("}q\x00"), rep("K\x01h\x00s")),
		"strings":        rep("X\x08\x00\x00\x00nonsenseb"),
		"sets":           slices.Concat([]byte("]"), rep("\x8fNba")),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			p := &pickle{state: &torchState{}}
			_, _, err := p.run(data)
			runtime.GC()
			runtime.ReadMemStats(&after)
			if live := int64(after.HeapAlloc) - int64(before.HeapAlloc); live > 100<<20 {
				t.Errorf("%d MB are held (%v)", live>>20, err)
			}
			checkPickle(t, p)
			runtime.KeepAlive(data)
		})
	}
}

// TestTorchRuns: what is between storages that are not large goes with them, in
// step with their elements, so that they share frames. Much else does not.
func TestTorchRuns(t *testing.T) {
	f32 := func(n int) made { return made{"t", "FloatStorage", n, make([]byte, 4*n)} }
	i64 := func(n int) made { return made{"t", "LongStorage", n, make([]byte, 8*n)} }
	for _, c := range []struct {
		name    string
		tensors []made
		want    []int // regions of numbers that follow each other without a gap
	}{
		{"one type", []made{f32(1000), f32(1000), f32(1000)}, []int{5}},
		{"a small one between", []made{f32(1000), f32(100), f32(1000)}, []int{3}},
		{"an odd one between", []made{f32(1000), i64(1), f32(1000)}, []int{3}},
		{"many odd ones between", []made{f32(1000), i64(1), i64(1), i64(1), i64(1), i64(1), f32(1000)}, []int{2, 1}},
		{"large ones", []made{f32(1 << 16), f32(1 << 16), f32(1000)}, []int{1, 1, 1}},
		{"only small ones", []made{f32(100), f32(100)}, nil},
	} {
		for format, data := range map[string][]byte{FormatTorch: torchZip(c.tensors), FormatTorchLegacy: legacyOf(c.tensors)} {
			l, regions := arrive(t, data, 1000)
			f, ok := l.(*torchFile)
			if !ok || f.problem != nil {
				t.Fatalf("%s, %s: %v", c.name, format, l)
			}
			var got []int
			for i, r := range f.regions {
				if i > 0 && f.regions[i-1].End == r.Begin {
					got[len(got)-1]++
				} else {
					got = append(got, 1)
				}
			}
			if format == FormatTorch && !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %v, want %v", c.name, format, got, c.want)
			}
			for _, r := range slices.Concat(f.regions, regions) {
				if r.DType == codec.F32 && (r.Begin-f.regions[0].Begin)%4 != 0 {
					t.Errorf("%s, %s: %+v is out of step", c.name, format, r)
				}
			}
		}
	}
}
