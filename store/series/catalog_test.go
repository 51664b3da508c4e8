package series

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
)

func (l *lab) scan() []Member {
	l.t.Helper()
	members, err := l.catalog.Scan(context.Background())
	must(l.t, err)
	return members
}

func rels(members []Member) string {
	var list []string
	for _, m := range members {
		list = append(list, m.Rel)
	}
	return strings.Join(list, " ")
}

func (l *lab) put(rel string, data []byte) {
	l.t.Helper()
	must(l.t, os.MkdirAll(filepath.Dir(l.path(rel)), 0o755))
	must(l.t, os.WriteFile(l.path(rel), data, 0o644))
}

func (l *lab) get(rel string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(l.path(rel))
	must(l.t, err)
	return b
}

// What is listed, and with which attributes.
func TestScan(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	c := run.model(codec.BF16)
	l.save("b/checkpoint-20/model.st", c)
	run.step()
	l.save("a/model.st", run.model(codec.BF16))
	l.put("a/config.json", []byte("{}"))
	l.put("a/empty", nil)
	whole := l.get("a/model.st")
	l.put("a/unsealed.st", whole[:len(whole)/2])
	l.put(".mithrilfs/model.st", whole)
	l.put("a/.mithrilfs-new.x", whole)
	must(t, os.Symlink("model.st", l.path("a/link.st")))
	must(t, os.Symlink("a", l.path("c")))
	must(t, os.Link(l.path("a/model.st"), l.path("a/second.st")))
	must(t, unix.Mkfifo(l.path("a/fifo"), 0o600))
	members := l.scan()
	if rels(members) != "a/model.st b/checkpoint-20/model.st" {
		t.Fatalf("%s", rels(members))
	}
	_, data := c.layout()
	m := members[1]
	if m.Step != 20 || m.Place != "b/checkpoint-*/model.st" || m.Size != int64(len(data)) || m.Format != "safetensors" ||
		m.Stored != int64(len(l.get(m.Rel))) || m.Links != 1 || !m.Full() || len(m.Tensors) != 2 || m.Key.Inode == 0 ||
		time.Since(m.Mtime) < time.Hour || m.Layout != members[0].Layout {
		t.Errorf("%+v", m)
	}
	if &m.Tensors[0] != &members[0].Tensors[0] {
		t.Error("equal tables are kept twice")
	}
	if members[0].Links != 2 || members[0].Step != NoStep {
		t.Errorf("%+v", members[0])
	}
	if l.log.Len() > 0 {
		t.Errorf("log:\n%s", l.log.String())
	}
}

// A file that has not changed is not opened again.
func TestScanAgain(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	for step := range 5 {
		run.step()
		l.save(fmt.Sprintf("step-%d.st", step), run.model(codec.BF16))
	}
	first := l.scan()
	entry := l.catalog.known[first[0].Key]
	must(t, os.Rename(l.path("step-1.st"), l.path("step-9.st")))
	l.save("step-2.st", newTraining(1, 2*testWeights).model(codec.BF16))
	must(t, os.Remove(l.path("step-3.st")))
	second := l.scan()
	if rels(second) != "step-0.st step-2.st step-4.st step-9.st" || second[1].Generation == first[2].Generation || second[3].Step != 9 {
		t.Errorf("%s", rels(second))
	}
	if l.catalog.known[second[0].Key] != entry {
		t.Error("a file that has not changed was read again")
	}
	if n := len(l.catalog.known); n != 4 {
		t.Errorf("%d files are remembered", n)
	}
	if len(l.catalog.tables) != 2 {
		t.Errorf("%d layouts are remembered", len(l.catalog.tables))
	}
}

// A damaged file is logged once, and is left alone.
func TestScanDamage(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	l.save("step-1.st", run.model(codec.BF16))
	l.save("step-2.st", run.model(codec.BF16))
	b := l.get("step-1.st")
	for name, at := range map[string]int{"header": 30, "index": len(b) - 400, "trailer": len(b) - 100} {
		d := append([]byte(nil), b...)
		d[at] ^= 1
		l.put("damaged/"+name, d)
	}
	for range 3 {
		members := l.scan()
		if got := rels(members); got != "step-1.st step-2.st" {
			t.Errorf("%s", got)
		}
	}
	if n := strings.Count(l.log.String(), "\n"); n != 2 { // without a trailer it is not sealed
		t.Errorf("log:\n%s", l.log.String())
	}
	must(t, os.RemoveAll(l.path("damaged")))
	l.scan()
	if len(l.catalog.known) != 2 {
		t.Errorf("%d files are remembered", len(l.catalog.known))
	}
}

// A directory that can't be listed hides what is in it and nothing else.
func TestScanUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("SKIPPED: root reads everything")
	}
	l := newLab(t)
	l.save("a/step-1.st", newTraining(1, testWeights).model(codec.BF16))
	l.save("b/step-1.st", newTraining(1, testWeights).model(codec.BF16))
	must(t, os.Chmod(l.path("a"), 0))
	defer func() { must(t, os.Chmod(l.path("a"), 0o700)) }()
	if got := rels(l.scan()); got != "b/step-1.st" {
		t.Errorf("%s", got)
	}
}

// What is mounted below is another directory, and may hide dependents.
func TestScanMounts(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	l.save("a/step-1.st", run.model(codec.BF16))
	l.save("b/step-1.st", run.model(codec.BF16))
	g := container.NewGeneration()
	l.put(fmt.Sprintf("%s/%x", pinDir, g[:]), nil)
	time.Sleep(2 * clockTick)
	l.scan()
	if len(l.catalog.Unneeded()) != 1 {
		t.Fatal("a pin of nothing is needed")
	}
	if err := unix.Mount("none", l.path("a"), "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	defer func() { must(t, unix.Unmount(l.path("a"), 0)) }()
	must(t, os.WriteFile(l.path("a/step-2.st"), l.get("b/step-1.st"), 0o600))
	time.Sleep(2 * clockTick)
	if got := rels(l.scan()); got != "b/step-1.st" {
		t.Errorf("%s", got)
	}
	if len(l.catalog.Unneeded()) != 0 {
		t.Error("a pin is not needed although a directory can't be seen")
	}
	if l.log.Len() > 0 {
		t.Errorf("log:\n%s", l.log.String())
	}
}

// Pins go when nothing depends on them, and never while something that was not
// seen may.
func TestUnneeded(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	for step := range 3 {
		run.step()
		l.save(fmt.Sprintf("run/step-%d.st", step), run.model(codec.BF16))
	}
	for _, a := range Plan(l.families()[0], Options{Bases: 1}) {
		l.run(a)
	}
	unneeded := func() int {
		time.Sleep(2 * clockTick)
		members := l.scan()
		for _, m := range members {
			if m.Links != 1 {
				t.Errorf("%s has %d names", m.Rel, m.Links)
			}
		}
		return len(l.catalog.Unneeded())
	}
	if n := unneeded(); n != 0 || len(l.catalog.Pins()) != 2 {
		t.Fatalf("%d of %d pins are not needed", n, len(l.catalog.Pins()))
	}
	// The same dependents, not sealed.
	for _, rel := range []string{"run/step-0.st", "run/step-1.st"} {
		b := l.get(rel)
		must(t, os.Remove(l.path(rel)))
		l.put(rel, b[:len(b)-10])
	}
	if n := unneeded(); n != 0 {
		t.Errorf("%d pins are not needed by dependents that are not sealed", n)
	}
	must(t, os.Remove(l.path("run/step-0.st")))
	if n := unneeded(); n != 1 {
		t.Errorf("%d pins, not 1", n)
	}
	must(t, os.Remove(l.path("run/step-1.st")))
	if n := unneeded(); n != 1 { // which needs the other one
		t.Errorf("%d pins, not 1", n)
	}
	damaged := l.get("run/step-2.st")
	damaged[30] ^= 1
	l.put("run/damaged.st", damaged)
	if n := unneeded(); n != 0 {
		t.Errorf("%d pins are not needed beside a damaged file", n)
	}
	must(t, os.Remove(l.path("run/damaged.st")))
	l.scan() // right after a change
	if n := len(l.catalog.Unneeded()); n != 0 {
		t.Errorf("%d pins are not needed although the directory has only just changed", n)
	}
	time.Sleep(2 * clockTick)
	l.scan()
	l.catalog.dirs[1].ctime.Nsec ^= 1
	if l.catalog.unchanged() {
		t.Error("a directory that changed is not noticed")
	}
}

// A base that has only its pin may have bases itself, of which the same is true.
func TestUnneededChain(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	for step := range 4 {
		run.step()
		l.save(fmt.Sprintf("step-%d.st", step), run.model(codec.BF16))
	}
	for _, a := range Plan(l.families()[0], Options{Bases: 1}) {
		l.run(a)
	}
	for _, rel := range []string{"step-1.st", "step-2.st", "step-3.st"} {
		l.remove(rel)
	}
	for want := range 4 { // without step 0, one pin after the other
		time.Sleep(2 * clockTick)
		if got := rels(l.scan()); want == 0 && got != "step-0.st" {
			t.Errorf("%s", got)
		}
		unneeded := l.catalog.Unneeded()
		if len(unneeded) != min(want, 1) {
			t.Fatalf("%d of %d pins are not needed", len(unneeded), len(l.catalog.Pins()))
		}
		if want == 0 {
			l.verify()
			l.remove("step-0.st")
		}
		for _, p := range unneeded {
			must(t, os.Remove(l.path(fmt.Sprintf("%s/%x", pinDir, p.Generation[:]))))
		}
	}
	if n := len(l.catalog.known); n > 1 {
		t.Errorf("%d files are remembered", n)
	}
}

// Pins that are not named like one are nobody's.
func TestPins(t *testing.T) {
	l := newLab(t)
	l.put(pinDir+"/readme", nil)
	l.put(pinDir+"/abcd", nil)
	g := container.NewGeneration()
	l.put(fmt.Sprintf("%s/%x", pinDir, g[:]), nil)
	l.scan()
	if pins := l.catalog.Pins(); len(pins) != 1 || pins[0].Generation != g || pins[0].Links != 1 {
		t.Errorf("%v", pins)
	}
}
