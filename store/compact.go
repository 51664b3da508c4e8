package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// SeriesOptions say how checkpoints of one run are coded against each other, in
// the background.
type SeriesOptions struct {
	// Enabled lets the store do that by itself. Without it, Compact does.
	Enabled bool
	// Depth is the longest chain of bases behind a checkpoint, at most MaxDepth; 0:
	// series.DefaultDepth.
	Depth int
	// CPU is how many processors coding may use: 0.5 is half of the time of one.
	// 0: one.
	CPU float64
	// Quiet is for how long no client must have saved before coding begins; 0: 5
	// seconds. Under steady saving it begins after ten times that.
	Quiet time.Duration
}

// MaxDepth is the most that SeriesOptions.Depth can be: half of what a reader
// follows before it takes a chain for a circle. A chain grows at its end, after
// what depends on it was compared.
const MaxDepth = 32

func (o *SeriesOptions) setDefaults() {
	o.Depth = min(o.Depth, MaxDepth)
	if o.CPU <= 0 {
		o.CPU = 1
	}
	if o.Quiet <= 0 {
		o.Quiet = 5 * time.Second
	}
}

const (
	// leastGain and leastUpgrade are the parts of its stored size that a container
	// must lose to be coded against others, or against more of them.
	leastGain    = 1.0 / 20
	leastUpgrade = 1.0 / 10
	// retryAfter is how long an action that failed is left alone.
	retryAfter = 10 * time.Minute
	// maxRounds bounds how often plans are made in a row.
	maxRounds = 32
)

// attempt is an action: the member, and its bases to be.
type attempt struct {
	member container.Generation
	bases  [container.MaxBases]container.Generation
}

func attemptOf(a *series.Action) attempt {
	t := attempt{member: a.Member.Generation}
	for i := range a.Bases {
		t.bases[i] = a.Bases[i].Generation
	}
	return t
}

// compaction is one run of the compactor over all families, or some.
type compaction struct {
	*keeper
	ctx    context.Context
	pacer  *pacer
	choose func(rel string) bool // which families are meant: those with such a file; nil: all
	dry    bool
	tell   func(SeriesReport) // nil: nobody wants to know
	// ordered: somebody waits for this run.
	ordered bool

	reports map[string]*SeriesReport // by name
	pinless error                    // why something could not be pinned
}

// run does all that there is to do, in rounds: what one has done may be what makes
// another action possible, and clients go on.
func (c *compaction) run() error {
	c.reports = make(map[string]*SeriesReport)
	for range maxRounds {
		families, err := c.families()
		if err != nil {
			return err
		}
		done := 0
		for i := range families {
			n, err := c.family(&families[i])
			done += n
			if err != nil {
				return err
			}
		}
		if c.dry {
			return nil
		}
		if c.store.pins.count.Load() > 0 {
			c.tidy()
		}
		if done == 0 {
			break
		}
	}
	return c.pinless
}

// families finds what belongs together.
func (c *compaction) families() (families []series.Family, err error) {
	census := c.store.takeCensus(c.ctx, c.known)
	c.known = census.remember()
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	root, err := statFD(c.store.root.fd)
	if err != nil {
		return nil, err
	}
	device := keyOf(&root).Device
	var members []series.Member
	seen := make(map[Key]bool)
	for _, f := range census.files {
		// An inode is one member, whatever names it has. Pins can't lead to another
		// filesystem.
		if f.sealed && !f.open && f.err == nil && len(f.log.Tensors) > 0 && f.key.Device == device && !seen[f.key] {
			seen[f.key] = true
			members = append(members, f.member())
		}
	}
	if len(members) < 2 && !slices.ContainsFunc(members, func(m series.Member) bool { return !m.Full() }) {
		return nil, nil
	}
	onIdleThread(func() { families, err = c.grouper.Group(c.ctx, members) })
	c.samples.close()
	return families, err
}

// member is the file as the planner sees it.
func (f *found) member() series.Member {
	step, place := series.ParseStep(f.rel)
	return series.Member{
		Rel: f.rel, Key: series.Key(f.key), Generation: f.log.Generation(), Size: f.log.Size, Stored: f.stored,
		Mtime: time.Unix(0, f.mtime), Step: step, Place: place, Format: f.log.Format, Tensors: f.log.Tensors,
		Layout: f.layout, Bases: f.log.Dependence.Bases, Links: f.links,
	}
}

// family does what is planned for one family, and says how many files it coded.
func (c *compaction) family(f *series.Family) (done int, err error) {
	if !c.means(f) {
		return 0, nil
	}
	plan := slices.DeleteFunc(series.Plan(*f, series.Options{Depth: c.options.Depth}), func(a series.Action) bool {
		return time.Now().Before(c.refused[attemptOf(&a)])
	})
	r, err := c.begin(f, plan)
	if err != nil || c.dry {
		return 0, err
	}
	for i := range plan {
		a := &plan[i]
		if err := c.ctx.Err(); err != nil {
			return done, err
		}
		stored, err := c.act(a)
		if err == nil {
			done++
			r.add(a, stored)
		}
		c.notify(r)
		if err := c.outcome(a, stored, err); err != nil {
			return done, err
		}
		if err := c.attend(); err != nil {
			return done, err
		}
	}
	return done, nil
}

// means says whether the run is for the family.
func (c *compaction) means(f *series.Family) bool {
	return c.choose == nil || slices.ContainsFunc(f.Members, func(m series.Member) bool { return c.choose(m.Rel) }) ||
		slices.ContainsFunc(f.Leaves, func(l series.Leaf) bool { return c.choose(l.Rel) })
}

// errStale ends a run whose plans are not up to date.
var errStale = errors.New("somebody asked for another run meanwhile")

// attend does what others wait for in the middle of a long run: bases that nobody
// needs any more take space, and an order can't wait for what the store does by
// itself.
func (c *compaction) attend() error {
	select {
	case <-c.woken:
		if c.store.pins.count.Load() > 0 {
			c.tidy()
		}
		c.wake() // what is new is for the next run
	default:
	}
	if c.ordered {
		return nil
	}
	select {
	case o := <-c.orders:
		o.done <- c.obey(o)
		return errStale
	default:
		return nil
	}
}

// act carries out an action.
func (c *compaction) act(a *series.Action) (stored int64, err error) {
	r := c.recoding()
	r.pace, r.workers = c.pacer.wait, c.pacer.workers
	members := make([]member, len(a.Bases))
	bases := make([]*series.Member, len(a.Bases))
	for i := range a.Bases {
		members[i], bases[i] = memberFrom(&a.Bases[i]), &a.Bases[i]
	}
	return r.recode(memberFrom(&a.Member), members, series.Depend(&a.Member, bases), limitOf(a))
}

func memberFrom(m *series.Member) member { return member{m.Rel, Key(m.Key), m.Generation} }

// limitOf is the most that a member may take in its new form. One whose bases are
// to go is coded anew whatever it takes.
func limitOf(a *series.Action) int64 {
	now := a.Member.Bases
	switch {
	case len(a.Bases) == 0:
		return math.MaxInt64
	case len(now) == 0:
		return a.Member.Stored - int64(float64(a.Member.Stored)*leastGain)
	case len(now) < len(a.Bases) && slices.EqualFunc(now, a.Bases[:len(now)],
		func(x container.Base, y series.Member) bool { return x.Generation == y.Generation }):
		return a.Member.Stored - int64(float64(a.Member.Stored)*leastUpgrade)
	}
	return math.MaxInt64
}

// outcome counts and remembers how an action ended. The error is one that ends
// the run.
func (c *compaction) outcome(a *series.Action, stored int64, err error) error {
	s, n := c.store, &c.store.counters
	name := s.root.name(a.Member.Rel)
	switch {
	case err == nil:
		n.coded.Add(1)
		n.codedBefore.Add(uint64(a.Member.Stored))
		n.codedAfter.Add(uint64(stored))
		s.log.Info("coded anew", "file", name, "bases", len(a.Bases), "bytes_before", a.Member.Stored, "bytes", stored)
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case errors.Is(err, errNoGain):
		c.refused[attemptOf(a)] = time.Unix(math.MaxInt32, 0) // contents do not change
	case errors.Is(err, errChanged), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		// clients have done something with it; the next run will see
	case errors.Is(err, errUnpinnable):
		c.refused[attemptOf(a)] = time.Now().Add(retryAfter)
		c.pinless = fmt.Errorf("%s: hard links to bases can't be made: %w", name, err)
		s.pinless("hard links to bases can't be made", err)
	default:
		n.codeFailures.Add(1)
		c.refused[attemptOf(a)] = time.Now().Add(retryAfter)
		s.log.Warn("can't code anew", "file", name, "error", err)
	}
	return nil
}
