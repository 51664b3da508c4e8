package series

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// randomMember has some of a number of tensors, in some order, with gaps. The
// element at an offset is told by the second result: the tensor and its index in it.
func randomMember(r *rand.Rand, shuffle bool) (*Member, map[int64]string) {
	m := &Member{Format: "safetensors", Generation: container.NewGeneration(), Size: 8 * int64(r.IntN(20))}
	at := map[int64]string{}
	names := []int{0, 1, 2, 3, 4, 5, 6, 7}
	if shuffle {
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	for _, name := range names {
		if r.IntN(5) == 0 {
			continue
		}
		m.Size += int64(r.IntN(3)) * 8 * int64(r.IntN(2))
		dtype, width := "BF16", int64(2)
		switch {
		case name == 3:
			dtype, width = "I64", 8
		case r.IntN(3) == 0:
			dtype, width = "F32", 4
		}
		shape := []uint64{uint64(1 + name), uint64(1 + r.IntN(4)/3)}
		t := container.Tensor{Name: fmt.Sprint("t", name), DType: dtype, Shape: shape, Begin: m.Size}
		for i := range int64(shape[0] * shape[1]) {
			at[m.Size] = fmt.Sprint(t.Name, " ", shape, " ", i)
			m.Size += width
		}
		t.End = m.Size
		m.Tensors = append(m.Tensors, t)
	}
	m.Size += int64(r.IntN(2)) * 16
	return m, at
}

// Each element of a segment is the same element of the same tensor in the base,
// and every tensor that both have is in one.
func TestDepend(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		m, here := randomMember(r, seed%2 == 0)
		a, inA := randomMember(r, seed%3 == 0)
		b, inB := randomMember(r, seed%5 == 0)
		there := []map[int64]string{inA, inB}
		d := Depend(m, []*Member{a, b})
		if len(d.Bases) != 2 || d.Bases[0].Generation != a.Generation || d.Bases[1].Size != b.Size {
			t.Fatalf("%+v", d.Bases)
		}
		found := []map[string]bool{{}, {}}
		for i, s := range d.Segments {
			if i > 0 {
				if p := d.Segments[i-1]; s.Base < p.Base || s.Base == p.Base && s.Begin < p.End {
					t.Fatalf("seed %d: segment %+v after %+v", seed, s, p)
				}
			}
			w, wb := int64(s.DType.Size()), int64(s.BaseDType.Size())
			if s.Begin >= s.End || s.End > m.Size || (s.End-s.Begin)%w != 0 || s.Offset+(s.End-s.Begin)/w*wb > d.Bases[s.Base].Size || !container.Castable(s.BaseDType, s.DType) {
				t.Fatalf("seed %d: %+v", seed, s)
			}
			for k := range (s.End - s.Begin) / w {
				x, y := here[s.Begin+k*w], there[s.Base][s.Offset+k*wb]
				if x != y {
					t.Fatalf("seed %d: %q is coded against %q by %+v", seed, x, y, s)
				}
				if x != "" {
					found[s.Base][x] = true
				}
			}
		}
		for base, elements := range there {
			for _, x := range elements {
				if slices.Contains(values(here), x) && !found[base][x] && typeOf(m, x) == typeOf([]*Member{a, b}[base], x) {
					t.Fatalf("seed %d: %s of base %d is in no segment", seed, x, base)
				}
			}
		}
	}
}

func values(m map[int64]string) (list []string) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

func typeOf(m *Member, element string) string {
	for _, t := range m.Tensors {
		if len(element) > len(t.Name) && element[:len(t.Name)] == t.Name {
			return t.DType
		}
	}
	return ""
}

// Tables that a hostile or unusual file may have: tensors that overlap, are empty,
// of no whole elements, out of order, or outside of the file.
func TestDependOddTables(t *testing.T) {
	m := &Member{Format: "safetensors", Size: 100, Tensors: []container.Tensor{
		{Name: "b", DType: "F32", Begin: 40, End: 60}, {Name: "a", DType: "F32", Begin: 0, End: 20},
		{Name: "overlap", DType: "F32", Begin: 50, End: 70}, {Name: "empty", DType: "F32", Begin: 70, End: 70},
		{Name: "odd", DType: "F32", Begin: 70, End: 77}, {Name: "outside", DType: "F32", Begin: 96, End: 104}}}
	d := Depend(m, []*Member{m})
	at := int64(0)
	for _, s := range d.Segments {
		if s.Begin != at || s.Offset != s.Begin {
			t.Errorf("%+v", d.Segments)
		}
		at = s.End
	}
	if at != 100 || len(d.Segments) != 4 {
		t.Errorf("%+v", d.Segments)
	}
	if d := Depend(m, nil); d.Bases != nil || d.Segments != nil {
		t.Errorf("%+v", d)
	}
}

func TestFingerprint(t *testing.T) {
	table := func(dtype string, order ...int) []container.Tensor {
		all := []container.Tensor{{Name: "a", DType: dtype, Shape: []uint64{2, 3}, Begin: 8, End: 20}, {Name: "b", DType: dtype, Shape: []uint64{6}, Begin: 20, End: 32}}
		var list []container.Tensor
		for _, i := range order {
			list = append(list, all[i])
		}
		return list
	}
	base := FingerprintOf("safetensors", table("BF16", 0, 1))
	if FingerprintOf("safetensors", table("BF16", 1, 0)) != base {
		t.Error("the order of tensors is part of the fingerprint")
	}
	if wide := FingerprintOf("safetensors", table("F32", 0, 1)); wide.Shape != base.Shape || wide.Types == base.Types {
		t.Error("types are not told from shapes")
	}
	reshaped, renamed := table("BF16", 0, 1), table("BF16", 0, 1)
	reshaped[0].Shape = []uint64{3, 2}
	renamed[1].Name = "c"
	for name, f := range map[string]Fingerprint{
		"format": FingerprintOf("torch", table("BF16", 0, 1)), "a tensor less": FingerprintOf("safetensors", table("BF16", 0)),
		"shape": FingerprintOf("safetensors", reshaped), "name": FingerprintOf("safetensors", renamed),
	} {
		if f.Shape == base.Shape {
			t.Errorf("%s makes no difference", name)
		}
	}
	if FingerprintOf("numbers", nil) != (Fingerprint{}) {
		t.Error("a file without tensors has a fingerprint")
	}
}

// Sketches of neighbours are near, of rounded files too, and those of others are
// not.
func TestSketch(t *testing.T) {
	l := newLab(t)
	run, other := newTraining(1, testWeights), newTraining(2, testWeights)
	l.save("a.st", run.model(codec.F32))
	l.save("b.st", run.model(codec.BF16))
	run.step()
	l.save("c.st", run.model(codec.F32))
	l.save("d.st", other.model(codec.F32))
	members := l.members()
	var s [4]sketch
	for i := range s {
		var err error
		s[i], err = l.grouper.tester.sketch(t.Context(), &members[i])
		must(t, err)
	}
	for i, limits := range [][2]int{{0, 0}, {0, 8}, {0, 8}, {80, 200}} { // two tensors have 256 bits
		if n := s[0].distance(&s[i]); n < limits[0] || n > limits[1] {
			t.Errorf("the distance to %s is %d", members[i].Rel, n)
		}
	}
	// Negative numbers are below positive ones, in every type.
	for _, c := range []struct {
		dtype codec.DType
		b     []byte // rising
	}{
		{codec.BF16, []byte{0x80, 0xff, 0x80, 0xbf, 0, 0x80, 0, 0, 0x80, 0x3f}},
		{codec.I16, []byte{0, 0x80, 0xff, 0xff, 0, 0, 1, 0, 0xff, 0x7f}},
		{codec.Bytes, []byte{0, 1, 2, 128, 255}},
		{codec.F64, append(make([]byte, 8), 0, 0, 0, 0, 0, 0, 0xf0, 0x3f)},
		{codec.I32, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
	} {
		for i := 1; i < len(c.b)/c.dtype.Size(); i++ {
			if ordinal(c.b, i-1, c.dtype) >= ordinal(c.b, i, c.dtype) {
				t.Errorf("%v: element %d is not above the one before", c.dtype, i)
			}
		}
	}
}
