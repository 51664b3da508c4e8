package series

import (
	"context"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// memory is what a Grouper has learned of files by reading them. Generations name
// contents, so nothing of it is ever wrong; what is about files that are gone is
// dropped.
type memory struct {
	samples  map[pair]Sample
	sketches map[container.Generation]sketch
	failed   map[container.Generation]bool // files whose samples could not be read in this round
}

// pair is a member, its nearest base, and the next one where there were two.
type pair [3]container.Generation

func newMemory() memory {
	return memory{samples: make(map[pair]Sample), sketches: make(map[container.Generation]sketch)}
}

// begin starts a round, in which failures count as they are.
func (y *memory) begin() { y.failed = make(map[container.Generation]bool) }

// keep forgets all generations but these.
func (y *memory) keep(live map[container.Generation]bool) {
	for p := range y.samples {
		for i, g := range p {
			if !live[g] && (i < 2 || g != container.Generation{}) {
				delete(y.samples, p)
				break
			}
		}
	}
	for g := range y.sketches {
		if !live[g] {
			delete(y.sketches, g)
		}
	}
}

// sample returns what pieces of m take given bases, one or two. Of what can't be
// read it is the zero Sample, which fits nothing; the error is that of ctx.
func (g *Grouper) sample(ctx context.Context, m *Member, bases ...*Member) (Sample, error) {
	if ctx.Err() != nil {
		return Sample{}, context.Cause(ctx)
	}
	p := pair{m.Generation}
	unreadable := g.memory.failed[m.Generation]
	for i, b := range bases {
		p[i+1] = b.Generation
		unreadable = unreadable || g.memory.failed[b.Generation]
	}
	if s, ok := g.memory.samples[p]; ok || unreadable {
		return s, nil
	}
	s, err := g.tester.sample(ctx, m, bases)
	if err != nil {
		return Sample{}, g.fail(ctx, err)
	}
	g.memory.samples[p] = s
	return s, nil
}

// sketch returns the sketch of m, or false where it can't be read.
func (g *Grouper) sketch(ctx context.Context, m *Member) (sketch, bool, error) {
	if s, ok := g.memory.sketches[m.Generation]; ok {
		return s, true, nil
	}
	if g.memory.failed[m.Generation] {
		return sketch{}, false, nil
	}
	s, err := g.tester.sketch(ctx, m)
	if err != nil {
		return s, false, g.fail(ctx, err)
	}
	g.memory.sketches[m.Generation] = s
	return s, true, nil
}
