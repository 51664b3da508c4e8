package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestInsideAnother: a directory whose files are pinned in one above it is not
// opened by itself for writing, by whatever name: what is saved over a base would
// change it in place.
func TestInsideAnother(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	for name, path := range map[string]func(dir string) string{
		"by its path": func(dir string) string { return dir },
		"by a symbolic link": func(dir string) string {
			must(t, os.Symlink(dir, link))
			return link
		},
	} {
		t.Run(name, func(t *testing.T) {
			outer, files := chain(t, Options{}, 2)
			must(t, outer.Close())
			s, err := Open(path(filepath.Join(outer.Path(), "run")), Options{still: true})
			if err == nil {
				f, err := s.Open(context.Background(), "ck1", Truncate)
				must(t, err)
				_, err = f.WriteAt([]byte("new"), 0)
				must(t, err)
				must(t, f.Release(true))
				must(t, s.Close())
			} else if !errors.Is(err, ErrInside) {
				t.Error(err)
			}
			outer, err = Open(outer.Path(), Options{still: true})
			must(t, err)
			defer func() { must(t, outer.Close()) }()
			expect(t, outer, map[string][]byte{"run/ck0": files["run/ck0"]})
		})
	}
}
