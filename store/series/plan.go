package series

import (
	"slices"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Options are what Plan can be told. The zero value has all defaults.
type Options struct {
	// Depth is the longest chain of bases behind a member. 0: DefaultDepth.
	Depth int
	// Bases is how many bases a member has at most, 1 to 3. 0: 2.
	Bases int
	// MinSaving is the fraction of its full form that a delta must save in samples
	// of the family for its members to be coded at all. 0: 0.05.
	MinSaving float64
	// MinGain is the fraction by which a further base must make a member smaller
	// for it to be coded once more. 0: 0.1.
	MinGain float64
}

// DefaultDepth bounds how much is read for a frame of an old checkpoint: itself
// and this many others.
const DefaultDepth = 12

// assumedGains are those of series where none were measured: a second base makes
// members 20 to 30 % smaller, a third one hardly.
var assumedGains = [container.MaxBases]float64{1, 0.2, 0.02}

func (o Options) withDefaults() Options {
	if o.Depth <= 0 {
		o.Depth = DefaultDepth
	}
	if o.Bases <= 0 {
		o.Bases = 2
	}
	o.Bases = min(o.Bases, container.MaxBases)
	if o.MinSaving <= 0 {
		o.MinSaving = 0.05
	}
	if o.MinGain <= 0 {
		o.MinGain = 0.1
	}
	return o
}

// Action says in which form a member is to be kept.
type Action struct {
	Member Member
	// Bases are the members that it is coded against, the nearest first. Without
	// any it is stored full.
	Bases []Member
}

// Plan returns what to do so that a family takes little space, in the order in
// which to do it. When all is done, and nothing else has changed, Plan returns
// nothing. After each action, and so whenever execution ends early, every base is
// there and no member depends on itself through others, whatever form each has:
//
//   - The newest member is full. Others are coded against the one after them, and
//     against the bases of that, if a further base gains enough.
//   - No chain of bases is longer than Depth. Where coding the former newest
//     member would make one longer, it stays full: a keyframe. Keyframes on which
//     others depend stay.
//   - What a member has is kept as long as its bases are newer members of the
//     family: a member that is inserted behind it changes nothing. Where a base is
//     gone, or has become an older member, the member is coded anew, or stored
//     full where that keeps others as they are.
//   - A leaf depends on the member that it is closest to, or on a newer one if
//     that has the longest chain.
//
// A member that is saved at the end costs one action, one more for each further
// base of those before it, and with Depth members more between keyframes none. A
// member that is deleted costs one for each that has it as a base.
//
// Members that must stay as they are get no action; nothing is coded against one
// of which the bases are not newer members.
func Plan(f Family, o Options) []Action {
	o = o.withDefaults()
	f.Members, f.Leaves = slices.Clone(f.Members), slices.Clone(f.Leaves)
	var all []Action
	// A repair can make a chain shorter, so that a newer member may be coded after
	// all: nearly always the first round is the last that has actions.
	for range len(f.Members) + 1 {
		actions := planRound(&f, o)
		if len(actions) == 0 {
			break
		}
		all = append(all, actions...)
		carryOut(&f, actions)
	}
	return all
}

// planRound decides once on each file.
func planRound(f *Family, o Options) []Action {
	p := newPlanner(f, o)
	for i := len(f.Members) - 1; i >= 0; i-- {
		p.member(i)
	}
	for i := range f.Leaves {
		p.leaf(&f.Leaves[i])
	}
	// Repairs begin with the newest, so that what is coded against has its last
	// form, and the rest with the oldest: its bases are quick to read as long as
	// they are full.
	slices.Reverse(p.others)
	return slices.Concat(p.repairs, p.others, p.leaves)
}

// carryOut gives the files of a family the forms that actions give them.
func carryOut(f *Family, actions []Action) {
	bases := make(map[string][]container.Base, len(actions))
	for _, a := range actions {
		var list []container.Base
		for _, b := range a.Bases {
			list = append(list, container.Base{Generation: b.Generation, Size: b.Size})
		}
		bases[a.Member.Rel] = list
	}
	set := func(m *Member) {
		if list, ok := bases[m.Rel]; ok {
			m.Bases = list
		}
	}
	for i := range f.Members {
		set(&f.Members[i])
	}
	for i := range f.Leaves {
		set(&f.Leaves[i].Member)
	}
}

// planner decides on members, from the newest to the oldest. Members are named by
// their index.
type planner struct {
	family *Family
	Options
	at    map[container.Generation]int
	now   []current
	after []planned

	repairs, others, leaves []Action
}

// current is the form that a member has.
type current struct {
	bases []int // newer members; nil where it is full or one of its bases is no newer member
	tail  int   // the longest chain of members that depend on it
}

// planned is the form that a member will have.
type planned struct {
	bases  []int
	depth  int
	usable bool // as a base: all that it depends on are newer members of the family
}

func newPlanner(f *Family, o Options) *planner {
	n := len(f.Members)
	p := &planner{family: f, Options: o, at: make(map[container.Generation]int, n),
		now: make([]current, n), after: make([]planned, n)}
	for i := range f.Members {
		p.at[f.Members[i].Generation] = i
	}
	for i := range f.Members {
		p.now[i].bases, _ = p.bases(&f.Members[i], i)
	}
	for i := range p.now { // who depends on it is older
		for _, b := range p.now[i].bases {
			p.now[b].tail = max(p.now[b].tail, p.now[i].tail+1)
		}
	}
	return p
}

// bases returns the members that m depends on, if all are newer than the i-th.
func (p *planner) bases(m *Member, i int) (list []int, ok bool) {
	for _, b := range m.Bases {
		j, ok := p.at[b.Generation]
		if !ok || j <= i || p.family.Members[j].Size != b.Size {
			return nil, false
		}
		list = append(list, j)
	}
	return list, true
}

// member decides on the i-th member, after all newer ones.
func (p *planner) member(i int) {
	m := &p.family.Members[i]
	now, after := &p.now[i], &p.after[i]
	full, original := m.Full(), p.at[m.Generation] == i
	after.bases, after.usable = now.bases, original && (full || now.bases != nil)
	for _, b := range now.bases {
		after.depth = max(after.depth, p.after[b].depth+1)
		after.usable = after.usable && p.after[b].usable
	}
	switch repair := !full && (!after.usable || after.depth > p.Depth); {
	case m.fixed():
	case !original:
		if !full {
			p.code(i, nil, &p.repairs)
		}
	case repair:
		p.code(i, p.newBases(i, true), &p.repairs)
	case full:
		if bases := p.newBases(i, false); bases != nil && !p.isKeyframe(i) {
			p.code(i, bases, &p.others)
		}
	default:
		if more := p.chain(now.bases[0]); len(more) > len(now.bases) && slices.Equal(more[:len(now.bases)], now.bases) {
			p.code(i, more, &p.others)
		}
	}
}

// isKeyframe says whether the i-th member, which is full, was left so when the
// member after it was coded.
func (p *planner) isKeyframe(i int) bool {
	return p.now[i].tail > 0 && i+1 < len(p.now) && !p.family.Members[i+1].Full() && len(p.after[i+1].bases) > 0
}

// newBases returns what to code the i-th member against; nil if it is to be full.
// What depends on it may not get a longer chain than Depth, unless it has that
// already and is going to be repaired too.
func (p *planner) newBases(i int, repair bool) []int {
	if g := p.family.Gains[0]; g != 0 && g < p.MinSaving {
		return nil
	}
	for b := i + 1; b < len(p.after); b++ {
		if !p.after[b].usable {
			continue
		}
		depth, tail := p.after[b].depth+1, p.now[i].tail
		if repair && tail >= p.Depth {
			tail = 0
		}
		if depth+tail > p.Depth {
			return nil
		}
		return p.chain(b)
	}
	return nil
}

// chain returns the bases for a member whose first one is b: those of b follow as
// long as a further base gains enough. They do not make its chain longer.
func (p *planner) chain(b int) []int {
	list := []int{b}
	for len(list) < p.Bases && p.gain(len(list)) >= p.MinGain {
		next := p.after[list[len(list)-1]].bases
		if len(next) == 0 {
			break
		}
		list = append(list, next[0])
	}
	return list
}

// gain is what one base more than k gains.
func (p *planner) gain(k int) float64 {
	if p.family.Gains[0] == 0 || k == 2 && p.family.Gains[k] == 0 {
		return assumedGains[k]
	}
	return p.family.Gains[k]
}

// code plans to give the i-th member these bases.
func (p *planner) code(i int, bases []int, to *[]Action) {
	after := planned{bases: bases, usable: p.at[p.family.Members[i].Generation] == i}
	for _, b := range bases {
		after.depth = max(after.depth, p.after[b].depth+1)
	}
	p.after[i] = after
	p.act(&p.family.Members[i], bases, to)
}

func (p *planner) act(m *Member, bases []int, to *[]Action) {
	a := Action{Member: *m}
	for _, b := range bases {
		a.Bases = append(a.Bases, p.family.Members[b])
	}
	*to = append(*to, a)
}

// leaf decides on a leaf, after all members.
func (p *planner) leaf(l *Leaf) {
	if l.fixed() || p.settled(l) {
		return
	}
	base, ok := p.at[l.Of]
	for ok && p.after[base].depth >= p.Depth && len(p.after[base].bases) > 0 {
		base = p.after[base].bases[0]
	}
	switch {
	case ok && p.after[base].usable && p.after[base].depth < p.Depth && p.family.Members[base].Generation != l.Generation:
		p.act(&l.Member, []int{base}, &p.leaves)
	case !l.Full():
		p.act(&l.Member, nil, &p.leaves)
	}
}

// settled says whether a leaf has bases that it can keep.
func (p *planner) settled(l *Leaf) bool {
	list, ok := p.bases(&l.Member, -1)
	if !ok || len(list) == 0 {
		return false
	}
	for _, b := range list {
		if !p.after[b].usable || p.after[b].depth >= p.Depth || p.family.Members[b].Generation == l.Generation {
			return false
		}
	}
	return true
}
