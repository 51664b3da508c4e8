package store

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/mithrilfs/mithrilfs/store/series"
)

// SeriesReport is what Compact found of one series, or did to it. Sizes are in
// bytes.
type SeriesReport struct {
	ID      string  `json:"newest"` // path of its newest file in the store: no other series has it
	Name    string  `json:"series"` // where its files are, with * for the step
	Files   int     `json:"files"`
	Logical int64   `json:"logical_bytes"`
	Before  int64   `json:"stored_bytes_before"`
	After   int64   `json:"stored_bytes"` // so far; what is expected, in a dry run
	Ratio   float64 `json:"ratio"`        // logical to After
	Planned int     `json:"planned"`      // files to be coded anew, so far as is known
	Coded   int     `json:"coded"`        // and those that were
}

// CompactOptions say what Compact is to do.
type CompactOptions struct {
	// Paths are files and directories in the store. Series with files in these are
	// meant; no paths mean all.
	Paths []string
	// DryRun changes nothing: the reports say what is expected.
	DryRun bool
	// Report is told of a series when it is begun, and after each of its files. It
	// may be nil.
	Report func(SeriesReport)
}

// order is a Compact under way.
type order struct {
	CompactOptions
	ctx  context.Context
	done chan error // has room for one
}

// Compact codes checkpoints of a series against each other where that makes them
// smaller, as the store does by itself if SeriesOptions say so, but at once and as
// fast as it can. It returns when there is nothing left to do, or with the cause
// of the end of ctx; everything is whole at any time.
func (s *Store) Compact(ctx context.Context, o CompactOptions) error {
	if s.readOnly {
		return s.writable("compact", "")
	}
	x := &order{CompactOptions: o, ctx: ctx, done: make(chan error, 1)}
	s.keeper.waiting.Add(1)
	defer s.keeper.waiting.Add(-1)
	select {
	case s.keeper.orders <- x:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.keeper.ctx.Done():
		return errClosing
	}
	return <-x.done
}

var errClosing = errors.New("the directory is being closed")

// obey runs an order.
func (k *keeper) obey(o *order) error {
	ctx, cancel := context.WithCancelCause(o.ctx)
	defer cancel(nil)
	defer context.AfterFunc(k.ctx, func() { cancel(errClosing) })()
	c := &compaction{keeper: k, ctx: ctx, pacer: newPacer(ctx, k.store, float64(k.store.workers)), dry: o.DryRun, tell: o.Report, ordered: true}
	c.pacer.hurry = true
	if len(o.Paths) > 0 {
		c.choose = func(rel string) bool { return below(rel, o.Paths) }
	}
	err := c.run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// below says whether rel is one of the paths, or below one.
func below(rel string, paths []string) bool {
	for _, p := range paths {
		p = path.Clean(p)
		if p == "." || rel == p || strings.HasPrefix(rel, p+"/") {
			return true
		}
	}
	return false
}

// begin reports on a family, of which plan is what to do.
func (c *compaction) begin(f *series.Family, plan []series.Action) (*SeriesReport, error) {
	newest := f.Members[len(f.Members)-1]
	r := c.reports[newest.Rel]
	if r == nil {
		r = &SeriesReport{ID: newest.Rel, Name: newest.Place, Files: f.Files()}
		for _, m := range f.Members {
			r.Logical, r.Before = r.Logical+m.Size, r.Before+m.Stored
		}
		for _, l := range f.Leaves {
			r.Logical, r.Before = r.Logical+l.Size, r.Before+l.Stored
		}
		r.After = r.Before
		c.reports[newest.Rel] = r
	}
	r.Planned = r.Coded + len(plan)
	if c.dry {
		var e series.Estimate
		var err error
		onIdleThread(func() { e, err = c.grouper.Estimate(c.ctx, plan) })
		c.samples.close()
		if err != nil {
			return nil, err
		}
		r.After -= e.Saved()
	}
	if r.Files > 1 || r.Planned > 0 {
		c.notify(r)
	}
	return r, nil
}

// add counts a file that was coded anew.
func (r *SeriesReport) add(a *series.Action, stored int64) {
	r.Coded++
	r.After += stored - a.Member.Stored
}

func (c *compaction) notify(r *SeriesReport) {
	r.Ratio = ratio(r.Logical, r.After)
	if c.tell != nil {
		c.tell(*r)
	}
}
