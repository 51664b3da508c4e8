package container

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

var rewrite = flag.Bool("rewrite", false, "write the example into docs/format.md anew")

// exampleContainer is the container of docs/format.md, section 8.
func exampleContainer(t *testing.T) []byte {
	m := &memory{}
	w := newTestWriter(m)
	w.log.Generations[0] = Generation([]byte("0123456789abcdef"))
	put(t, w, []byte{1, 2, 3, 4}, 0, codec.BF16)
	must(t, w.Seal("numbers", []Tensor{{Name: "w", DType: "BF16", Shape: []uint64{2}, End: 4}}))
	return m.bytes()
}

// TestExampleOfSpec: the bytes that the spec shows are those that are written.
func TestExampleOfSpec(t *testing.T) {
	const spec = "../../docs/format.md"
	doc, err := os.ReadFile(spec)
	must(t, err)
	b := exampleContainer(t)
	want := dump(t, b)
	head, tail, ok := strings.Cut(string(doc), "```example\n")
	old, _, closed := strings.Cut(tail, "```\n")
	if !ok || !closed {
		t.Fatal("the spec has no example")
	}
	if old == want {
		return
	}
	if !*rewrite {
		t.Fatalf("the spec's example is not what is written; if that is meant, run this test with -rewrite\n%s", want)
	}
	doc = []byte(head + "```example\n" + want + "```\n")
	must(t, os.WriteFile(spec, doc, 0o644))
}

// dump shows a container with the parts' names.
func dump(t *testing.T, b []byte) string {
	t.Helper()
	l := open(t, b).Log()
	f := l.Extents[0].Frame
	tr, ok, err := readTrailer(strings.NewReader(string(b)), int64(len(b)))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	parts := []struct {
		name string
		at   int64
	}{
		{"header", 0}, {"frame record", f.Position}, {"zstd frame", f.DataPosition()},
		{"index", tr.index}, {"trailer", tr.end}, {"seek table", tr.end + trailerSize}, {"", int64(len(b))},
	}
	var s strings.Builder
	for i, p := range parts[:len(parts)-1] {
		fmt.Fprintf(&s, "%s, %d bytes\n", p.name, parts[i+1].at-p.at)
		for at := p.at; at < parts[i+1].at; at += 16 {
			line := b[at:min(at+16, parts[i+1].at)]
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
