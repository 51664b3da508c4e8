package store

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUnknownPinsForbidWriting: where the pins can't be looked at, an edit might
// change what one leads to.
func TestUnknownPinsForbidWriting(t *testing.T) {
	s, files := chain(t, Options{}, 2)
	must(t, s.Close())
	for _, cause := range []error{unix.EACCES, unix.EIO} {
		x := &refusing{refuse: func(name string) error {
			if strings.HasPrefix(name, basesDir) {
				return cause
			}
			return nil
		}}
		if s, err := Open(s.Path(), Options{sys: x, still: true}); err == nil {
			f, err := s.Open(context.Background(), "run/ck1", Write)
			must(t, err)
			_, err = f.WriteAt([]byte("edited"), 200_000)
			must(t, err)
			must(t, f.Release(true))
			must(t, s.Close())
		}
		r, err := Open(s.Path(), Options{sys: x, ReadOnly: true})
		must(t, err)
		expect(t, r, map[string][]byte{"run/ck1": files["run/ck1"]})
		must(t, r.Close())
	}
	s, err := Open(s.Path(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	expect(t, s, files)
}
