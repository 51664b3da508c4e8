package layout

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
// other bytes are.
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
	for _, r := range regions {
		if r.DType != codec.Bytes && !want[r] && !untyped[Region{r.Begin, r.End, 0}] {
			t.Errorf("%+v is no storage", r)
		}
		delete(want, r)
	}
	for r := range want {
		t.Errorf("%+v is missing", r)
	}
}
