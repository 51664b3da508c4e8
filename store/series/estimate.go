package series

import "context"

// maxEstimates is how many actions of a family are sampled for an estimate. The
// others are taken to come out like the sampled one before them.
const maxEstimates = 8

// Estimate is what carrying out a plan would save, about.
type Estimate struct {
	Now   int64 // bytes that the files of the actions take
	After int64 // bytes that they would take
}

// Saved is how many bytes fewer there would be; less than 0 for more.
func (e Estimate) Saved() int64 { return e.Now - e.After }

// Estimate codes samples of what Plan returned for one family. A member that
// can't be read is taken to stay as it is. The error is that of ctx.
func (g *Grouper) Estimate(ctx context.Context, actions []Action) (Estimate, error) {
	var e Estimate
	every := (len(actions) + maxEstimates - 1) / maxEstimates
	ratios := make(map[int]float64) // by number of bases, stored to logical
	for i := range actions {
		a := &actions[i]
		e.Now += a.Member.Stored
		ratio, ok := ratios[len(a.Bases)]
		if !ok || i%every == 0 {
			s, err := g.sampleAction(ctx, a)
			if err != nil {
				return e, err
			}
			if s.Logical > 0 {
				ratio, ok = float64(s.Delta)/float64(s.Logical), true
				if len(a.Bases) == 0 {
					ratio = float64(s.Full) / float64(s.Logical)
				}
				ratios[len(a.Bases)] = ratio
			}
		}
		if !ok {
			e.After += a.Member.Stored
			continue
		}
		e.After += int64(ratio * float64(a.Member.Size))
	}
	return e, nil
}

// sampleAction samples a member given its bases or, for its full form, itself.
func (g *Grouper) sampleAction(ctx context.Context, a *Action) (Sample, error) {
	var bases []*Member
	for i := range a.Bases[:min(len(a.Bases), len(pair{})-1)] {
		bases = append(bases, &a.Bases[i])
	}
	if len(bases) == 0 {
		bases = append(bases, &a.Member)
	}
	return g.sample(ctx, &a.Member, bases...)
}
