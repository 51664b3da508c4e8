package series

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
)

var (
	ranks   = flag.Int("ranks", 6, "ranks of TestRanks")
	saves   = flag.Int("saves", 5, "steps of TestRanks, at least 5")
	weights = flag.Int("weights", 8<<10, "weights of each rank of TestRanks")
)

// Model, moving average and optimizer of every rank, of equal layouts, and a run
// that went back to its third step: each file finds its own family, at a cost that
// grows with the number of files.
func TestRanks(t *testing.T) {
	l := newLab(t)
	var want [][]string
	for rank := range *ranks {
		run := newTraining(uint64(rank), *weights)
		main, branch := make([][]string, 3), make([][]string, 3)
		save := func(of [][]string, dir string, step int, run *training) {
			for i, c := range []checkpoint{run.model(codec.BF16), run.average(codec.BF16), run.optimizer()} {
				rel := fmt.Sprintf("%s/step_%d/rank_%02d/%s.safetensors", dir, step, rank, []string{"model", "ema", "optim"}[i])
				l.save(rel, c)
				of[i] = append(of[i], rel)
			}
		}
		var other *training
		for step := 1; step <= *saves; step++ {
			run.step()
			save(main, "run", step, run)
			if step == 3 {
				other = run.branch(uint64(1000 + rank))
			}
		}
		for step := 4; step <= *saves; step++ {
			other.step()
			save(branch, "again", step, other)
		}
		want = append(want, main...)
		want = append(want, branch...)
	}
	start := time.Now()
	members := l.members()
	scan := time.Since(start)
	families, err := l.grouper.Group(context.Background(), members)
	must(t, err)
	group := time.Since(start) - scan
	coded := l.grouper.Coded()
	t.Logf("%d files: scan %v, group %v, %d samples coded", len(members), scan, group, coded)
	if limit := 2*len(members) + 3*len(families); coded > limit {
		t.Errorf("%d samples were coded for %d files", coded, len(members))
	}
	compareFamilies(t, families, want)

	start = time.Now()
	again := l.families()
	t.Logf("again: %v", time.Since(start))
	if l.grouper.Coded() != coded || describeFamilies(again) != describeFamilies(families) {
		t.Errorf("%d more samples were coded the second time", l.grouper.Coded()-coded)
	}
}

func compareFamilies(t *testing.T, families []Family, want [][]string) {
	t.Helper()
	var lines []string
	for _, f := range want {
		lines = append(lines, strings.Join(f, " ")+"\n")
	}
	slices.Sort(lines)
	got := strings.SplitAfter(describeFamilies(families), "\n")
	got = got[:len(got)-1]
	slices.Sort(got)
	for i := range max(len(got), len(lines)) {
		if i >= len(got) || i >= len(lines) || got[i] != lines[i] {
			t.Fatalf("%d families, not %d; the first that differs:\n%swant\n%s", len(got), len(lines), strings.Join(got[i:min(i+1, len(got))], ""), strings.Join(lines[i:min(i+1, len(lines))], ""))
		}
	}
}

const testWeights = 8 << 10

// Which files are of one family, by how they are named and what they hold.
func TestGroup(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(l *lab)
		want string
	}{
		{"no step in any name", func(l *lab) {
			a, b := newTraining(1, testWeights), newTraining(2, testWeights)
			for _, name := range []string{"x", "f", "m"} {
				a.step()
				b.step()
				l.save("a"+name+".st", a.model(codec.BF16))
				l.save("b"+name+".st", b.model(codec.BF16))
			}
		}, "ax.st af.st am.st\nbx.st bf.st bm.st\n"},
		{"one name, two runs", func(l *lab) {
			a, b := newTraining(1, testWeights), newTraining(2, testWeights)
			for step := range 3 {
				a.step()
				l.save(fmt.Sprintf("step-%d.st", step), a.model(codec.BF16))
			}
			for step := range 2 {
				b.step()
				l.save(fmt.Sprintf("step-%d.st", 3+step), b.model(codec.BF16))
			}
		}, "step-0.st step-1.st step-2.st\nstep-3.st step-4.st\n"},
		{"resumed elsewhere", func(l *lab) {
			a := newTraining(1, testWeights)
			for step := range 4 {
				a.step()
				l.save(fmt.Sprintf("%s/checkpoint-%d/model.st", []string{"z", "z", "b", "b"}[step], step*100), a.model(codec.BF16))
			}
			u := newTraining(3, testWeights)
			l.save("b/other-900.st", u.model(codec.BF16))
		}, "b/other-900.st\nz/checkpoint-0/model.st z/checkpoint-100/model.st b/checkpoint-200/model.st b/checkpoint-300/model.st\n"},
		{"best, last and copies", func(l *lab) {
			a := newTraining(1, testWeights)
			for step := range 4 {
				a.step()
				l.save(fmt.Sprintf("run/checkpoint-%d/model.st", step*10), a.model(codec.BF16))
				if step == 1 {
					l.save("run/best.st", a.model(codec.BF16))
				}
			}
			l.save("run/last.st", a.model(codec.BF16))
			l.copy("run/checkpoint-10/model.st", "kept/checkpoint-10/model.st")
			l.copy("run/checkpoint-20/model.st", "kept/checkpoint-20/model.st")
		}, "run/checkpoint-0/model.st run/checkpoint-10/model.st run/checkpoint-20/model.st run/checkpoint-30/model.st" +
			" [kept/checkpoint-10/model.st copy of run/checkpoint-10/model.st] [kept/checkpoint-20/model.st copy of run/checkpoint-20/model.st]" +
			" [run/best.st copy of run/checkpoint-10/model.st] [run/last.st copy of run/checkpoint-30/model.st]\n"},
		{"exports", func(l *lab) {
			a := newTraining(1, testWeights)
			for step := range 3 {
				a.step()
				l.save(fmt.Sprintf("master/step_%d.st", step), a.model(codec.F32))
				l.save(fmt.Sprintf("export/step_%d.st", step), a.model(codec.BF16))
				l.save(fmt.Sprintf("ema/step_%d.st", step), a.average(codec.BF16))
			}
			a.step()
			l.save("export/step_3.st", a.model(codec.BF16))
			a.step()
			l.save("export/step_4.st", a.model(codec.BF16))
		}, "ema/step_0.st ema/step_1.st ema/step_2.st\nexport/step_3.st export/step_4.st\n" +
			"master/step_0.st master/step_1.st master/step_2.st [export/step_0.st export of master/step_0.st]" +
			" [export/step_1.st export of master/step_1.st] [export/step_2.st export of master/step_2.st]\n"},
		{"other shapes", func(l *lab) {
			l.save("step-1.st", newTraining(1, testWeights).model(codec.BF16))
			l.save("step-2.st", newTraining(1, testWeights*2).model(codec.BF16))
		}, "step-1.st\nstep-2.st\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			c.make(l)
			if got := describeFamilies(l.families()); got != c.want {
				t.Fatalf("\n%swant\n%s", got, c.want)
			}
			// What has been coded stays where it is, without any sample.
			before := l.grouper.Coded()
			l.compact(Options{})
			l.grouper = NewGrouper(l, nil)
			if got := describeFamilies(l.families()); got != c.want {
				t.Errorf("coded:\n%swant\n%s", got, c.want)
			}
			t.Logf("%d samples, then %d", before, l.grouper.Coded())
			l.verify()
			if n := l.compact(Options{}); n > 0 {
				t.Errorf("%d more actions", n)
			}
		})
	}
}

// Many runs of one layout, in one directory, whose names tell nothing: sketches find
// the few candidates that are worth coding.
func TestManyWithoutSteps(t *testing.T) {
	l := newLab(t)
	const runs, files = 12, 3
	want := make([][]string, runs)
	var training []*training
	for run := range runs {
		training = append(training, newTraining(uint64(run), testWeights/2))
	}
	for file := range files {
		for run := range runs {
			run = (run*5 + file*7) % runs
			training[run].step()
			name := fmt.Sprintf("%c%c.st", 'a'+run*7%runs, 'a'+(run*3+file*5)%23)
			l.save(name, training[run].model(codec.BF16))
			want[run] = append(want[run], name)
		}
	}
	compareFamilies(t, l.families(), want)
	coded, limit := l.grouper.Coded(), (maxTries+1)*runs*files
	t.Logf("%d samples for %d files", coded, runs*files)
	if coded > limit {
		t.Errorf("%d samples were coded for %d files", coded, runs*files)
	}
}

// A container that was copied as it is has the generation of the original, so
// nothing tells which of them a dependent means: the copy stays alone.
func TestSameGeneration(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	for step := range 3 {
		run.step()
		l.save(fmt.Sprintf("step-%d.st", step), run.model(codec.BF16))
	}
	same, err := os.ReadFile(l.path("step-1.st"))
	must(t, err)
	must(t, os.WriteFile(l.path("step-5.st"), same, 0o600))
	if got := describeFamilies(l.families()); got != "step-0.st step-1.st step-2.st\nstep-5.st\n" {
		t.Errorf("\n%s", got)
	}
}

// copy makes a copy with another generation and the times of the original.
func (l *lab) copy(from, to string) {
	l.t.Helper()
	r, done, err := l.open(l.path(from))
	must(l.t, err)
	defer done()
	log := r.Log()
	l.write(to, container.NewGeneration(), container.Dependence{}, nil, log.Format, log.Tensors, l.logical[from])
	st, err := os.Stat(l.path(from))
	must(l.t, err)
	must(l.t, os.Chtimes(l.path(to), st.ModTime(), st.ModTime()))
	l.logical[to] = l.logical[from]
}

// A run that saves, rotates, deletes, goes back and is edited, with a real store's
// steps: what is on disk is small, every byte is right, and no pin is left over.
func TestCompaction(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	name := func(step int) string { return fmt.Sprintf("run/checkpoint-%d/model.st", step) }
	for step := 1; step <= 8; step++ {
		run.step()
		l.save(name(step), run.model(codec.BF16))
		if n := l.compact(Options{Depth: 4}); n > 2 {
			t.Errorf("%d actions for step %d", n, step)
		}
		l.verify()
	}
	l.remove(name(7)) // a base of two
	l.verify()
	l.compact(Options{Depth: 4})
	l.verify()
	l.remove(name(8)) // the newest, and so the base of all others
	l.verify()
	l.compact(Options{Depth: 4})
	l.verify()
	run.step()
	l.save(name(3), run.model(codec.BF16)) // an older step is saved again
	l.verify()
	l.compact(Options{Depth: 4})
	l.verify()
	for step := 1; step <= 6; step++ {
		l.remove(name(step))
		l.compact(Options{Depth: 4})
	}
	pins, err := os.ReadDir(l.path(pinDir))
	must(t, err)
	if len(pins) > 0 {
		t.Errorf("%d pins are left of nothing", len(pins))
	}
	if l.log.Len() > 0 {
		t.Errorf("log:\n%s", l.log.String())
	}
}

// What a plan saves is told before, about.
func TestEstimate(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, 64<<10)
	for step := range 12 {
		run.step()
		l.save(fmt.Sprintf("step-%d.st", step), run.model(codec.BF16))
	}
	f := l.families()[0]
	if f.Gains[0] < 0.3 || f.Gains[1] == 0 {
		t.Errorf("gains of %v", f.Gains)
	}
	actions := Plan(f, Options{})
	e, err := l.grouper.Estimate(context.Background(), actions)
	must(t, err)
	l.compact(Options{})
	var now int64
	for _, m := range l.families()[0].Members[:11] {
		now += m.Stored
	}
	t.Logf("%d bytes, %d expected, %d found; gains %.3v", e.Now, e.After, now, f.Gains)
	if diff := e.After - now; len(actions) != 11 || diff < -now/5 || diff > now/5 || e.Saved() != e.Now-e.After {
		t.Errorf("%d actions from %d to %d bytes, found %d", len(actions), e.Now, e.After, now)
	}
}

// broken is a Sampler that can't read some files.
type broken struct {
	*lab
	rel string
}

var errDisk = errors.New("the disk is on fire")

func (b broken) ReadSample(ctx context.Context, m *Member, p []byte, off int64) error {
	if m.Rel == b.rel {
		return errDisk
	}
	return b.lab.ReadSample(ctx, m, p, off)
}

// A file that can't be read is alone; an end of the context ends everything.
func TestGroupErrors(t *testing.T) {
	l := newLab(t)
	run := newTraining(1, testWeights)
	for step := range 5 {
		run.step()
		l.save(fmt.Sprintf("step-%d.st", step), run.model(codec.BF16))
	}
	g := l.grouper
	g.tester.sampler = broken{l, "step-2.st"}
	if got := describeFamilies(l.families()); got != "step-0.st step-1.st step-3.st step-4.st\nstep-2.st\n" {
		t.Errorf("\n%s", got)
	}
	if strings.Count(l.log.String(), "step-2.st: reading a sample: the disk is on fire") != 1 {
		t.Errorf("log:\n%s", l.log.String())
	}
	g.tester.sampler = l // it is tried again
	if got := describeFamilies(l.families()); strings.Count(got, "\n") != 1 {
		t.Errorf("\n%s", got)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errDisk)
	members := l.members()
	fresh := NewGrouper(l, nil)
	if _, err := fresh.Group(ctx, members); !errors.Is(err, errDisk) {
		t.Errorf("Group: %v", err)
	}
}
