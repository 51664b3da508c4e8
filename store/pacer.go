package store

import (
	"context"
	"math"
	"time"
)

// pacer makes the compactor take no more than its share of the processors, and
// much less while clients save, unless somebody waits for it.
type pacer struct {
	store   *Store
	ctx     context.Context
	share   float64 // of the time, 0 to 1
	workers int
	hurry   bool      // somebody waits: clients who save are not spared
	last    time.Time // when work went on
}

const (
	// savingShare is the compactor's part of its share while clients save.
	savingShare = 0.02
	// savingLast is for how long after a write of savingLeast bytes a client counts
	// as saving: one that keeps a log is not waited for.
	savingLast  = time.Second
	savingLeast = 64 << 10
	// maxNap bounds one pause, so that work goes on soon when saving is over.
	maxNap = time.Second
)

func newPacer(ctx context.Context, s *Store, cpu float64) *pacer {
	workers := max(1, int(math.Ceil(cpu)))
	return &pacer{store: s, ctx: ctx, share: min(1, cpu/float64(workers)), workers: workers}
}

// wait is called between pieces of work. The error is that of the context.
func (p *pacer) wait() error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	share := p.share
	switch {
	case p.hurry || p.store.keeper.waiting.Load() > 0:
		share = 1
	case p.store.saving():
		share *= savingShare
	}
	if worked := time.Since(p.last); share < 1 && !p.last.IsZero() {
		nap := time.Duration(float64(worked) * (1 - share) / share)
		t := time.NewTimer(min(nap, maxNap))
		defer t.Stop()
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-t.C:
		}
	}
	p.last = time.Now()
	return nil
}

// saving says whether a client wrote much just now.
func (s *Store) saving() bool {
	return time.Now().UnixNano()-s.written.Load() < int64(savingLast)
}
