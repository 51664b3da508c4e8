package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/store"
)

// checkpoints are models of one run: from one to the next, every third weight
// moves to the next number of its type.
func checkpoints(t testing.TB, n int) [][]byte {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	list := [][]byte{model(t)}
	for range n - 1 {
		next := bytes.Clone(list[len(list)-1])
		for w := next[len(next)-weightSize:]; len(w) > 0; w = w[2:] {
			if rnd.IntN(3) == 0 {
				binary.LittleEndian.PutUint16(w, binary.LittleEndian.Uint16(w)+1)
			}
		}
		list = append(list, next)
	}
	return list
}

// TestCompact codes a run in a directory that is not mounted.
func TestCompact(t *testing.T) {
	saved := checkpoints(t, 4)
	t.Chdir(t.TempDir())
	for i, data := range saved {
		must(t, os.MkdirAll(fmt.Sprintf("plain/checkpoint-%d", i), 0o700))
		write(t, fmt.Sprintf("plain/checkpoint-%d/model.safetensors", i), data)
	}
	succeed(t, "pack", "plain", "packed")
	before, _, err := sum("packed")
	must(t, err)
	plan := decode[[]store.SeriesReport](t, "compact", "--dry-run", "--json", "packed")
	if len(plan) != 1 || plan[0].Files != 4 || plan[0].Planned == 0 || plan[0].Coded != 0 || plan[0].Before != before.Stored {
		t.Errorf("%+v", plan)
	}
	if now, _, err := sum("packed"); err != nil || now.Stored != before.Stored {
		t.Errorf("a dry run makes %+v of %+v, %v", now, before, err)
	}
	out := succeed(t, "compact", "packed/checkpoint-2")
	if !strings.Contains(out, "checkpoint-*/model.safetensors") {
		t.Error(out)
	}
	after, _, err := sum("packed")
	must(t, err)
	if after.Stored > before.Stored/2 || after.Logical != before.Logical {
		t.Errorf("%+v, before %+v", after, before)
	}
	succeed(t, "verify", "packed")
	succeed(t, "unpack", "packed", "unpacked")
	for i, data := range saved {
		name := fmt.Sprintf("checkpoint-%d/model.safetensors", i)
		if !bytes.Equal(read(t, "unpacked/"+name), data) {
			t.Errorf("%s has changed", name)
		}
		if got := succeed(t, "cat", "packed/"+name); got != string(data) {
			t.Errorf("cat of %s gives something else", name)
		}
	}
	if again := decode[[]store.SeriesReport](t, "compact", "--json", "packed"); len(again) != 1 || again[0].Coded != 0 {
		t.Errorf("once more: %+v", again)
	}
	s, err := store.Open("packed", store.Options{})
	must(t, err)
	o := invoke(t, "compact", "packed")
	must(t, s.Close())
	if o.code != exitBusy {
		t.Errorf("while another has the directory, the code is %d: %s", o.code, o.stderr)
	}
	if o := invoke(t, "compact", "unpacked"); o.code != exitFailed || !strings.Contains(o.stderr, errNoBacking.Error()) {
		t.Errorf("where mithrilfs never was, the code is %d: %s", o.code, o.stderr)
	}
	must(t, os.RemoveAll("packed/checkpoint-0"))
	must(t, os.RemoveAll("packed/checkpoint-1"))
	must(t, os.RemoveAll("packed/checkpoint-2"))
	want(t, "without a series", succeed(t, "compact", "packed"), "no checkpoints of one run found\n")
	want(t, "without a series, as JSON", succeed(t, "compact", "--json", "packed"), "[]\n")
}

func TestSeriesOptions(t *testing.T) {
	o, err := parseMountOptions([]string{"series=off,series-depth=7,series-cpu=0.25"})
	if s := o.Store.Series; err != nil || s.Enabled || s.Depth != 7 || s.CPU != 0.25 {
		t.Errorf("%+v, %v", s, err)
	}
	if o, err := parseMountOptions(nil); err != nil || !o.Store.Series.Enabled {
		t.Errorf("%+v, %v", o.Store.Series, err)
	}
	for _, bad := range []string{"series=maybe", "series", "series-depth=0", "series-depth=33", "series-cpu=0", "series-cpu=NaN", "series-speed=1"} {
		if _, err := parseMountOptions([]string{bad}); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", bad, err)
		}
	}
	cmd := (&app{}).mountCommand()
	if err := cmd.ParseFlags([]string{"--series=off", "--series-depth=3", "--series-cpu=2"}); err != nil {
		t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
