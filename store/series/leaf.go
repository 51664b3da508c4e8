package series

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// exports finds the files that hold the elements of a wider file, rounded, makes
// them its leaves, and returns the others.
func (b *bucket) exports(ctx context.Context, list []*Member) ([]*Member, error) {
	if len(b.strands) == 0 {
		return list, nil
	}
	stepped, others := byPlace(list)
	for _, m := range others {
		stepped = append(stepped, &strand{members: []*Member{m}})
	}
	var rest []*Member
	for _, s := range stepped {
		left, err := b.follow(ctx, s, b.strands, Export)
		if err != nil {
			return nil, err
		}
		if len(left) < len(s.members) {
			b.exported[s.first().Place] = s.first().Step
		}
		rest = append(rest, left...)
	}
	return rest, nil
}

// copies makes leaves of the members of strands that hold what another strand
// holds, such as a directory that was copied, and returns the strands of what is
// left.
func (b *bucket) copies(ctx context.Context, strands []*strand) ([]*strand, error) {
	holds := make(map[container.Generation]*strand)
	for _, s := range strands {
		for _, m := range s.members {
			holds[m.Generation] = s
		}
	}
	// What depends on another strand is the copy of it, and stays it.
	second := func(s *strand) int {
		for _, m := range s.members {
			for _, base := range m.Bases {
				if o := holds[base.Generation]; o != nil && o != s {
					return 1
				}
			}
		}
		return 0
	}
	slices.SortStableFunc(strands, func(x, y *strand) int {
		return cmp.Or(cmp.Compare(second(x), second(y)), cmp.Compare(len(y.members), len(x.members)), strings.Compare(x.first().Rel, y.first().Rel))
	})
	var originals []*strand
	for _, s := range strands {
		left, err := b.follow(ctx, s, originals, Copy)
		if err != nil {
			return nil, err
		}
		if len(left) == 0 {
			continue
		}
		if len(left) == len(s.members) {
			originals = append(originals, s)
			continue
		}
		rest, err := b.cut(ctx, &strand{members: left})
		if err != nil {
			return nil, err
		}
		originals = append(originals, rest...)
	}
	return originals, nil
}

// follow finds the strand among others whose members s has the elements of, and
// makes the members of s its leaves, one for one. It returns those that are not.
// The newest member of s that can have a counterpart decides where to look.
func (b *bucket) follow(ctx context.Context, s *strand, others []*strand, relation Relation) ([]*Member, error) {
	for i := len(s.members) - 1; i >= 0; i-- {
		candidates := counterparts(s.members[i], others)
		if len(candidates) == 0 {
			continue
		}
		of, err := b.twin(ctx, s.members[i], candidates)
		if err != nil || of == nil {
			return s.members, err
		}
		return b.attach(ctx, s.members, owner(others, of), relation)
	}
	return s.members, nil
}

// attach makes leaves of the members that have a twin in the strand to.
func (b *bucket) attach(ctx context.Context, members []*Member, to *strand, relation Relation) (left []*Member, err error) {
	for _, m := range members {
		of, err := b.twin(ctx, m, counterparts(m, []*strand{to}))
		if err != nil {
			return nil, err
		}
		if of == nil {
			left = append(left, m)
			continue
		}
		to.leaves = append(to.leaves, Leaf{Member: *m, Of: of.Generation, Relation: relation})
	}
	return left, nil
}

// counterparts returns the members of strands that were saved when m was: of the
// same step or, where m has none, nearest in time.
func counterparts(m *Member, strands []*strand) []*Member {
	var list []*Member
	for _, s := range strands {
		if m.Step == NoStep {
			list = append(list, slices.MinFunc(s.members, func(x, y *Member) int { return cmp.Compare(gap(x, m), gap(y, m)) }))
			continue
		}
		i, ok := slices.BinarySearchFunc(s.members, m.Step, func(x *Member, step int64) int { return cmp.Compare(x.Step, step) })
		if ok {
			list = append(list, s.members[i])
		}
	}
	return list
}

// twin returns the candidate that m has the elements of, perhaps rounded, or nil.
func (b *bucket) twin(ctx context.Context, m *Member, candidates []*Member) (*Member, error) {
	for _, c := range candidates {
		if dependsOn(m, c) {
			return c, nil
		}
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	ranked, err := b.rank(ctx, candidates, m)
	if err != nil {
		return nil, err
	}
	for i, r := range ranked {
		if i == maxTries || r.distance > twinDistance {
			break
		}
		s, err := b.sample(ctx, m, r.member)
		if err != nil {
			return nil, err
		}
		if s.Equal {
			return r.member, nil
		}
	}
	return nil, nil
}

// twinDistance is the most bits in which the sketch of an export differs from the
// original's: rounding makes some elements equal.
const twinDistance = 32

// owner returns the strand that m is a member of.
func owner(strands []*strand, m *Member) *strand {
	i := slices.IndexFunc(strands, func(s *strand) bool { return slices.Contains(s.members, m) })
	if i < 0 {
		return nil
	}
	return strands[i]
}

// place finds where a file without a step belongs: "best" and "last" are leaves
// of the member that they are closest to; where no member has a step, files follow
// one another by time.
func (b *bucket) place(ctx context.Context, strands []*strand, m *Member) ([]*strand, error) {
	candidates := counterparts(m, strands)
	near, err := b.choose(ctx, candidates, m, func(c *Member) (*Member, *Member) {
		if c.Step == NoStep {
			return c, m
		}
		return m, c
	})
	if err != nil {
		return nil, err
	}
	if near == nil {
		return append(strands, &strand{members: []*Member{m}}), nil
	}
	s := owner(strands, near)
	if s.stepped() {
		near, err = b.closest(ctx, s, near, m)
		if err != nil {
			return nil, err
		}
		s.leaves = append(s.leaves, Leaf{Member: *m, Of: near.Generation, Relation: Copy})
		return strands, nil
	}
	twin, err := b.sample(ctx, m, near)
	if err != nil {
		return nil, err
	}
	if twin.Equal || dependsOn(m, near) {
		s.leaves = append(s.leaves, Leaf{Member: *m, Of: near.Generation, Relation: Copy})
	} else {
		s.members = append(s.members, m)
	}
	return strands, nil
}

// closest goes from the member near of s to a neighbour for which m becomes
// smaller, if there is one.
func (b *bucket) closest(ctx context.Context, s *strand, near, m *Member) (*Member, error) {
	if dependsOn(m, near) {
		return near, nil
	}
	i := slices.Index(s.members, near)
	var least int64 = -1
	for _, c := range s.members[max(i-1, 0):min(i+2, len(s.members))] {
		x, err := b.sample(ctx, m, c)
		if err != nil {
			return nil, err
		}
		if x.Logical > 0 && (least < 0 || x.Delta < least) {
			near, least = c, x.Delta
		}
	}
	return near, nil
}
