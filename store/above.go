package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// readCache is how many bytes of decoded frames are kept for one file that is
// read without a mount. At the end of a chain of bases, frames of all of them are
// in use.
const readCache = 32 << 20

// above finds the bases of a file that is read without a mount: as pins in the
// backing directory that the file is in, which is any directory above it.
type above struct {
	path  string
	cache *container.Cache
}

var _ container.Resolver = (*above)(nil)

// cacheFor returns a cache for the Readers of one file, with its bases.
func cacheFor(path string) *container.Cache {
	c := container.NewCache(readCache)
	c.SetResolver(&above{path, c})
	return c
}

// Resolve opens the base whose last generation is g.
func (a *above) Resolve(_ context.Context, g container.Generation) (*container.Reader, func(), error) {
	f, err := a.open(pinName(g))
	if err != nil {
		return nil, nil, err
	}
	r, err := openContainer(f, a.cache)
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return r, func() {
		r.Close()
		_ = f.Close() // opened for reading
	}, nil
}

// open opens the nearest file of that name below a directory above the path.
func (a *above) open(name string) (*os.File, error) {
	dirs, err := dirsAbove(a.path)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		f, err := os.Open(filepath.Join(dir, name))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("there is no %s in a directory above %s: move the file back into its backing directory, "+
		"or put the container with that content there under this name", name, a.path)
}

// dirsAbove lists the directories above a path, the nearest first, and those above
// what it leads to, if there are symbolic links in it.
func dirsAbove(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	starts := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		starts = append(starts, real)
	}
	var dirs []string
	for _, dir := range starts {
		for dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// openContainer opens the container in f.
func openContainer(f *os.File, cache *container.Cache) (*container.Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return container.Open(f, st.Size(), cache)
}
