package store

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// A crash, or somebody who copies or removes files beside the store, may leave a
// pin that leads to another inode than the file with its content does, or none at
// all. The first takes space, the second leaves dependents unreadable.

// mend makes pins that are missing, and lets those that lead to inodes without a
// name lead to the files with the same content, where there are such.
func (k *keeper) mend(c *census, need map[container.Generation]bool) {
	s, done := k.store, make(map[container.Generation]bool)
	for _, f := range c.files {
		if len(f.log.Generations) == 0 || !f.sealed || f.open || f.links != 1 || k.ctx.Err() != nil {
			continue
		}
		g := f.log.Generation()
		if done[g] || !need[g] {
			continue
		}
		astray, err := s.astray(g, f.key)
		if err == nil && astray {
			done[g] = true
			err = k.mendPin(member{f.rel, f.key, g})
		}
		if err != nil && !errors.Is(err, errChanged) {
			s.log.Warn("can't mend a pin", "file", s.root.name(f.rel), "error", err)
		}
	}
}

// astray says whether the pin g is missing, or leads to an inode other than key
// that has no name.
func (s *Store) astray(g container.Generation, key Key) (bool, error) {
	st, err := s.statName(pinName(g))
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	return err == nil && keyOf(&st) != key && st.Nlink == 0, err
}

// mendPin lets the pin of the member's generation lead to it. Where there is a
// pin, its content is compared before.
func (k *keeper) mendPin(m member) error {
	s := k.store
	r := k.recoding()
	defer r.close()
	if err := r.open(m); err != nil {
		return err
	}
	for _, b := range r.reader.Dependence().Bases {
		if err := r.acyclic(b.Generation, m.generation); err != nil {
			return err
		}
	}
	old, pinned := s.pins.of(m.generation)
	if pinned {
		if err := r.equalPin(m.generation); err != nil {
			return err
		}
	}
	err := r.file.unchanged(r.version, func() error {
		if err := r.file.settledAs(m.generation); err != nil {
			return err
		}
		if !pinned {
			return s.pin(m.generation, r.file.backing)
		}
		if err := r.file.backing.sync(true); err != nil {
			return err
		}
		return r.file.keepCtime(func() error { return s.movePin(m.generation, old, r.file.backing) })
	})
	if err == nil {
		s.bases.replaced(m.generation)
		k.bases.replaced(m.generation)
		s.bases.forgive(m.generation)
		s.log.Info("mended a pin", "file", r.file.name)
	}
	return err
}

// equalPin compares the file with what the pin g leads to.
func (r *recoding) equalPin(g container.Generation) error {
	b, release, err := r.bases.Resolve(context.Background(), g)
	if errors.Is(err, errOtherContent) || errors.Is(err, container.ErrNotContainer) || errors.Is(err, container.ErrDamaged) {
		return nil // the pin is of no use: anything is better
	}
	if err != nil {
		return err // it may be next time
	}
	defer release()
	if b.Size() != r.reader.Size() {
		return fmt.Errorf("its pin has %d bytes, it has %d", b.Size(), r.reader.Size())
	}
	return r.sameBytes(b)
}
