package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/store"
)

func TestUsageErrors(t *testing.T) {
	fixture(t)
	const rangeHelp = ": give two byte offsets, the smaller one first, such as 0:8, 4096: or :4096\n"
	for _, c := range []struct{ args, stderr string }{
		{"mont x", "unknown command \"mont\" for \"mithrilfs\"\nhint: did you mean mount or umount?\n"},
		{"frobnicate", "unknown command \"frobnicate\" for \"mithrilfs\"\nhint: see mithrilfs --help\n"},
		{"ls", "requires at least 1 arg(s), only received 0\nhint: see mithrilfs ls --help\n"},
		{"stat a b", "accepts 1 arg(s), received 2\nhint: see mithrilfs stat --help\n"},
		{"mount a b c", "accepts between 1 and 2 arg(s), received 3\nhint: see mithrilfs mount --help\n"},
		{"verify --jsn x", "unknown flag: --jsn\nhint: see mithrilfs verify --help\n"},
		{"cat --range 8:4 plain/model.safetensors", `--range "8:4"` + rangeHelp},
		{"cat --range 8 plain/model.safetensors", `--range "8"` + rangeHelp},
		{"cat --range 1k: plain/model.safetensors", `--range "1k:"` + rangeHelp},
		{"cat --range -1: plain/model.safetensors", `--range "-1:"` + rangeHelp},
		{"cat --range 1000000: plain/model.safetensors", "plain/model.safetensors: --range begins at byte 1000000, but the file ends at 538516\n"},
		{"bench --limit 0 x", `--limit "0": give a size such as 1GiB` + "\n"},
		{"bench --time -1s x", "--time -1s: give a duration such as 500ms\n"},
		{"bench --limit 1Q x", `--limit "1Q": give a size such as 1GiB` + "\n"},
		{"mount -o ro,frob,nofail plain", "-o frob: unknown mount option; mithrilfs mount --help lists those there are\n"},
		{"mount -o cache=many plain", "-o cache=many: give a size such as cache=64MiB\n"},
		{"mount -o durability=never plain", "-o durability=never: durability is rename or fsync\n"},
		{"mount -o workers=0 plain", "-o workers=0: give a number from 1 on, such as workers=4\n"},
	} {
		o := invoke(t, strings.Fields(c.args)...)
		if o.code != exitUsage || o.stdout != "" {
			t.Errorf("%s: exit code %d, standard output %q", c.args, o.code, o.stdout)
		}
		want(t, "standard error of "+c.args, o.stderr, "mithrilfs: "+c.stderr)
	}
	if o := invoke(t); o.code != exitUsage || !strings.HasSuffix(o.stderr, "\nmithrilfs: no command given\n") {
		t.Errorf("no arguments: %d, %s", o.code, o.stderr)
	}
}

func TestFailures(t *testing.T) {
	fixture(t)
	for _, c := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"cat", "absent"}, "stat absent: no such file or directory\n"},
		{[]string{"ls", "absent"}, "stat absent: no such file or directory\n"},
		{[]string{"verify", "absent"}, "stat absent: no such file or directory\n"},
		{[]string{"bench", "absent"}, "stat absent: no such file or directory\n"},
		{[]string{"stat", "packed"}, "packed: is a directory: name a file in it\n"},
		{[]string{"cat", os.DevNull}, "/dev/null: is not a regular file\n"},
		{[]string{"pack", "absent", "new"}, "stat absent: no such file or directory\n"},
		{[]string{"pack", "plain", "packed"}, "create packed: file exists\nhint: choose a name that is not taken, or remove what has it\n"},
		{[]string{"unpack", "packed", "plain"}, "create plain: file exists\nhint: choose a name that is not taken, or remove what has it\n"},
		{[]string{"pack", "plain", "absent/new"}, "mkdir absent/new: no such file or directory\n"},
	} {
		o := invoke(t, c.args...)
		if o.code != exitFailed {
			t.Errorf("%v: exit code %d", c.args, o.code)
		}
		want(t, fmt.Sprintf("standard error of %v", c.args), o.stderr, "mithrilfs: "+c.stderr)
	}
}

func TestInUse(t *testing.T) {
	fixture(t)
	s, err := store.Open("packed", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	o := invoke(t, "pack", "plain/model.safetensors", "packed/more.safetensors")
	if o.code != exitBusy || !strings.Contains(o.stderr, "in use by another mithrilfs") || !strings.Contains(o.stderr, "\nhint: findmnt -t fuse.mithrilfs lists") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}

func TestPackAndUnpack(t *testing.T) {
	data := fixture(t)
	if got := read(t, packedNotes); string(got) != notes {
		t.Errorf("a text file became %q", got)
	}
	packedSize := sizeOf(t, packedModel)
	if packedSize*13 > int64(len(data))*10 {
		t.Errorf("%d bytes became %d", len(data), packedSize)
	}
	out := succeed(t, "unpack", "packed", "unpacked")
	want(t, "what unpack says", out, "unpacked: 525.9 KiB\n")
	if !bytes.Equal(read(t, "unpacked/model.safetensors"), data) {
		t.Error("the model came back different")
	}
	out = succeed(t, "pack", "plain/model.safetensors", "one")
	want(t, "what pack says", out, fmt.Sprintf("one: 1 file, 525.9 KiB stored in %s, ratio %.3f\n",
		human(sizeOf(t, "one")), float64(len(data))/float64(sizeOf(t, "one"))))
	succeed(t, "unpack", "one", "two")
	if !bytes.Equal(read(t, "two"), data) {
		t.Error("the single file came back different")
	}
}

func TestCat(t *testing.T) {
	data := fixture(t)
	write(t, "empty", nil)
	for _, c := range []struct {
		span     string
		from, to int
	}{
		{":", 0, len(data)}, {"0:8", 0, 8}, {":100", 0, 100}, {"1000:", 1000, len(data)},
		{"260000:270000", 260000, 270000}, {"5:5", 5, 5}, {"538000:999999999", 538000, len(data)},
	} {
		for _, name := range []string{packedModel, "plain/model.safetensors"} {
			if got := succeed(t, "cat", "--range", c.span, name); got != string(data[c.from:c.to]) {
				t.Errorf("cat --range %s %s: %d bytes that differ", c.span, name, len(got))
			}
		}
	}
	if got := succeed(t, "cat", "empty"); got != "" {
		t.Errorf("an empty file has %q", got)
	}
	if err := os.Remove("empty"); err != nil {
		t.Fatal(err)
	}
}

// A full disk, or a reader that went away, must not look like success.
func TestOutputError(t *testing.T) {
	fixture(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIPPED: ", err)
	}
	defer func() { _ = full.Close() }()
	for _, command := range []string{"cat", "ls", "stat", "verify"} {
		var stderr bytes.Buffer
		code := run([]string{command, packedModel}, nil, full, &stderr)
		if code != exitFailed || !strings.Contains(stderr.String(), "writing to standard output: write /dev/full: no space left on device\n") {
			t.Errorf("%s: exit code %d: %s", command, code, stderr.String())
		}
	}
}

func TestLs(t *testing.T) {
	data := fixture(t)
	stored := sizeOf(t, packedModel)
	head := " LOGICAL     STORED  RATIO  FORMAT       STATE   PATH\n"
	line := func(name string) string {
		return fmt.Sprintf("525.9 KiB  %s  %.3f  safetensors  sealed  %s\n", human(stored), float64(len(data))/float64(stored), name)
	}
	want(t, "ls of a file", succeed(t, "ls", packedModel), " "+head+line(packedModel))
	want(t, "ls of a directory", succeed(t, "ls", "packed"), " "+head+line(packedModel))
	all := succeed(t, "ls", "-R", "packed")
	want(t, "ls -R", all, " "+head+line(packedModel)+
		"     19 B       19 B  1.000  plain        plain   packed/run 1/notes.txt\n"+
		fmt.Sprintf("525.9 KiB  %s  %.3f                       2 files\n", human(stored+19), float64(len(data)+19)/float64(stored+19)))

	o := invoke(t, "ls", "absent", packedModel)
	if o.code != exitFailed || o.stdout != " "+head+line(packedModel) {
		t.Errorf("with an absent file: code %d\n%s", o.code, o.stdout)
	}
}

func TestLsJSON(t *testing.T) {
	data := fixture(t)
	out := succeed(t, "ls", "--json", "-R", "packed")
	rows := parse[[]map[string]any](t, out)
	if len(rows) != 2 {
		t.Fatalf("%d files", len(rows))
	}
	stored := sizeOf(t, packedModel)
	for key, value := range map[string]any{
		"path": packedModel, "logical_bytes": float64(len(data)), "stored_bytes": float64(stored),
		"ratio": float64(len(data)) / float64(stored), "format": "safetensors", "state": "sealed",
		"tensor_count": 2.0, "frame_count": 5.0,
	} {
		if rows[0][key] != value {
			t.Errorf("%s is %v, not %v", key, rows[0][key], value)
		}
	}
	if err := os.Mkdir("empty", 0o755); err != nil {
		t.Fatal(err)
	}
	want(t, "JSON of an empty directory", succeed(t, "ls", "--json", "empty"), "[]\n")
	want(t, "an empty directory", succeed(t, "ls", "empty"), "")
}

// Directories are listed sorted, through links, and without what the store
// keeps for itself.
func TestFilesOfDirectories(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"d/b", "d/a", "d/sub/c", "d/.mithrilfs/x", "d/.hidden"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, name, []byte("x"))
	}
	for link, target := range map[string]string{"l": "d", "d/link": "a"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path      string
		recursive bool
		files     string
	}{
		{"d", false, "d/.hidden d/a d/b"}, {"d", true, "d/.hidden d/a d/b d/sub/c"},
		{"l", true, "l/.hidden l/a l/b l/sub/c"}, {"d/link", true, "d/link"}, {"./d/", false, "d/.hidden d/a d/b"},
	} {
		list, err := files([]string{c.path}, c.recursive)
		if err != nil {
			t.Error(err)
		}
		want(t, c.path, strings.Join(list, " "), c.files)
	}
}

func TestStat(t *testing.T) {
	fixture(t)
	out := succeed(t, "stat", packedModel)
	for _, line := range []string{
		"path     " + packedModel + "\n", "format   safetensors\n", "state    sealed\n",
		"logical  525.9 KiB (538516 bytes)\n", "tensors  2\n", "frames   5\n",
		"\nDTYPE  SHAPE         LOGICAL     STORED  RATIO  PLAN  ", "  TENSOR\n",
		"\nBF16   [700, 384]  525.0 KiB  ", "  layer.weight\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if strings.Contains(out, "POSITION") {
		t.Error("frames are listed without --frames")
	}
	if out := succeed(t, "stat", "--frames", packedModel); strings.Count(out, "layer.weight\n") != 4 {
		t.Errorf("not 3 frames and a tensor named layer.weight in\n%s", out)
	}
}

func TestStatJSON(t *testing.T) {
	data := fixture(t)
	list := decode[[]map[string]any](t, "stat", "--json", packedModel)
	if len(list) != 1 {
		t.Fatalf("%d files", len(list))
	}
	tensors, frames := list[0]["tensors"].([]any), list[0]["frames"].([]any)
	if len(tensors) != 2 || len(frames) != 5 {
		t.Fatalf("%d tensors, %d frames", len(tensors), len(frames))
	}
	keys := func(v any) string {
		var names []string
		for name := range v.(map[string]any) {
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	want(t, "keys of tensors", keys(tensors[0]), "dtype logical_bytes name offset plan ratio shape stored_bytes")
	want(t, "keys of frames", keys(frames[0]), "bases generation logical_bytes number offset plan position stored_bytes tensor")

	x := decode[[]xray](t, "stat", "--json", packedModel)[0]
	weight := x.Tensors[1]
	if weight.Name != "layer.weight" || weight.DType != "BF16" || !slices.Equal(weight.Shape, []uint64{weightRows, weightCols}) ||
		weight.Logical != weightSize || weight.Offset+weight.Logical != int64(len(data)) {
		t.Errorf("%+v", weight)
	}
	plain := decode[[]map[string]any](t, "stat", "--json", packedNotes)[0]
	if fmt.Sprint(plain["tensors"], plain["frames"]) != "[] []" {
		t.Errorf("a plain file has %v, %v", plain["tensors"], plain["frames"])
	}
}

func TestVerify(t *testing.T) {
	fixture(t)
	want(t, "the report", succeed(t, "verify", "packed"), "ok        "+packedModel+"  (5 frames, 525.9 KiB)\n"+
		"plain     packed/run 1/notes.txt  (19 B without a checksum)\n"+
		"2 files, 525.9 KiB checked, 1 plain (19 B without a checksum)\n")
	list := decode[[]verdict](t, "verify", "--json", "packed")
	if len(list) != 2 || list[0].Result != resultOK || list[0].Checked != list[0].Logical ||
		list[1].Result != resultPlain || list[1].Checked != 0 {
		t.Errorf("%+v", list)
	}
	if out := succeed(t, "verify", "--json", "packed"); !strings.Contains(out, `"damage": []`) {
		t.Errorf("no empty damage in\n%s", out)
	}
}

func TestBench(t *testing.T) {
	data := fixture(t)
	type row = map[string]any
	list := decode[[]row](t, "bench", "--json", packedModel, packedNotes)
	if len(list) != 2 {
		t.Fatalf("%d files", len(list))
	}
	threads := list[0]["threads"].([]any)
	wantThreads := []float64{1}
	if n := runtime.GOMAXPROCS(0); n > 1 {
		wantThreads = append(wantThreads, float64(n))
	}
	if len(threads) != len(wantThreads) {
		t.Fatalf("%v", threads)
	}
	for i, v := range threads {
		r := v.(row)
		if r["threads"] != wantThreads[i] || r["encode_bytes_per_second"].(float64) <= 0 || r["decode_bytes_per_second"].(float64) <= 0 || len(r) != 3 {
			t.Errorf("%v", r)
		}
	}
	if list[0]["path"] != packedModel || list[0]["format"] != "safetensors" || list[0]["logical_bytes"] != float64(len(data)) ||
		list[0]["ratio"].(float64) < 1.4 || list[0]["entropy_ratio"].(float64) < 1.4 ||
		list[0]["memory_bytes"].(float64) < 0 {
		t.Errorf("%v", list[0])
	}
	out := succeed(t, "bench", "--limit", "64KiB", "--time", "1ms", packedModel)
	header, first, _ := strings.Cut(out, "\n")
	want(t, "columns", strings.Join(strings.Fields(header), " "), "LOGICAL RATIO BOUND MEMORY THREADS ENCODE DECODE FORMAT PATH")
	if !strings.HasPrefix(first, "64.0 KiB  ") {
		t.Errorf("\n%s", out)
	}
	write(t, "empty", nil)
	o := invoke(t, "bench", "empty")
	want(t, "standard error for an empty file", o.stderr, "mithrilfs: empty: is empty: there is nothing to measure\n")
}

// bench cuts a file into the very frames that the store makes.
func TestBenchFrames(t *testing.T) {
	data := fixture(t)
	x := decode[[]xray](t, "stat", "--json", packedModel)[0]
	format, regions, pieces := split(data)
	for i, at := 0, int64(0); i < len(regions); at, i = regions[i].End, i+1 {
		if regions[i].Begin != at || regions[i].End <= at {
			t.Fatalf("region %d: %+v begins after %d", i, regions[i], at)
		}
	}
	if last := regions[len(regions)-1].End; last != int64(len(data)) {
		t.Errorf("regions end at %d of %d", last, len(data))
	}
	if format != x.Format || len(pieces) != len(x.Frames) {
		t.Fatalf("%s in %d frames, not %s in %d", format, len(pieces), x.Format, len(x.Frames))
	}
	for i, p := range pieces {
		if int64(len(p.data)) != x.Frames[i].Logical {
			t.Errorf("frame %d has %d bytes, not %d", i, len(p.data), x.Frames[i].Logical)
		}
	}
}

func TestVersion(t *testing.T) {
	out := succeed(t, "version")
	if !strings.HasPrefix(out, "mithrilfs ") || !strings.Contains(out, ", container format 1, go") {
		t.Errorf("%q", out)
	}
	want(t, "--version", succeed(t, "--version"), out)
}

// Every command tells in its help how it is used and what its code means.
func TestHelp(t *testing.T) {
	for _, name := range []string{"", "mount", "umount", "ls", "stat", "cat", "diff", "pack", "unpack", "verify", "compact", "bench", "version", "completion", "help"} {
		out := succeed(t, append(strings.Fields(name), "--help")...)
		for _, part := range []string{"Usage:\n", "Examples:\n  ", exitCodeHelp()} {
			if !strings.Contains(out, part) {
				t.Errorf("help of %q has no %q", name, part)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := succeed(t, "completion", shell); !strings.Contains(out, "mithrilfs") {
			t.Errorf("no completion for %s", shell)
		}
	}
}

// TestInterrupt: a signal ends pack and unpack, which take away what is not
// complete.
func TestInterrupt(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "large", nil)
	if err := os.Truncate("large", 1<<40); err != nil { // of holes, so that it takes no space but much time
		t.Fatal(err)
	}
	for _, command := range []string{"pack", "unpack"} {
		done := make(chan outcome, 1)
		go func() { done <- invoke(t, command, "large", "copy") }()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			parts, err := filepath.Glob(".mithrilfs-part*")
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%s makes no part: %v", command, err)
			}
			if len(parts) > 0 {
				break
			}
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		o := <-done
		if o.code != exitFailed || !strings.Contains(o.stderr, "interrupt") {
			t.Errorf("%s: code %d: %s", command, o.code, o.stderr)
		}
		for _, pattern := range []string{".mithrilfs-part*", "copy"} {
			if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
				t.Errorf("%s left %v %v", command, left, err)
			}
		}
	}
}
