package container

import (
	"math"
	"reflect"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

// familyDependences returns dependences that containers may have.
func familyDependences() (names []string, list []Dependence) {
	a, b, c := Base{generation(1), 1000}, Base{generation(2), 4000}, Base{generation(3), 1000}
	add := func(name string, d Dependence) { names, list = append(names, name), append(list, d) }
	add("one", Dependence{[]Base{a}, []Segment{{100, 1100, 0, 0, codec.BF16, codec.BF16}}})
	add("without segments", Dependence{Bases: []Base{a}})
	add("cast", Dependence{[]Base{b}, []Segment{{64, 1064, 0, 2000, codec.BF16, codec.F32}}})
	add("three", Dependence{[]Base{a, b, c}, []Segment{
		{0, 100, 0, 900, codec.F16, codec.F16}, {100, 108, 0, 0, codec.I64, codec.I64}, {200, 300, 0, 10, codec.Bytes, codec.Bytes},
		{0, 100, 1, 0, codec.F16, codec.F32},
		{0, 300, 2, 700, codec.BF16, codec.BF16},
	}})
	return names, list
}

// TestDependenceRoundTrip: what a container may have is read as it was written.
func TestDependenceRoundTrip(t *testing.T) {
	names, list := familyDependences()
	for i, want := range list {
		r := appendBasesRecord(nil, &want, 5, generation(9))
		d, number, g, ok := parseBasesRecord(r)
		if !ok || number != 5 || g != generation(9) || !recordSumOK(r) || !reflect.DeepEqual(d, want) {
			t.Errorf("%s: %v, %+v", names[i], ok, d)
		}
	}
}

// TestImpossibleDependences are not accepted.
func TestImpossibleDependences(t *testing.T) {
	base := Base{generation(1), 1000}
	good := Segment{100, 1100, 0, 0, codec.BF16, codec.BF16}
	with := func(change func(*Segment)) Dependence {
		s := good
		change(&s)
		return Dependence{[]Base{base}, []Segment{s}}
	}
	for name, d := range map[string]Dependence{
		"four bases":            {Bases: []Base{base, {generation(2), 1}, {generation(3), 1}, {generation(4), 1}}},
		"the same base twice":   {Bases: []Base{base, base}},
		"a negative size":       {Bases: []Base{{generation(1), -1}}},
		"segments of no base":   {Segments: []Segment{good}},
		"another base":          with(func(s *Segment) { s.Base = 1 }),
		"empty":                 with(func(s *Segment) { s.End = s.Begin }),
		"backwards":             with(func(s *Segment) { s.Begin, s.End = s.End, s.Begin }),
		"before the file":       with(func(s *Segment) { s.Begin = -2 }),
		"before the base":       with(func(s *Segment) { s.Offset = -1 }),
		"past the base":         with(func(s *Segment) { s.Offset = 1 }),
		"far past the base":     with(func(s *Segment) { s.Offset = math.MaxInt64 }),
		"huge":                  with(func(s *Segment) { s.End = math.MaxInt64 - 1 }),
		"huge in the base":      with(func(s *Segment) { s.End, s.BaseDType = math.MaxInt64/2, codec.F32 }),
		"a part of an element":  with(func(s *Segment) { s.End-- }),
		"wider in the base":     with(func(s *Segment) { s.BaseDType = codec.F32 }),
		"types of other kinds":  with(func(s *Segment) { s.BaseDType = codec.I16 }),
		"an unknown type":       with(func(s *Segment) { s.DType, s.BaseDType = 9, 9 }),
		"overlapping segments":  {[]Base{base}, []Segment{{0, 10, 0, 0, 0, 0}, {9, 20, 0, 0, 0, 0}}},
		"segments out of order": {[]Base{base}, []Segment{{10, 20, 0, 0, 0, 0}, {0, 10, 0, 0, 0, 0}}},
		"bases out of order":    {[]Base{base, {generation(2), 99}}, []Segment{{0, 10, 1, 0, 0, 0}, {10, 20, 0, 0, 0, 0}}},
	} {
		if d.valid() {
			t.Errorf("%s is accepted", name)
		}
		if len(d.Bases) <= MaxBases && len(d.Bases) > 0 {
			if _, _, _, ok := parseBasesRecord(appendBasesRecord(nil, &d, 0, generation(9))); ok {
				t.Errorf("%s is read", name)
			}
		}
		w := CreateDelta(&memory{}, generation(1), d)
		if w.Append(Piece{Data: []byte{1}}) == nil || w.Seal("bytes", nil, 1) == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func TestRanges(t *testing.T) {
	_, list := familyDependences()
	three := list[3]
	for _, c := range []struct {
		begin, end int64
		want       []BaseRange
	}{
		{0, 100, []BaseRange{{900, 100, codec.F16}, {0, 200, codec.F32}, {700, 100, codec.BF16}}},
		{10, 14, []BaseRange{{910, 4, codec.F16}, {20, 8, codec.F32}, {710, 4, codec.BF16}}},
		{1, 11, nil},   // half an element
		{0, 3, nil},    // likewise
		{90, 102, nil}, // over two segments
		{100, 108, []BaseRange{{0, 8, codec.I64}}},
		{108, 110, nil}, // in none
		{299, 300, []BaseRange{{109, 1, codec.Bytes}}},
		{50, 50, nil},
		{300, 310, nil},
	} {
		if got := three.Ranges(c.begin, c.end); !reflect.DeepEqual(got, c.want) {
			t.Errorf("from %d to %d: %+v, want %+v", c.begin, c.end, got, c.want)
		}
	}
}
