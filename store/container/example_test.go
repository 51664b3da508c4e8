package container

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
)

var rewrite = flag.Bool("rewrite", false, "write the examples into docs/format.md anew")

// examples are the containers of docs/format.md, section 9.
func examples(t *testing.T) [2][]byte {
	data := make([]byte, 16)
	for i := range data {
		data[i] = byte(i + 1)
	}
	g := Generation([]byte("0123456789abcdef"))
	tensors := func(begin int64) []Tensor {
		return []Tensor{{Name: "w", DType: "BF16", Shape: []uint64{8}, Begin: begin, End: begin + 16}}
	}
	full := &memory{}
	w := newTestWriter(full)
	w.log.Generations[0] = g
	put(t, w, data, 0, codec.BF16)
	must(t, w.Seal("numbers", tensors(0)))

	dependent := &memory{}
	d := CreateDelta(dependent, Generation([]byte("fedcba9876543210")), Dependence{
		Bases:    []Base{{g, 16}},
		Segments: []Segment{{Begin: 4, End: 20, DType: codec.BF16, BaseDType: codec.BF16}},
	})
	must(t, d.Append(Piece{Data: []byte("HEAD")}))
	must(t, d.Append(Piece{Offset: 4, DType: codec.BF16, Data: data, Bases: []delta.Elements{{Data: data, Type: codec.BF16}}}))
	must(t, d.Seal("numbers", tensors(4), 20))
	return [2][]byte{full.bytes(), dependent.bytes()}
}

// TestExamplesOfSpec: the bytes that the spec shows are those that are written.
func TestExamplesOfSpec(t *testing.T) {
	const spec, begin, end = "../../docs/format.md", "```example\n", "```\n"
	doc, err := os.ReadFile(spec)
	must(t, err)
	parts := strings.Split(string(doc), begin)
	if len(parts) != 3 {
		t.Fatalf("the spec has %d examples", len(parts)-1)
	}
	for i, b := range examples(t) {
		want := dump(t, b)
		old, tail, ok := strings.Cut(parts[i+1], end)
		if !ok {
			t.Fatal("an example has no end")
		}
		if old != want && !*rewrite {
			t.Errorf("the spec's example is not what is written; if that is meant, run this test with -rewrite\n%s", want)
		}
		parts[i+1] = want + end + tail
	}
	if *rewrite {
		must(t, os.WriteFile(spec, []byte(strings.Join(parts, begin)), 0o644))
	}
}

// part is a piece of a container, with its name.
type part struct {
	name string
	at   int64
}

// dump shows a container with the parts' names.
func dump(t *testing.T, b []byte) string {
	t.Helper()
	r := open(t, b)
	tr, ok, err := readTrailer(strings.NewReader(string(b)), int64(len(b)))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	parts := []part{{"header", 0}}
	if len(r.Dependence().Bases) > 0 {
		parts = append(parts, part{"bases record", HeaderSize})
	}
	for _, e := range r.Log().Extents {
		parts = append(parts, part{"frame record", e.Frame.Position}, part{"zstd frame", e.Frame.DataPosition()})
	}
	parts = append(parts, part{"index", tr.index}, part{"trailer", tr.end}, part{"seek table", tr.end + trailerSize})
	var s strings.Builder
	for i, p := range parts {
		end := int64(len(b))
		if i+1 < len(parts) {
			end = parts[i+1].at
		}
		fmt.Fprintf(&s, "%s, %d bytes\n", p.name, end-p.at)
		for at := p.at; at < end; at += 16 {
			line := b[at:min(at+16, end)]
			fmt.Fprintf(&s, "%04x  %-47s  %s\n", at, hexBytes(line), printable(line))
		}
	}
	return s.String()
}

func hexBytes(b []byte) string {
	var s []string
	for _, c := range b {
		s = append(s, hex.EncodeToString([]byte{c}))
	}
	return strings.Join(s, " ")
}

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, string(latin(b)))
}

func latin(b []byte) []rune {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return r
}
