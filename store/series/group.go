package series

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/mithrilfs/mithrilfs/store/container"
)

const (
	// leastSaving is the fraction of the full form that a delta must save, in a
	// sample, for two files to be of one series. Unrelated weights save nothing,
	// an optimizer's moments 0.05 to 0.2, weights more.
	leastSaving = 0.02
	// maxTries is how many candidates are coded to place one file. More than that
	// are told apart by sketches.
	maxTries = 4
)

// Grouper finds families among members. It remembers what it has learned of
// their data, so only files that are new cost reading and coding. It serves one
// goroutine at a time.
type Grouper struct {
	tester tester
	memory memory
	log    *slog.Logger
}

// NewGrouper returns a Grouper that reads members through s. logger may be nil.
func NewGrouper(s Sampler, logger *slog.Logger) *Grouper {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Grouper{tester: tester{sampler: s}, memory: newMemory(), log: logger}
}

// Coded is how many samples have been coded so far.
func (g *Grouper) Coded() int { return g.tester.coded }

// Group divides members into families: each is in one of them, as a member or as
// a leaf. A file that fits no other is a family of its own, and so is one that
// can't be read, which is logged. The error is that of ctx.
func (g *Grouper) Group(ctx context.Context, members []Member) ([]Family, error) {
	g.memory.begin()
	live := make(map[container.Generation]bool, len(members))
	shapes := make(map[[16]byte][]*Member)
	var families []Family
	for i := range members {
		m := &members[i]
		if live[m.Generation] {
			// It was copied beside the store, as it is, and can't be told from the
			// original by whoever depends on that.
			families = append(families, Family{Members: []Member{*m}})
			continue
		}
		live[m.Generation] = true
		shapes[m.Layout.Shape] = append(shapes[m.Layout.Shape], m)
	}
	g.memory.keep(live)
	for shape, list := range shapes {
		b := &bucket{Grouper: g, exported: make(map[string]int64)}
		if err := b.group(ctx, list, shape != [16]byte{}); err != nil {
			return nil, err
		}
		for _, s := range b.strands {
			f := s.family()
			if err := g.measure(ctx, &f); err != nil {
				return nil, err
			}
			families = append(families, f)
		}
	}
	slices.SortFunc(families, func(a, b Family) int { return cmp.Compare(a.Members[0].Rel, b.Members[0].Rel) })
	return families, nil
}

// fail logs what could not be read, unless ctx has ended, which ends everything.
func (g *Grouper) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var r *readError
	if errors.As(err, &r) {
		g.memory.failed[r.member.Generation] = true
	}
	g.log.Warn("a file is left out of its series", "err", err)
	return nil
}

// measure finds what bases gain in a family: one base where that has been sampled,
// or for the newest members; two for the newest members that can have them. Plan
// assumes what was not measured.
func (g *Grouper) measure(ctx context.Context, f *Family) error {
	n := len(f.Members)
	if n < 2 {
		return nil
	}
	var one Sample
	for i := range n - 1 {
		one.add(g.memory.samples[pair{f.Members[i].Generation, f.Members[i+1].Generation}])
	}
	if n < 3 {
		f.Gains[0] = one.Saving()
		return nil
	}
	m, next, after := &f.Members[n-3], &f.Members[n-2], &f.Members[n-1]
	single, err := g.sample(ctx, m, next)
	if err != nil {
		return err
	}
	double, err := g.sample(ctx, m, next, after)
	if err != nil {
		return err
	}
	one.add(single)
	f.Gains[0] = one.Saving()
	if single.Delta > 0 && double.Delta > 0 {
		f.Gains[1] = 1 - float64(double.Delta)/float64(single.Delta)
	}
	return nil
}

// bucket is the files of one shape, which may be of one series.
type bucket struct {
	*Grouper
	strands []*strand
	// exported are the oldest steps of each place that are exports of others.
	exported map[string]int64
}

// strand is a family while it is looked for.
type strand struct {
	members []*Member // oldest first
	leaves  []Leaf
}

func (s *strand) first() *Member { return s.members[0] }
func (s *strand) last() *Member  { return s.members[len(s.members)-1] }

// stepped says whether all members have steps.
func (s *strand) stepped() bool { return s.first().Step != NoStep }

// family is a strand as others see it.
func (s *strand) family() Family {
	f := Family{Leaves: s.leaves}
	for _, m := range s.members {
		f.Members = append(f.Members, *m)
	}
	slices.SortFunc(f.Leaves, func(a, b Leaf) int { return strings.Compare(a.Rel, b.Rel) })
	return f
}

// group finds the strands of a bucket. comparable is false for files of no known
// structure.
func (b *bucket) group(ctx context.Context, list []*Member, comparable bool) error {
	types := make(map[[16]byte][]*Member)
	for _, m := range list {
		types[m.Layout.Types] = append(types[m.Layout.Types], m)
	}
	kinds := make([][]*Member, 0, len(types))
	for _, list := range types {
		kinds = append(kinds, list)
	}
	// Wider types first: narrower ones may be exports of them.
	slices.SortFunc(kinds, func(x, y []*Member) int {
		return cmp.Or(cmp.Compare(y[0].Size, x[0].Size), cmp.Compare(x[0].Rel, y[0].Rel))
	})
	for _, list := range kinds {
		if !comparable {
			for _, m := range list {
				b.strands = append(b.strands, &strand{members: []*Member{m}})
			}
			continue
		}
		list, err := b.exports(ctx, list)
		if err != nil {
			return err
		}
		if err := b.kind(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

// kind finds the strands of files of one layout.
func (b *bucket) kind(ctx context.Context, list []*Member) error {
	stepped, others := byPlace(list)
	var strands []*strand
	for _, s := range stepped {
		cut, err := b.cut(ctx, s)
		if err != nil {
			return err
		}
		strands = append(strands, cut...)
	}
	strands, err := b.join(ctx, strands)
	if err != nil {
		return err
	}
	strands, err = b.copies(ctx, strands)
	if err != nil {
		return err
	}
	for _, m := range others {
		if strands, err = b.place(ctx, strands, m); err != nil {
			return err
		}
	}
	b.strands = append(b.strands, strands...)
	return nil
}

// byPlace returns the members of each place by step, and those without a step by
// time.
func byPlace(list []*Member) (stepped []*strand, others []*Member) {
	places := make(map[string]*strand)
	for _, m := range list {
		if m.Step == NoStep {
			others = append(others, m)
			continue
		}
		s := places[m.Place]
		if s == nil {
			s = &strand{}
			places[m.Place] = s
			stepped = append(stepped, s)
		}
		s.members = append(s.members, m)
	}
	for _, s := range stepped {
		slices.SortFunc(s.members, older)
	}
	slices.SortFunc(stepped, func(a, b *strand) int { return strings.Compare(a.first().Rel, b.first().Rel) })
	slices.SortFunc(others, older)
	return stepped, others
}

// older orders members by step, then by time.
func older(a, b *Member) int {
	return cmp.Or(cmp.Compare(a.Step, b.Step), a.Mtime.Compare(b.Mtime), strings.Compare(a.Rel, b.Rel))
}

// linked says whether one of the two depends on the other: that has been decided.
func linked(a, b *Member) bool { return dependsOn(a, b) || dependsOn(b, a) }

func dependsOn(a, b *Member) bool {
	return slices.ContainsFunc(a.Bases, func(x container.Base) bool { return x.Generation == b.Generation })
}

// fits says whether older gains enough from newer to be of its series.
func (b *bucket) fits(ctx context.Context, older, newer *Member) (bool, error) {
	if linked(older, newer) {
		return true, nil
	}
	s, err := b.sample(ctx, older, newer)
	return s.Saving() >= leastSaving, err
}

// cut divides a strand where neighbours do not fit.
func (b *bucket) cut(ctx context.Context, s *strand) ([]*strand, error) {
	var list []*strand
	from := 0
	for i := 1; i <= len(s.members); i++ {
		if i < len(s.members) {
			ok, err := b.fits(ctx, s.members[i-1], s.members[i])
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
		}
		list = append(list, &strand{members: s.members[from:i:i], leaves: nil})
		from = i
	}
	return list, nil
}

// add adds up samples.
func (s *Sample) add(o Sample) {
	s.Logical, s.Full, s.Delta = s.Logical+o.Logical, s.Full+o.Full, s.Delta+o.Delta
}
