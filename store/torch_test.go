package store

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/store/layout"
)

var allTypes = flag.Bool("alltypes", false, "compare torch's formats with safetensors in bf16, fp16 and fp32, not in bf16 only")

// torchSave runs testdata/torch/save.py and returns the names of what it wrote.
func torchSave(t *testing.T, args ...string) []string {
	t.Helper()
	py := os.Getenv("MITHRILFS_PYTHON")
	if py == "" {
		const why = "MITHRILFS_PYTHON is not set: use make test, or MITHRILFS_PYTHON=$(.ci/setup)"
		if slices.Contains(strings.Split(os.Getenv("MITHRILFS_REQUIRE"), ","), "python") {
			t.Fatalf("python is required here: %s", why)
		}
		t.Skipf("SKIPPED: %s", why)
	}
	out := t.TempDir()
	cmd := exec.Command(py, append([]string{"-B", "../testdata/torch/save.py", out}, args...)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("save.py: %v\n%s", err, b)
	}
	names, err := filepath.Glob(filepath.Join(out, "*.*"))
	must(t, err)
	return names
}

// keep writes data into a file of the store, as writes says, and returns what
// Inspect says after the last close.
func keep(t *testing.T, s *Store, name string, data []byte, writes [][2]int) Summary {
	t.Helper()
	f, err := s.Create(name, 0o600, Caller{})
	must(t, err)
	for _, w := range writes {
		_, err := f.WriteAt(data[w[0]:w[1]], int64(w[0]))
		must(t, err)
	}
	must(t, f.Release(true))
	got, err := readLogical(s, name)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatalf("%s: %d bytes are not what was written", name, len(got))
	}
	return look(t, s, name)
}

func look(t *testing.T, s *Store, name string) Summary {
	t.Helper()
	f, err := s.Open(context.Background(), name, Read)
	must(t, err)
	in, err := f.Inspect()
	must(t, err)
	sum := in.Summary()
	must(t, in.Close())
	must(t, f.Release(false))
	return sum
}

func tensorNames(t *testing.T, s *Store, name string) (list []string) {
	t.Helper()
	f, err := s.Open(context.Background(), name, Read)
	must(t, err)
	in, err := f.Inspect()
	must(t, err)
	for _, x := range in.Tensors(0, 1000) {
		list = append(list, x.Name)
	}
	must(t, in.Close())
	must(t, f.Release(false))
	slices.Sort(list)
	return list
}

// inSequence are writes of up to most bytes each.
func inSequence(r *rand.Rand, size, most int) (list [][2]int) {
	for at := 0; at < size; {
		n := min(1+r.IntN(most), size-at)
		list = append(list, [2]int{at, at + n})
		at += n
	}
	return list
}

// TestTorchRoundTrip: files of torch's formats, whole, cut, joined, with their
// pieces shuffled and written in any order, read back as they are, and so they
// do after an edit.
func TestTorchRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	var all []byte
	files := map[string][]byte{}
	for _, name := range torchSave(t, "trained", "3") {
		b, err := os.ReadFile(name)
		must(t, err)
		name = filepath.Base(name)
		files[name] = b
		all = append(all, b...)
	}
	files["joined"] = all
	for name, b := range files {
		format := layout.FormatTorch
		switch {
		case strings.HasSuffix(name, ".safetensors"):
			continue
		case strings.HasSuffix(name, ".legacy.pt"):
			format = layout.FormatTorchLegacy
		}
		sum := keep(t, s, name, b, inSequence(r, len(b), 300_000))
		if name != "joined" && sum.Format != format || sum.State != StateSealed {
			t.Errorf("%s is %s, %s", name, sum.Format, sum.State)
		}
		if name == "model.pt" || name == "model.legacy.pt" {
			keep(t, s, "again.safetensors", files["model.safetensors"], [][2]int{{0, len(files["model.safetensors"])}})
			if a, b := tensorNames(t, s, name), tensorNames(t, s, "again.safetensors"); !slices.Equal(a, b) || len(a) == 0 {
				t.Errorf("%s has tensors %q, as safetensors %q", name, a, b)
			}
			must(t, s.Unlink("again.safetensors"))
		}
		cut := b[:r.IntN(len(b))]
		keep(t, s, "cut "+name, cut, inSequence(r, len(cut), 100_000))
		blocks := inSequence(r, len(b), 200_000)
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		keep(t, s, "out of order "+name, b, blocks)
		var shuffled []byte
		for _, k := range blocks {
			shuffled = append(shuffled, b[k[0]:k[1]]...)
		}
		keep(t, s, "shuffled "+name, shuffled, inSequence(r, len(b), 300_000))
		changeSome(t, s, r, name, b)
	}
	must(t, s.Close())
}

// changeSome edits a sealed file in some places and appends to it.
func changeSome(t *testing.T, s *Store, r *rand.Rand, name string, b []byte) {
	t.Helper()
	b = bytes.Clone(b)
	f, err := s.Open(context.Background(), name, Write)
	must(t, err)
	for range 5 {
		p := make([]byte, 1+r.IntN(5000))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		at := r.IntN(len(b))
		b = append(b[:at], append(p, b[min(at+len(p), len(b)):]...)...)
		_, err := f.WriteAt(p, int64(at))
		must(t, err)
	}
	must(t, f.Release(true))
	got, err := readLogical(s, name)
	must(t, err)
	if !bytes.Equal(got, b) {
		t.Fatalf("%s: not what was written, after an edit", name)
	}
}

// TestTorchRatio: the same weights take the same space in all formats.
func TestTorchRatio(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("SKIPPED: saves a real model in four formats")
	}
	types := []string{"bfloat16"}
	if *allTypes {
		types = append(types, "float16", "float32")
	}
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	for _, dtype := range types {
		ratios := map[string]float64{}
		for _, name := range torchSave(t, "minilm", dtype) {
			b, err := os.ReadFile(name)
			must(t, err)
			name = filepath.Base(name)
			sum := keep(t, s, name, b, inSequence(rand.New(rand.NewPCG(1, 1)), len(b), 2<<20))
			ratios[name] = sum.Ratio
			t.Logf("%-22s %-13s %9d %9d %.4f", name, sum.Format, sum.Logical, sum.Stored, sum.Ratio)
		}
		if len(ratios) != 4 {
			t.Errorf("%s: %d formats", dtype, len(ratios))
		}
		for name, ratio := range ratios {
			if ratio < 0.995*ratios[dtype+".safetensors"] {
				t.Errorf("%s: ratio %.4f, as safetensors %.4f", name, ratio, ratios[dtype+".safetensors"])
			}
		}
	}
	must(t, s.Close())
}
