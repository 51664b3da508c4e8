package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// trainFixture makes the directory ckpt with four steps of a run, one of which is
// kept as "best", and a model of another shape.
func trainFixture(t testing.TB) {
	t.Helper()
	data := model(t)
	t.Chdir(t.TempDir())
	const from = 8 // bits of weights begin behind the header
	header := from + int(binary.LittleEndian.Uint64(data))
	for step := 1; step <= 4; step++ {
		dir := fmt.Sprintf("plain/checkpoint-%d", 10*step)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := header + 2*step; i+1 < len(data); i += 14 {
			u := binary.LittleEndian.Uint16(data[i:])
			binary.LittleEndian.PutUint16(data[i:], u+1)
		}
		write(t, dir+"/model.safetensors", data)
		if step == 2 {
			write(t, "plain/best.safetensors", data)
		}
	}
	write(t, "plain/other.safetensors", tensors(testTensor{"w", "BF16", []int{64 << 10}, data[header : header+128<<10]}))
	write(t, "plain/notes.txt", []byte(notes))
	succeed(t, "pack", "plain", "ckpt")
}

// code keeps a file of ckpt as differences from others, as a store does.
func code(t testing.TB, name string, bases ...string) {
	t.Helper()
	m, _, err := memberOf(name)
	if err != nil {
		t.Fatal(err)
	}
	var others []*series.Member
	var contents []string
	for _, base := range bases {
		b, _, err := memberOf(base)
		if err != nil {
			t.Fatal(err)
		}
		others, contents = append(others, b), append(contents, succeed(t, "cat", base))
		pin := filepath.Join("ckpt", privateDir, "bases", hex.EncodeToString(b.Generation[:]))
		if err := os.MkdirAll(filepath.Dir(pin), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(base, pin); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	data, d := succeed(t, "cat", name), series.Depend(m, others)
	f, err := os.Create("part")
	if err != nil {
		t.Fatal(err)
	}
	w := container.CreateDelta(f, m.Generation, d)
	for _, s := range d.Segments {
		for at := s.Begin; s.Base == 0 && at < s.End; at += codec.FrameSize {
			end := min(at+codec.FrameSize, s.End)
			p := container.Piece{Offset: at, DType: s.DType, Data: []byte(data[at:end])}
			for i, r := range d.Ranges(at, end) {
				p.Bases = append(p.Bases, delta.Elements{Data: []byte(contents[i][r.Offset : r.Offset+r.Length]), Type: r.DType})
			}
			if err := w.Append(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Seal(m.Format, m.Tensors, m.Size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename("part", name); err != nil {
		t.Fatal(err)
	}
	if succeed(t, "cat", name) != data {
		t.Fatalf("%s has other bytes", name)
	}
}

func checkpointName(step int) string {
	return fmt.Sprintf("ckpt/checkpoint-%d/model.safetensors", step)
}

func TestLsSeries(t *testing.T) {
	trainFixture(t)
	row := func(step, form string, depth int, path string) string {
		stored := sizeOf(t, path)
		return fmt.Sprintf("%4s  %s  %5d  525.9 KiB  %s  %s  %s\n", step, form, depth, human(stored), ratioText(538516/float64(stored)), path)
	}
	before := succeed(t, "ls", "--series", "ckpt")
	for _, line := range []string{"ckpt/checkpoint-*/model.safetensors: 5 files, 2.6 MiB stored in 1.",
		"STEP  FORM       DEPTH    LOGICAL     STORED  RATIO  PATH\n",
		row("10", "full     ", 0, checkpointName(10)), row("-", "full copy", 0, "ckpt/best.safetensors"), "\n\n1 file belongs to no series\n"} {
		if !strings.Contains(before, line) {
			t.Errorf("no %q in\n%s", line, before)
		}
	}
	code(t, checkpointName(10), checkpointName(20))
	code(t, checkpointName(30), checkpointName(40))
	code(t, "ckpt/best.safetensors", checkpointName(20))
	after := succeed(t, "ls", "--series", "ckpt")
	for _, f := range []struct {
		step, form string
		depth      int
		path       string
	}{
		{"10", "delta", 1, checkpointName(10)}, {"20", "keyframe", 0, checkpointName(20)}, {"30", "delta", 1, checkpointName(30)},
		{"40", "full", 0, checkpointName(40)}, {"-", "delta copy", 1, "ckpt/best.safetensors"},
	} {
		if !strings.Contains(strings.Join(strings.Fields(after), " "), fmt.Sprintf(" %s %s %d 525.9 KiB ", f.step, f.form, f.depth)) {
			t.Errorf("no %v in\n%s", f, after)
		}
	}
	lists := decode[[]seriesList](t, "ls", "--series", "--json", "ckpt")
	if len(lists) != 2 || lists[0].Count != 5 || len(lists[0].Files) != 5 || lists[1].Count != 1 || lists[0].Name != "ckpt/checkpoint-*/model.safetensors" {
		t.Fatalf("%+v", lists)
	}
	var stored int64
	for _, f := range lists[0].Files {
		stored += sizeOf(t, f.Path)
	}
	first, best := lists[0].Files[0], lists[0].Files[4]
	if lists[0].Stored != stored || lists[0].Logical != 5*538516 || lists[0].Ratio != 5*538516/float64(stored) ||
		*first.Step != 10 || first.Bases[0] != checkpointName(20) || best.Step != nil || best.Relation != "copy" ||
		lists[0].Files[1].Form != formKeyframe || lists[0].Files[3].Form != formFull || len(lists[0].Files[3].Bases) != 0 {
		t.Errorf("%+v", lists[0])
	}
	if best.Stored > 2000 {
		t.Errorf("a copy takes %d bytes", best.Stored)
	}
	// The base is gone from where it was, and kept by its pin.
	if err := os.Remove(checkpointName(40)); err != nil {
		t.Fatal(err)
	}
	lists = decode[[]seriesList](t, "ls", "--series", "--json", "ckpt")
	if f := lists[0].Files[2]; f.Depth != 1 || len(f.Bases) != 1 || len(f.Bases[0]) != 32 {
		t.Errorf("%+v", f)
	}
}

func TestLsSeriesArguments(t *testing.T) {
	fixture(t)
	t.Chdir("packed")
	want(t, "the current directory", succeed(t, "ls", "--series"), "1 file belongs to no series\n")
	if err := os.Mkdir("empty", 0o755); err != nil {
		t.Fatal(err)
	}
	want(t, "JSON of an empty directory", succeed(t, "ls", "--series", "--json", "empty"), "[]\n")
	want(t, "an empty directory", succeed(t, "ls", "--series", "empty"), "")
	b := read(t, "model.safetensors")
	b[30] ^= 1
	write(t, "damaged.safetensors", b)
	o := invoke(t, "ls", "--series", "absent", ".")
	if o.code != exitFailed || o.stdout != "1 file belongs to no series\n" ||
		!strings.Contains(o.stderr, "stat absent: no such file or directory\n") || !strings.Contains(o.stderr, "damaged.safetensors: damaged container") {
		t.Errorf("code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
}
