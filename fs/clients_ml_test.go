package fs

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mithrilfs/mithrilfs/store"
)

// mlClients are the clients of ml_clients.py. Those of quickClients need no
// import of transformers.
var (
	quickClients = []string{
		"dcp", "torch", "lightning", "numpy", "gguf", "hub", "safetensors-0.4.5", "safetensors-0.7.0", "safetensors-0.8.0",
	}
	mlClients = append(quickClients[:len(quickClients):len(quickClients)], "transformers", "trainer", "accelerate", "offload", "peft")
)

// mlReport is what ml_clients.py says of one client.
type mlReport struct {
	Seconds  []float64 `json:"seconds"`
	Problem  string    `json:"problem"`
	Skipped  string    `json:"skipped"`
	Volatile []string  `json:"volatile"`
}

// TestMachineLearningClients: what the libraries that people train with save and
// load on a mount is bit for bit what they save and load in a plain directory,
// also once the daemon has forgotten it.
func TestMachineLearningClients(t *testing.T) {
	names := mlClients
	if testing.Short() {
		names = quickClients
	}
	m := mountApart(t)
	plain := t.TempDir()
	var reports map[string]mlReport
	must(t, json.Unmarshal([]byte(client(t, "ml_clients.py", append([]string{plain, m.point}, names...)...)), &reports))
	m = m.remount(t)
	for name, want := range map[string]string{
		"numpy/a.npy": "npy: arr_0", "numpy/three.npy": "npy: arr_0 arr_1 arr_2", "numpy/some.npz": "npz: a b c",
		"gguf/model.gguf": "gguf: token_embd.weight blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_norm.weight blk.0.ffn_up.weight",
	} {
		if got := formatAndNames(t, filepath.Join(m.backing, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			r := reports[name]
			switch {
			case r.Skipped != "":
				missing(t, "python", r.Skipped)
			case r.Problem != "":
				t.Fatalf("%s\nthe daemon's log:\n%s", r.Problem, m.log)
			case len(r.Seconds) != 2:
				t.Fatalf("it did not run: %+v", r)
			}
			t.Logf("%.2f s in a plain directory, %.2f s on the mount", r.Seconds[0], r.Seconds[1])
			compareSaved(t, filepath.Join(plain, name), m.path(name), r.Volatile)
			checkContainers(t, filepath.Join(m.backing, name))
		})
	}
}

func formatAndNames(t *testing.T, path string) string {
	t.Helper()
	x, err := store.Inspect(path)
	must(t, err)
	defer func() { must(t, x.Close()) }()
	text := x.Summary().Format + ":"
	for _, tensor := range x.Tensors(0, 100) {
		text += " " + tensor.Name
	}
	return text
}

// compareSaved compares names, types, modes, links and bytes, but for the bytes
// of volatile files, which differ from run to run.
func compareSaved(t *testing.T, want, got string, volatile []string) {
	t.Helper()
	names := func(root string) (names []string) {
		must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			must(t, err)
			rel, err := filepath.Rel(root, path)
			names = append(names, rel)
			return err
		}))
		return names
	}
	list := names(want)
	if others := names(got); !slices.Equal(list, others) || len(list) < 2 {
		t.Fatalf("there are %q, want %q", others, list)
	}
	for _, name := range list {
		w, err := os.Lstat(filepath.Join(want, name))
		must(t, err)
		g, err := os.Lstat(filepath.Join(got, name))
		must(t, err)
		if w.Mode() != g.Mode() {
			t.Errorf("%s is %v, want %v", name, g.Mode(), w.Mode())
		}
		isVolatile := func(pattern string) bool {
			ok, err := filepath.Match(filepath.Base(pattern), filepath.Base(name))
			must(t, err)
			return ok
		}
		switch {
		case w.Mode().Type() == fs.ModeSymlink:
			a, err := os.Readlink(filepath.Join(want, name))
			must(t, err)
			if b, err := os.Readlink(filepath.Join(got, name)); err != nil || a != b {
				t.Errorf("%s leads to %q, want %q: %v", name, b, a, err)
			}
		case w.Mode().IsRegular() && !slices.ContainsFunc(volatile, isVolatile):
			a, err := os.ReadFile(filepath.Join(want, name))
			must(t, err)
			if b, err := os.ReadFile(filepath.Join(got, name)); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s has other bytes: %v", name, err)
			}
		}
	}
}

// checkContainers decodes every frame of the containers in a backing directory.
func checkContainers(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		if !d.Type().IsRegular() {
			return nil
		}
		x, err := store.Inspect(path)
		must(t, err)
		s := x.Summary()
		if s.State != store.StateSealed && s.State != store.StatePlain {
			t.Errorf("%s: %+v", path, s)
		}
		for i := range s.Frames {
			if err := x.Check(i); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if s.State == store.StateSealed {
			t.Logf("%-60s %-11s %8d bytes, ratio %.3f, %d tensors", d.Name(), s.Format, s.Logical, s.Ratio, s.Tensors)
		}
		return x.Close()
	}))
}
