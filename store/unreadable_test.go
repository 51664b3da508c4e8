package store

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/series"
)

// TestOneFileRefused: a file that can't be opened says nothing about hard links:
// all others are coded on.
func TestOneFileRefused(t *testing.T) {
	x := &refusing{refuse: func(name string) error {
		if strings.HasSuffix(name, "locked") {
			return unix.EACCES
		}
		return nil
	}}
	s, err := Open(t.TempDir(), Options{sys: x, still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	c := &compaction{keeper: s.keeper, ctx: t.Context()}
	_, err = s.keeper.recoding().recode(member{rel: "locked"}, nil, series.Depend(&series.Member{}, nil), 1)
	if !errors.Is(err, unix.EACCES) {
		t.Fatal(err)
	}
	if err := c.outcome(&series.Action{}, 0, err); err != nil || s.unpinnable.Load() {
		t.Errorf("it gives up: %v", err)
	}
}
