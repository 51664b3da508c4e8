package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
)

var rewriteGolden = flag.Bool("golden", false, "write testdata/formats/v1 anew, with this version's format")

const goldenDir = "../../testdata/formats/v1"

// TestGolden: this version reads what version 1 of the format wrote. It, and every
// version after it, must go on doing so.
func TestGolden(t *testing.T) {
	if *rewriteGolden {
		writeGolden(t)
	}
	sums, err := os.ReadFile(filepath.Join(goldenDir, "SHA256SUMS"))
	must(t, err)
	cache := NewCache(1 << 20)
	cache.SetResolver(pinned{goldenDir, cache})
	codings := map[string]int{}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		b, err := os.ReadFile(filepath.Join(goldenDir, name))
		must(t, err)
		r, err := Open(bytes.NewReader(b), int64(len(b)), cache)
		must(t, err)
		if r.State().Sealed == strings.Contains(name, "unsealed") {
			t.Errorf("%s: %+v", name, r.State())
		}
		got := sha256.Sum256(contents(t, r))
		if hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s has other bytes", name)
		}
		replayed, log := replayAll(t, b), r.Log()
		if fmt.Sprint(replayed.Extents, replayed.Dependence, replayed.Size) != fmt.Sprint(log.Extents, log.Dependence, log.Size) {
			t.Errorf("%s: index and replay differ", name)
		}
		for _, e := range log.Extents {
			if err := r.Check(e.Frame); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			codings[fmt.Sprintf("coding %d with %d bases", e.Frame.Coding, e.Frame.Bases)]++
		}
		r.Close()
	}
	if len(codings) != 1+MaxBases {
		t.Errorf("only %v", codings)
	}
}

// pinned is the Resolver of a directory of pins.
type pinned struct {
	dir   string
	cache *Cache
}

func (p pinned) Resolve(_ context.Context, g Generation) (*Reader, func(), error) {
	b, err := os.ReadFile(filepath.Join(p.dir, ".mithrilfs/bases", hex.EncodeToString(g[:])))
	if err != nil {
		return nil, nil, err
	}
	r, err := Open(bytes.NewReader(b), int64(len(b)), p.cache)
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}

// golden collects files and the sums of their logical bytes.
type golden struct {
	t    testing.TB
	sums strings.Builder
}

func (g *golden) put(name string, stored, logical []byte) {
	g.t.Helper()
	path := filepath.Join(goldenDir, name)
	must(g.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(g.t, os.WriteFile(path, stored, 0o644))
	fmt.Fprintf(&g.sums, "%x  %s\n", sha256.Sum256(logical), name)
}

func writeGolden(t testing.TB) {
	t.Helper()
	g := &golden{t: t}
	g.full()
	g.edited()
	g.family()
	must(t, os.WriteFile(filepath.Join(goldenDir, "SHA256SUMS"), []byte(g.sums.String()), 0o644))
}

// full writes a container of each element type.
func (g *golden) full() {
	for _, d := range allTypes {
		data := steps(1, 1500, d, 7)[0]
		m := &memory{}
		w := newTestWriter(m)
		put(g.t, w, data, 0, d)
		must(g.t, w.Seal("numbers", []Tensor{{Name: "weights", DType: d.String(), Shape: []uint64{1500}, End: int64(len(data))}}))
		g.put("full-"+d.String(), m.bytes(), data)
	}
	data := bytes.Repeat([]byte("as it is, "), 7000) // matches, which only bytes have
	m := &memory{}
	w := newTestWriter(m)
	put(g.t, w, data, 0, codec.Bytes)
	must(g.t, w.Seal("bytes", nil))
	g.put("full-text", m.bytes(), data)
}

// edited writes containers of several generations, with holes, and one that was
// never sealed.
func (g *golden) edited() {
	b, data, _ := small(g.t)
	g.put("edited", b, data)
	m := &memory{}
	w := newTestWriter(m)
	put(g.t, w, []byte("hello"), 1000, codec.Bytes)
	must(g.t, w.SetSize(5000))
	must(g.t, w.Drain())
	holes := append(append(make([]byte, 1000), "hello"...), make([]byte, 3995)...)
	g.put("unsealed-holes", m.bytes(), holes)
	must(g.t, w.Seal("bytes", nil))
	g.put("holes", m.bytes(), holes)
}

// family writes dependents. All bases are pins only, as if their files had been
// deleted.
func (g *golden) family() {
	f := newFamily(1 << 20)
	f.frame = 4096
	data := steps(4, 3000, codec.BF16, 8)
	list := make([]*member, len(data))
	pin := func(i int) {
		gen := generation(i)
		g.put(".mithrilfs/bases/"+hex.EncodeToString(gen[:]), f.stored[gen], f.logical[gen])
	}
	for i := len(data) - 1; i >= 0; i-- {
		list[i] = &member{header: 64 + 8*i, tensors: []tensor{{codec.BF16, data[i]}, {codec.I32, steps(4, 50, codec.I32, 9)[i]}}}
		var gens []Generation
		var of []*member
		for k := i + 1; k < len(data); k++ {
			gens, of = append(gens, generation(k)), append(of, list[k])
		}
		f.add(g.t, generation(i), list[i], gens, of)
		if i > 0 {
			pin(i) // 3: full; 2: one base; 1: two bases
		}
	}
	g.put("three-bases", f.stored[generation(0)], f.logical[generation(0)])
	g.dependent(f, "equal", 10, list[1], 1, list[1])
	for i, d := range []codec.DType{codec.I16, codec.I64, codec.F16, codec.F32, codec.F64} {
		s := steps(2, 500, d, 10)
		base, m := &member{header: 16, tensors: []tensor{{d, s[1]}}}, &member{header: 8, tensors: []tensor{{d, s[0]}}}
		f.add(g.t, generation(20+i), base, nil, nil)
		pin(20 + i)
		g.dependent(f, "one-base-"+d.String(), 30+i, m, 20+i, base)
	}
	g.casts(f, pin)
	g.put("edited-dependent", editedDependent(g.t, f), f.logical[generation(50)])
}

// dependent writes m as generation i, against the base.
func (g *golden) dependent(f *family, name string, i int, m *member, base int, of *member) {
	f.add(g.t, generation(i), m, []Generation{generation(base)}, []*member{of})
	g.put(name, f.stored[generation(i)], f.logical[generation(i)])
}

// casts writes dependents of bases of another type.
func (g *golden) casts(f *family, pin func(int)) {
	wide := steps(1, 1000, codec.F32, 11)[0]
	base := &member{tensors: []tensor{{codec.F32, wide}}}
	f.add(g.t, generation(40), base, nil, nil)
	pin(40)
	var export []byte // what a bf16 export of these weights is
	for i := 0; i < len(wide); i += 4 {
		u := uint32(wide[i]) | uint32(wide[i+1])<<8 | uint32(wide[i+2])<<16 | uint32(wide[i+3])<<24
		u = (u + 0x7fff + u>>16&1) >> 16
		export = append(export, byte(u), byte(u>>8))
	}
	g.dependent(f, "cast", 41, &member{tensors: []tensor{{codec.BF16, export}}}, 40, base)
	near := steps(2, 1000, codec.BF16, 11)[0]
	g.dependent(f, "cast-difference", 42, &member{tensors: []tensor{{codec.BF16, near}}}, 40, base)
}

// editedDependent adds generation(50) to the family, a dependent that was edited
// after it was sealed, and returns how it is stored.
func editedDependent(t testing.TB, f *family) []byte {
	t.Helper()
	m := &member{header: 64, tensors: []tensor{{codec.BF16, steps(4, 3000, codec.BF16, 8)[0]}}}
	of := &member{header: 72, tensors: []tensor{{codec.BF16, f.logical[generation(1)][72:6072]}}}
	d := m.dependence([]Generation{generation(1)}, []*member{of})
	d.Bases[0].Size = int64(len(f.logical[generation(1)]))
	f.addDepending(t, generation(50), m, d)
	file := &memory{b: f.stored[generation(50)]}
	w, err := OpenWriter(file, int64(len(file.b)), f.cache, NewEncoders(2, 8<<20))
	must(t, err)
	put(t, w, []byte("edited"), 1001, codec.Bytes)
	must(t, w.Seal("bytes", nil))
	w.Close()
	copy(f.logical[generation(50)][1001:], "edited")
	got := make([]byte, len(f.logical[generation(50)]))
	_, err = io.ReadFull(io.NewSectionReader(openIn(t, f.cache, file.bytes()), 0, 1<<20), got)
	must(t, err)
	if !bytes.Equal(got, f.logical[generation(50)]) {
		t.Error("an edited dependent reads differently")
	}
	return file.bytes()
}
