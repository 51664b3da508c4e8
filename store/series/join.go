package series

import (
	"cmp"
	"context"
	"slices"
)

// join makes one strand of two where the second goes on with what the first did,
// in another directory or under another name: all its steps are later, and the
// newest of the first fits its oldest. A run that went back, so that the steps
// overlap, is a strand of its own.
func (b *bucket) join(ctx context.Context, strands []*strand) ([]*strand, error) {
	slices.SortStableFunc(strands, func(x, y *strand) int { return older(x.first(), y.first()) })
	var list []*strand
	for _, s := range strands {
		since := s.first().Step
		if step, ok := b.exported[s.first().Place]; ok {
			since = min(since, step)
		}
		var ends []*Member
		for _, o := range list {
			if o.last().Step < since {
				ends = append(ends, o.last())
			}
		}
		end, err := b.choose(ctx, ends, s.first(), func(c *Member) (*Member, *Member) { return c, s.first() })
		if err != nil {
			return nil, err
		}
		if end == nil {
			list = append(list, s)
			continue
		}
		i := slices.IndexFunc(list, func(o *strand) bool { return o.last() == end })
		list[i].members = append(list[i].members, s.members...)
	}
	return list, nil
}

// choose returns the candidate that m gains most with, or nil where none fits.
// order tells which of the two would be coded, and against which.
func (b *bucket) choose(ctx context.Context, candidates []*Member, m *Member, order func(*Member) (coded, base *Member)) (*Member, error) {
	for _, c := range candidates {
		if linked(c, m) {
			return c, nil
		}
	}
	near, err := b.nearest(ctx, candidates, m)
	if err != nil {
		return nil, err
	}
	var best *Member
	var most float64
	for _, c := range near {
		coded, base := order(c)
		s, err := b.sample(ctx, coded, base)
		if err != nil {
			return nil, err
		}
		if saving := s.Saving(); saving >= leastSaving && saving > most {
			best, most = c, saving
		}
	}
	return best, nil
}

// nearest returns the candidates that are worth coding: those whose sketches are
// nearest to m's. Paths and times break ties.
func (b *bucket) nearest(ctx context.Context, candidates []*Member, m *Member) ([]*Member, error) {
	if len(candidates) <= maxTries {
		return candidates, nil
	}
	ranked, err := b.rank(ctx, candidates, m)
	if err != nil {
		return nil, err
	}
	var list []*Member
	for _, r := range ranked[:min(len(ranked), maxTries)] {
		if r.distance > ranked[0].distance+clearDistance {
			break
		}
		list = append(list, r.member)
	}
	return list, nil
}

// clearDistance is by how many bits a candidate must be farther than another one
// for it not to be the nearer of the two.
const clearDistance = 48

type ranked struct {
	member   *Member
	distance int
}

// rank orders candidates by how near their sketches are to m's. Those that can't
// be read are left out.
func (b *bucket) rank(ctx context.Context, candidates []*Member, m *Member) ([]ranked, error) {
	own, ok, err := b.sketch(ctx, m)
	if err != nil || !ok {
		return nil, err
	}
	var list []ranked
	for _, c := range candidates {
		s, ok, err := b.sketch(ctx, c)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, ranked{c, own.distance(&s)})
		}
	}
	slices.SortStableFunc(list, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(x.distance, y.distance),
			cmp.Compare(likeness(y.member.Rel, m.Rel), likeness(x.member.Rel, m.Rel)),
			cmp.Compare(gap(x.member, m), gap(y.member, m)))
	})
	return list, nil
}

// likeness is how many characters two paths share at their ends.
func likeness(a, b string) int {
	n := min(len(a), len(b))
	front := 0
	for front < n && a[front] == b[front] {
		front++
	}
	back := 0
	for back < n-front && a[len(a)-1-back] == b[len(b)-1-back] {
		back++
	}
	return front + back
}

// gap is the time between two members, in nanoseconds.
func gap(a, b *Member) int64 {
	d := a.Mtime.Sub(b.Mtime)
	return int64(max(d, -d))
}
