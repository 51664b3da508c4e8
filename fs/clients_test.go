package fs

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"

	"github.com/mithrilfs/mithrilfs/store"
)

// python is an interpreter with the pinned libraries, which .ci/setup installs.
func python(t testing.TB) string {
	t.Helper()
	py := os.Getenv("MITHRILFS_PYTHON")
	if py == "" {
		missing(t, "python", "MITHRILFS_PYTHON is not set: use make test, or MITHRILFS_PYTHON=$(.ci/setup)")
	}
	return py
}

// missing skips, or fails where the thing is required.
func missing(t testing.TB, what, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("MITHRILFS_REQUIRE"), ","), what) {
		t.Fatalf("%s is required here: %s", what, why)
	}
	t.Skipf("SKIPPED: %s", why)
}

// command runs a program and returns its standard output.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// client runs one of the scripts of testdata/clients.
func client(t testing.TB, script string, args ...string) string {
	t.Helper()
	return command(t, python(t), append([]string{"-B", filepath.Join("../testdata/clients", script)}, args...)...)
}

// saved is what the saving scripts print.
type saved struct {
	Files map[string]struct {
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	} `json:"files"`
}

func parseSaved(t testing.TB, out string) saved {
	t.Helper()
	var s saved
	must(t, json.Unmarshal([]byte(out), &s))
	if len(s.Files) == 0 {
		t.Fatal("nothing was saved")
	}
	return s
}

// TestRealClients: the real model, saved by the real save_file, used by the
// programs that people use, against checksums that were taken outside.
func TestRealClients(t *testing.T) {
	python(t)
	m := mountApart(t)
	out := client(t, "save_model.py", m.point)
	sums := filepath.Join(t.TempDir(), "sums.json")
	must(t, os.WriteFile(sums, []byte(out), 0o600))
	files := parseSaved(t, out)
	for range 2 {
		client(t, "check_model.py", m.point, sums)
		for name, f := range files.Files {
			if got := strings.Fields(command(t, "sha256sum", m.path(name)))[0]; got != f.SHA256 {
				t.Errorf("%s: sha256sum gives %s", name, got)
			}
		}
		m = m.remount(t)
	}
	const bf16 = "minilm-bf16.safetensors"
	command(t, "cp", "-a", m.path(bf16), m.path("copy"))
	command(t, "cmp", m.path(bf16), m.path("copy"))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	command(t, "cp", "-a", m.path(bf16), elsewhere)
	command(t, "mv", m.path("copy"), m.path("moved"))
	command(t, "cmp", elsewhere, m.path("moved"))
	command(t, "touch", "-r", elsewhere, sums)
	for _, name := range []string{m.path(bf16), m.path("moved"), elsewhere} {
		if got, want := command(t, "stat", "-c", "%s %a %Y", name), command(t, "stat", "-c", "%s %a %Y", elsewhere); got != want {
			t.Errorf("%s: size, mode and time are %s, want %s", name, got, want)
		}
	}
	if ls := command(t, "ls", "-l", m.point); !strings.Contains(ls, fmt.Sprint(files.Files[bf16].Bytes)) {
		t.Errorf("ls does not show the logical size:\n%s", ls)
	}
	command(t, "rm", m.path("moved"))
	m.unmount(t)
	for name, least := range map[string]float64{bf16: 1.50, "minilm-fp32.safetensors": 1.20, "minilm-fp16.safetensors": 1.17} {
		var du int64
		_, err := fmt.Sscan(command(t, "du", "-B1", filepath.Join(m.backing, name)), &du)
		must(t, err)
		if ratio := float64(files.Files[name].Bytes) / float64(du); ratio < least {
			t.Errorf("%s: ratio %.4f by du, want %.2f", name, ratio, least)
		} else {
			t.Logf("%s: ratio %.4f by du", name, ratio)
		}
	}
	otherDecoders(t, filepath.Join(m.backing, bf16), files.Files[bf16].SHA256)
}

// otherDecoders reads a container with everything that is not ours.
func otherDecoders(t *testing.T, name, want string) {
	t.Helper()
	planned := zstdProgram(t, name)
	if got := seekableGo(t, name); got != planned {
		t.Errorf("the Go seekable reader gives %s, the zstd program %s", got, planned)
	}
	var decoded struct {
		SHA256 string `json:"sha256"`
	}
	must(t, json.Unmarshal([]byte(client(t, "decode_seekable.py", name)), &decoded))
	if decoded.SHA256 != planned {
		t.Errorf("pyzstd gives %s, the zstd program %s", decoded.SHA256, planned)
	}
	reference := command(t, python(t), "-B", "../docs/mithrilfs_decode.py", name)
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(reference))); got != want {
		t.Errorf("the reference decoder gives %s, want %s", got, want)
	}
}

func zstdProgram(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath("zstd"); err != nil {
		missing(t, "zstd", "there is no zstd program")
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(command(t, "zstd", "-dc", "--", name))))
}

func seekableGo(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	d, err := zstd.NewReader(nil)
	must(t, err)
	defer d.Close()
	r, err := seekable.NewReader(f, d)
	must(t, err)
	defer func() { must(t, r.Close()) }()
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	must(t, err)
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// TestMemoryOfALargeSave: the daemon's memory does not follow the file's size.
func TestMemoryOfALargeSave(t *testing.T) {
	if raceDetector {
		t.Skip("SKIPPED: the race detector multiplies memory")
	}
	size := int64(2 << 30)
	if testing.Short() {
		size = 256 << 20
	}
	m := mountApart(t)
	out := client(t, "save_synthetic.py", m.path("big.safetensors"), "--bytes", fmt.Sprint(size), "--seed", "1")
	f := parseSaved(t, out).Files["big.safetensors"]
	saving := m.rss(t)
	if got := strings.Fields(command(t, "sha256sum", m.path("big.safetensors")))[0]; got != f.SHA256 {
		t.Errorf("sha256sum gives %s, want %s", got, f.SHA256)
	}
	t.Logf("%d bytes: %d MiB of memory to save them, %d MiB after loading", f.Bytes, saving>>20, m.rss(t)>>20)
	if rss := m.rss(t); rss > 256<<20 {
		t.Errorf("the daemon had %d MiB", rss>>20)
	}
	x, err := store.Inspect(filepath.Join(m.backing, "big.safetensors"))
	must(t, err)
	if s := x.Summary(); s.Logical != f.Bytes || s.Ratio < 1.45 {
		t.Errorf("%+v", s)
	}
	must(t, x.Close())
}
