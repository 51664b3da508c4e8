package series

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// world is a family that grows and shrinks while plans are carried out, as a store
// would do it.
type world struct {
	t       *testing.T
	o       Options
	f       Family
	next    uint64
	actions int  // carried out
	longest int  // most actions of one plan
	stops   bool // plans are left half done now and then
}

func newWorld(t *testing.T, o Options) *world { return &world{t: t, o: o} }

func (w *world) generation() (g container.Generation) {
	w.next++
	copy(g[:], fmt.Sprintf("%016d", w.next))
	return g
}

// save adds a full member with a step.
func (w *world) save(step int64) {
	m := Member{Rel: fmt.Sprintf("step-%d-%d", step, w.next), Generation: w.generation(), Size: 1000, Step: step, Links: 1}
	i, _ := slices.BinarySearchFunc(w.f.Members, step+1, func(m Member, s int64) int { return cmp.Compare(m.Step, s) })
	w.f.Members = slices.Insert(w.f.Members, i, m)
}

func (w *world) remove(i int) { w.f.Members = slices.Delete(w.f.Members, i, i+1) }

// edit gives a member another content. What depended on it has the old one, which
// is kept only by its pin.
func (w *world) edit(i int) { w.f.Members[i].Generation = w.generation() }

// files are all files of the family, members first.
func (w *world) files() []*Member {
	var list []*Member
	for i := range w.f.Members {
		list = append(list, &w.f.Members[i])
	}
	for i := range w.f.Leaves {
		list = append(list, &w.f.Leaves[i].Member)
	}
	return list
}

// settle carries out plans until nothing is left to do, which must be after one.
func (w *world) settle() {
	w.t.Helper()
	actions := Plan(w.f, w.o)
	w.longest = max(w.longest, len(actions))
	w.actions += len(actions)
	for k, a := range actions {
		w.run(a)
		w.checkCycles()
		if w.stops && k == len(actions)/2 && w.next%5 == 0 {
			// Execution ended early; what is planned next must do as well.
			w.f = clone(w.f)
			w.settle()
			return
		}
	}
	if again := Plan(w.f, w.o); len(again) > 0 {
		w.t.Fatalf("after %d actions there are %d more: %v\n%s", len(actions), len(again), describe(again), w)
	}
	w.check()
}

func clone(f Family) Family {
	f.Members, f.Leaves = slices.Clone(f.Members), slices.Clone(f.Leaves)
	return f
}

// run carries out one action, whose bases must be there.
func (w *world) run(a Action) {
	w.t.Helper()
	files := w.files()
	i := slices.IndexFunc(files, func(m *Member) bool { return m.Rel == a.Member.Rel })
	if i < 0 || files[i].fixed() {
		w.t.Fatalf("an action on %s", a.Member.Rel)
	}
	var bases []container.Base
	for _, b := range a.Bases {
		j := slices.IndexFunc(files, func(m *Member) bool { return m.Rel == b.Rel })
		if j < 0 || j == i || j >= len(w.f.Members) || files[j].Generation == files[i].Generation {
			w.t.Fatalf("%s is to be coded against %s", a.Member.Rel, b.Rel)
		}
		bases = append(bases, container.Base{Generation: b.Generation, Size: b.Size})
	}
	if len(bases) == 0 && files[i].Full() {
		w.t.Fatalf("%s is full already", a.Member.Rel)
	}
	files[i].Bases = bases
}

// byGeneration finds who holds what bases name.
func (w *world) byGeneration() map[container.Generation]*Member {
	x := make(map[container.Generation]*Member)
	for _, m := range w.files() {
		if _, ok := x[m.Generation]; !ok {
			x[m.Generation] = m
		}
	}
	return x
}

// checkCycles: nothing depends on itself, by contents.
func (w *world) checkCycles() {
	w.t.Helper()
	held := w.byGeneration()
	state := make(map[container.Generation]int)
	var visit func(g container.Generation)
	visit = func(g container.Generation) {
		m := held[g]
		if m == nil || state[g] == 2 {
			return
		}
		if state[g] == 1 {
			w.t.Fatalf("%s depends on itself\n%s", m.Rel, w)
		}
		state[g] = 1
		for _, b := range m.Bases {
			visit(b.Generation)
		}
		state[g] = 2
	}
	for g := range held {
		visit(g)
	}
}

// check is what holds of a family for which there is nothing to do.
func (w *world) check() {
	w.t.Helper()
	o := w.o.withDefaults()
	depths := w.depths()
	for i, m := range w.files() {
		member := i < len(w.f.Members)
		for _, b := range m.Bases {
			j := slices.IndexFunc(w.f.Members, func(x Member) bool { return x.Generation == b.Generation })
			if (j < 0 || member && j <= i) && !m.fixed() {
				w.t.Fatalf("%s has a base that is not there, or not newer\n%s", m.Rel, w)
			}
		}
		if len(m.Bases) > container.MaxBases || depths[m.Generation] > o.Depth && !m.fixed() {
			w.t.Fatalf("%s: %d bases, depth %d\n%s", m.Rel, len(m.Bases), depths[m.Generation], w)
		}
	}
	if n := len(w.f.Members); n > 0 && !w.f.Members[n-1].Full() && !w.f.Members[n-1].fixed() {
		w.t.Fatalf("the newest member is not full\n%s", w)
	}
}

// depths are the lengths of chains, by content.
func (w *world) depths() map[container.Generation]int {
	held := w.byGeneration()
	depths := make(map[container.Generation]int)
	var depth func(g container.Generation) int
	depth = func(g container.Generation) int {
		m := held[g]
		if m == nil || m.Full() {
			return 0
		}
		if d, ok := depths[g]; ok {
			return d
		}
		d := 0
		for _, b := range m.Bases {
			d = max(d, depth(b.Generation)+1)
		}
		depths[g] = d
		return d
	}
	for g := range held {
		depth(g)
	}
	return depths
}

// String shows the family, a line a member.
func (w *world) String() string {
	at := make(map[container.Generation]int)
	for i, m := range w.f.Members {
		at[m.Generation] = i
	}
	s := ""
	for i, m := range w.f.Members {
		s += fmt.Sprintf("%3d %s", i, m.Rel)
		for _, b := range m.Bases {
			if j, ok := at[b.Generation]; ok {
				s += fmt.Sprint(" ", j)
			} else {
				s += " ?"
			}
		}
		s += "\n"
	}
	return s
}

func describe(actions []Action) (s []string) {
	for _, a := range actions {
		line := a.Member.Rel + ":"
		for _, b := range a.Bases {
			line += " " + b.Rel
		}
		s = append(s, line)
	}
	return s
}

// fulls are the places of full members.
func (w *world) fulls() (list []int) {
	for i := range w.f.Members {
		if w.f.Members[i].Full() {
			list = append(list, i)
		}
	}
	return list
}

var planOptions = []Options{
	{}, {Bases: 1}, {Bases: 3, MinGain: 0.01}, {Depth: 1}, {Depth: 2, Bases: 3, MinGain: 0.01}, {Depth: 5}, {Depth: 100},
}

// A run that saves, and saves: two actions a save, keyframes that stay where they
// are, one in Depth+1.
func TestPlanGrowth(t *testing.T) {
	for _, o := range planOptions {
		w := newWorld(t, o)
		o = o.withDefaults()
		kept := map[string]bool{}
		for step := range int64(60) {
			w.save(step)
			before := w.actions
			w.settle()
			if did := w.actions - before; did > o.Bases {
				t.Errorf("%+v: %d actions for step %d", o, did, step)
			}
			for name := range kept {
				if i := slices.IndexFunc(w.f.Members, func(m Member) bool { return m.Rel == name }); !w.f.Members[i].Full() {
					t.Errorf("%+v: keyframe %s was coded", o, name)
				}
			}
			for i := range w.f.Members {
				if len(w.f.Members[i].Bases) > o.Bases {
					t.Errorf("%+v: %d bases", o, len(w.f.Members[i].Bases))
				}
			}
			for _, i := range w.fulls() {
				if i < len(w.f.Members)-2 {
					kept[w.f.Members[i].Rel] = true
				}
			}
			if full := len(w.fulls()); full > (int(step)+o.Depth)/(o.Depth+1)+1 {
				t.Errorf("%+v: %d of %d members are full\n%s", o, full, step+1, w)
			}
		}
	}
}

// Files that were there before: each is coded once.
func TestPlanBacklog(t *testing.T) {
	for _, o := range planOptions {
		for n := range int64(61) {
			w := newWorld(t, o)
			for step := range n {
				w.save(step)
			}
			w.settle()
			o := o.withDefaults()
			if full := len(w.fulls()); full != (int(n)+o.Depth)/(o.Depth+1) {
				t.Errorf("%+v: %d of %d are full", o, full, n)
			}
			if w.longest > int(n) {
				t.Errorf("%+v: %d actions for %d members", o, w.longest, n)
			}
		}
	}
}

// The Trainer's rotation: the oldest is deleted with every save, or the newest few
// and the best one are kept.
func TestPlanRotation(t *testing.T) {
	for _, o := range planOptions {
		for keep := 1; keep <= most(30); keep++ {
			w := newWorld(t, o)
			for step := range int64(100) {
				w.save(step)
				w.settle()
				for len(w.f.Members) > keep {
					w.remove(min(1, len(w.f.Members)-1) * int(step%2))
					w.settle()
				}
			}
			if limit := 100 * (2*w.o.withDefaults().Bases + 1); w.actions > limit {
				t.Errorf("%+v, %d kept: %d actions for 100 saves and deletions", o, keep, w.actions)
			}
		}
	}
}

// Each member in turn is deleted, edited or inserted, in families of every length;
// who has it as a base is coded anew, and hardly anybody else.
func TestPlanSingleChange(t *testing.T) {
	for _, o := range planOptions {
		grown := newWorld(t, o)
		for n := range most(60) {
			grown.save(int64(2 * n))
			grown.settle()
			for i := range n + 1 {
				if n > 20 && i%7 != 0 && i < n-3 {
					continue
				}
				for name, change := range map[string]func(*world){
					"deletion":  func(w *world) { w.remove(i) },
					"edit":      func(w *world) { w.edit(i) },
					"insertion": func(w *world) { w.save(int64(2*i - 1)) },
				} {
					w := *grown
					w.f, w.actions = clone(grown.f), 0
					change(&w)
					w.settle()
					if limit := 2*w.o.withDefaults().Bases + 2; w.actions > limit {
						t.Errorf("%+v: %s of %d in %d: %d actions", o, name, i, n, w.actions)
					}
				}
			}
		}
	}
}

// most is n, or less in short tests.
func most(n int) int {
	if testing.Short() {
		return (n + 2) / 3
	}
	return n
}

var planRounds = flag.Int("plan-rounds", 200, "random families that TestPlanRandom plans for")

// Anything in any order: saves, deletions, edits, older steps, a restart that
// saves steps again, members that change places, other options, files in use,
// leaves of all kinds.
func TestPlanRandom(t *testing.T) {
	for seed := range most(*planRounds) {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		w := newWorld(t, planOptions[r.IntN(len(planOptions))])
		w.stops = true
		step := int64(0)
		for range 60 {
			for range 1 + r.IntN(3) {
				w.change(r, &step)
			}
			if r.IntN(3) > 0 {
				w.settle()
			}
		}
		for _, m := range w.files() {
			m.Links = 1
		}
		w.settle()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (w *world) change(r *rand.Rand, step *int64) {
	n := len(w.f.Members)
	if n == 0 || n < 40 && r.IntN(2) == 0 {
		*step += 10
		w.save(*step)
		return
	}
	i := r.IntN(n)
	switch r.IntN(12) {
	case 0, 1:
		w.remove(i)
	case 2:
		w.remove(0)
	case 3:
		w.edit(i)
	case 4:
		w.save(r.Int64N(*step + 1))
	case 5: // back to an older step, whose later ones are overwritten
		for j := i; j < n; j++ {
			w.edit(j)
			w.f.Members[j].Bases = nil
		}
	case 6: // an order that turns round
		j := r.IntN(n)
		w.f.Members[i], w.f.Members[j] = w.f.Members[j], w.f.Members[i]
	case 7:
		w.f.Members[i].Links = 3 - w.f.Members[i].Links
	case 8:
		w.f.Members[i].Links = 1 + uint32(r.IntN(2))
	case 9:
		w.o = planOptions[r.IntN(len(planOptions))]
	case 10:
		w.save(int64(i))
		w.f.Leaves = append(w.f.Leaves, Leaf{Member: w.f.Members[i], Of: w.f.Members[r.IntN(n)].Generation})
		w.remove(i)
	case 11:
		if k := len(w.f.Leaves); k > 0 {
			l := &w.f.Leaves[r.IntN(k)]
			l.Of = w.f.Members[i].Generation
			w.f.Leaves = w.f.Leaves[:max(k-r.IntN(2), 1)]
		}
	}
}

// What a plan says in the cases that its comment names.
func TestPlanForms(t *testing.T) {
	w := newWorld(t, Options{Depth: 3})
	for step := range int64(6) {
		w.save(step)
		w.settle()
	}
	want := `  0 step-0-0 1 2
  1 step-1-1 2 3
  2 step-2-2 3
  3 step-3-3
  4 step-4-4 5
  5 step-5-5
`
	if w.String() != want {
		t.Errorf("\n%s", w)
	}
	// A keyframe stays, although the chain behind it has become short.
	w.remove(0)
	w.remove(0)
	w.settle()
	if got := w.fulls(); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("%v are full:\n%s", got, w)
	}
	// With a smaller Depth, chains are cut into as few as can be.
	w = newWorld(t, Options{Depth: 20})
	for step := range int64(20) {
		w.save(step)
	}
	w.settle()
	w.o.Depth = 3
	w.settle()
	if got := w.fulls(); !slices.Equal(got, []int{3, 7, 11, 15, 19}) {
		t.Errorf("%v are full:\n%s", got, w)
	}
	// Without a gain nothing is coded.
	w = newWorld(t, Options{})
	w.f.Gains[0] = 0.03
	for step := range int64(6) {
		w.save(step)
	}
	w.settle()
	if len(w.fulls()) != 6 {
		t.Errorf("a family without a gain was coded:\n%s", w)
	}
	// A second base that gains little is not taken.
	w = newWorld(t, Options{})
	w.f.Gains = [container.MaxBases]float64{0.5, 0.05}
	for step := range int64(3) {
		w.save(step)
	}
	w.settle()
	if len(w.f.Members[0].Bases) != 1 {
		t.Errorf("\n%s", w)
	}
	// A copy and an export depend on their member, a leaf whose member is gone is full.
	w = newWorld(t, Options{})
	for step := range int64(3) {
		w.save(step)
	}
	export, best := Member{Rel: "export", Generation: w.generation()}, Member{Rel: "best", Generation: w.generation()}
	w.f.Leaves = []Leaf{{export, w.f.Members[2].Generation, Export}, {best, w.f.Members[0].Generation, Copy}}
	w.settle()
	for i, of := range []int{2, 0} {
		if l := w.f.Leaves[i]; len(l.Bases) != 1 || l.Bases[0].Generation != w.f.Members[of].Generation {
			t.Errorf("%s: %v", l.Rel, l.Bases)
		}
	}
	w.remove(0)
	w.settle()
	if !w.f.Leaves[1].Full() {
		t.Error("a leaf of nothing has bases")
	}
}
