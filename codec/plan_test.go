package codec

import (
	"errors"
	"testing"
)

func TestMakePlan(t *testing.T) {
	seen := map[Plan]bool{}
	for width := -1; width <= 16; width++ {
		for rotation := -1; rotation <= 128; rotation++ {
			p, err := MakePlan(width, rotation)
			ok := (width == 1 || width == 2 || width == 4 || width == 8) && rotation >= 0 && rotation < 8*width
			if !ok {
				if !errors.Is(err, ErrPlan) {
					t.Errorf("MakePlan(%d, %d): error is %v", width, rotation, err)
				}
				continue
			}
			if err != nil || !p.Valid() || p.Width() != width || p.Rotation() != rotation {
				t.Errorf("MakePlan(%d, %d) is %v of %d, %d: %v", width, rotation, p, p.Width(), p.Rotation(), err)
			}
			seen[p] = true
		}
	}
	for v := range 256 {
		if p := Plan(v); p.Valid() != seen[p] {
			t.Errorf("0x%02x: Valid is %v", v, p.Valid())
		}
	}
}

// TestPlanValues pins the format.
func TestPlanValues(t *testing.T) {
	for _, c := range []struct {
		d    DType
		b    DType
		plan Plan
		size int
		name string
		text string
	}{
		{Bytes, 0, 0x00, 1, "bytes", "bytes"},
		{F8, 1, 0x00, 1, "f8", "bytes"},
		{I16, 2, 0x01, 2, "i16", "planes of 2"},
		{I32, 3, 0x02, 4, "i32", "planes of 4"},
		{I64, 4, 0x03, 8, "i64", "planes of 8"},
		{BF16, 5, 0x05, 2, "bf16", "planes of 2, rotated 1"},
		{F16, 6, 0x05, 2, "f16", "planes of 2, rotated 1"},
		{F32, 7, 0x06, 4, "f32", "planes of 4, rotated 1"},
		{F64, 8, 0x13, 8, "f64", "planes of 8, rotated 4"},
	} {
		if c.d != c.b || c.d.Plan() != c.plan || c.d.Size() != c.size || c.d.String() != c.name || c.plan.String() != c.text || !c.d.Valid() {
			t.Errorf("%v: value %d, plan 0x%02x (%v), size %d", c.d, uint8(c.d), uint8(c.d.Plan()), c.d.Plan(), c.d.Size())
		}
	}
	if d := DType(9); d.Valid() || d.Plan() != 0 || d.Size() != 1 || d.String() != "dtype(9)" {
		t.Errorf("DType 9 is %v, plan %v, size %d", d, d.Plan(), d.Size())
	}
	if p := Plan(8 << 2); p.String() != "invalid plan 0x20" {
		t.Errorf("Plan 0x20 is %q", p)
	}
}

func TestInvalidDTypeIsBytes(t *testing.T) {
	src := []byte("of no known type")
	frame, plan := NewEncoder().AppendFrame(nil, src, 200)
	got := make([]byte, len(src))
	if err := NewDecoder().DecodeFrame(got, frame, plan); err != nil || plan != 0 || string(got) != string(src) {
		t.Errorf("plan %v, %q: %v", plan, got, err)
	}
}
