package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// A census looks at every file of the directory: which containers there are, and
// which need others. What an inode's index says is remembered, so that the next
// census reads only what is new.

// found is a container that a census found.
type found struct {
	rel    string // a name of it
	key    Key    // its backing inode
	stored int64
	mtime  int64 // nanoseconds
	ctime  int64
	links  uint32 // names that clients see

	log    container.Log // without extents and segments; zero for what is no container
	layout series.Fingerprint
	sealed bool
	open   bool  // a client has it open for writing
	err    error // why nobody can tell what it needs
}

// census is what was found.
type census struct {
	store *Store
	files []*found // containers with names, in the order of the walk
	doubt error    // why there may be dependents that are not among files, nil if there are none
	moves uint64   // of Store.moves, when it began
	known indexes  // from earlier ones
	seen  indexes  // what this one has looked at
	// tables are those of all containers, each once, by what they have in common.
	tables map[series.Fingerprint][][]container.Tensor
}

// indexes remembers what inodes hold.
type indexes map[Key]*found

// takeCensus walks the tree. It ends early, with a doubt, when ctx ends.
func (s *Store) takeCensus(ctx context.Context, known indexes) *census {
	c := &census{store: s, known: known, seen: make(indexes), tables: make(map[series.Fingerprint][][]container.Tensor)}
	for _, f := range known {
		c.share(f, f.log.Tensors)
	}
	s.names.Lock() // what is being moved now is seen where it will be
	c.moves = s.moves.Load()
	s.names.Unlock()
	dirs := []string{""}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		below, err := c.look(ctx, dir)
		dirs = append(dirs[:len(dirs)-1], below...)
		if err != nil {
			c.doubtful(fmt.Errorf("%s: %w", s.root.name(dir), err))
		}
		if ctx.Err() != nil {
			c.doubtful(ctx.Err())
			break
		}
	}
	return c
}

// errCovered is of a directory in which dependents may lie that can't be seen now.
var errCovered = errors.New("something is mounted over it")

// doubtful notes the first reason.
func (c *census) doubtful(err error) {
	if c.doubt == nil {
		c.doubt = err
	}
}

// look looks into one directory and returns those below it. One that is gone held
// nothing, unless it was moved.
func (c *census) look(ctx context.Context, dir string) (below []string, err error) {
	if dir == privateDir {
		return nil, nil
	}
	fd, err := c.store.root.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), c.store.root.name(dir))
	defer func() { _ = d.Close() }()
	if st, err := statFD(fd); err != nil || dir != "" && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		c.doubtful(errors.Join(err, fmt.Errorf("%s: %w", d.Name(), errCovered)))
	}
	for ctx.Err() == nil {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			rel := path.Join(dir, e.Name())
			switch {
			case e.IsDir():
				below = append(below, rel)
			case e.Type().IsRegular() && !c.store.hidden(rel):
				c.count(rel)
			}
		}
		if errors.Is(err, io.EOF) {
			return below, nil
		}
		if err != nil {
			return below, err
		}
	}
	return below, nil
}

// count adds the file rel, if it is a container.
func (c *census) count(rel string) {
	st, err := c.store.statName(rel)
	if errors.Is(err, unix.ENOENT) || err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size < container.HeaderSize) {
		return
	}
	if err != nil {
		c.doubtful(err)
		return
	}
	f := c.index(rel, &st)
	if f == nil {
		return
	}
	if f.err != nil {
		c.doubtful(fmt.Errorf("%s: %w", c.store.root.name(rel), f.err))
	}
	c.files = append(c.files, f)
}

// index tells what is in the backing inode that st describes, under the name rel:
// nil for what is no container.
func (c *census) index(rel string, st *unix.Statx_t) *found {
	s := c.store
	now := &found{
		rel: rel, key: keyOf(st), stored: int64(st.Size), links: st.Nlink,
		mtime: nanoseconds(st.Mtime), ctime: nanoseconds(st.Ctime),
	}
	if f := s.lookup(s.ids.of(now.key)); f != nil {
		defer s.drop(f)
		if c.indexOpen(f, now) {
			return now.orNothing()
		}
	}
	if old := c.known[now.key]; old != nil && old.same(now) {
		now.log, now.layout, now.sealed = old.log, old.layout, old.sealed
	} else {
		now.err = c.readIndex(now)
	}
	if now.err == nil {
		c.seen[now.key] = now
	}
	return now.orNothing()
}

func (c *found) same(now *found) bool {
	return c.stored == now.stored && c.mtime == now.mtime && c.ctime == now.ctime
}

// orNothing is nil for what is no container.
func (c *found) orNothing() *found {
	if c.err == nil && len(c.log.Generations) == 0 {
		return nil
	}
	return c
}

// setLog keeps of a log what the census needs.
func (c *census) setLog(f *found, l container.Log) {
	l.Extents, l.Dependence.Segments = nil, nil
	f.log, f.layout = l, series.FingerprintOf(l.Format, l.Tensors)
	c.share(f, l.Tensors)
}

// share lets all members of a series have one table of tensors, which may be long.
func (c *census) share(f *found, table []container.Tensor) {
	if len(table) == 0 {
		return
	}
	for _, t := range c.tables[f.layout] {
		if &t[0] == &table[0] || slices.EqualFunc(t, table, sameTensor) {
			f.log.Tensors = t
			return
		}
	}
	c.tables[f.layout] = append(c.tables[f.layout], table)
}

func sameTensor(a, b container.Tensor) bool {
	return a.Name == b.Name && a.DType == b.DType && a.Begin == b.Begin && a.End == b.End && slices.Equal(a.Shape, b.Shape)
}

// indexOpen tells what an open file holds, unless the inode with its name is
// another one for now.
func (c *census) indexOpen(f *File, now *found) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	key, err := f.backing.inode()
	if err != nil || key != now.key {
		return false
	}
	now.open = f.Changing()
	if r := f.content.reader(); r != nil {
		c.setLog(now, r.Log())
		now.sealed = r.State().Sealed && !f.unsettled()
	}
	return true
}

// unsettled says whether the file has bytes that its container's index does not
// tell of. The caller holds mu.
func (f *File) unsettled() bool {
	s, ok := f.content.(*saving)
	return ok && (s.w.Modified() || s.chunk != nil)
}

// readIndex reads what the name leads to, which must be the inode that was
// looked at.
func (c *census) readIndex(now *found) error {
	s := c.store
	f, err := s.root.openFile(now.rel, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // a move is noted elsewhere
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	b := newBacking(f, s.root.sys)
	if key, err := b.inode(); err != nil || key != now.key {
		return errors.Join(err, errChanged)
	}
	r, err := container.Open(b, now.stored, s.cache)
	if errors.Is(err, container.ErrNotContainer) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	c.setLog(now, r.Log())
	now.sealed = r.State().Sealed
	if st := r.State(); st.Once && now.log.End() == container.HeaderSize {
		return st.Tail // it was whole once, and may have needed anything
	}
	return nil
}

// needed returns the generations that files with names, or open ones, need, by
// themselves or through others. The error says why that can't be told.
func (c *census) needed() (map[container.Generation]bool, error) {
	if c.doubt != nil {
		return nil, c.doubt
	}
	need := make(map[container.Generation]bool)
	var next []container.Generation
	add := func(d container.Dependence) {
		for _, b := range d.Bases {
			if !need[b.Generation] {
				need[b.Generation] = true
				next = append(next, b.Generation)
			}
		}
	}
	for _, f := range c.files {
		add(f.log.Dependence)
	}
	if err := errors.Join(c.store.eachDependence(add), c.store.bases.eachOld(add)); err != nil {
		return nil, err
	}
	for len(next) > 0 {
		g := next[len(next)-1]
		next = next[:len(next)-1]
		d, err := c.pinDependence(g)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.store.root.name(pinName(g)), err)
		}
		add(d)
	}
	return need, nil
}

// eachDependence calls do for every open file: some may have no name. The error
// is errChanged where one is being opened.
func (s *Store) eachDependence(do func(container.Dependence)) error {
	var doubt error
	for _, f := range s.holdAll() {
		f.mu.RLock()
		if f.content == nil {
			doubt = errChanged
		} else if r := f.content.reader(); r != nil {
			do(r.Dependence())
		}
		f.mu.RUnlock()
		s.drop(f)
	}
	return doubt
}

// pinDependence is what the inode needs to which the pin g leads. A pin that is
// missing needs nothing.
func (c *census) pinDependence(g container.Generation) (container.Dependence, error) {
	rel := pinName(g)
	st, err := c.store.root.stat(rel)
	if errors.Is(err, unix.ENOENT) {
		return container.Dependence{}, nil
	}
	if err != nil {
		return container.Dependence{}, err
	}
	f := c.index(rel, &st)
	if f == nil {
		return container.Dependence{}, nil
	}
	return f.log.Dependence, f.err
}

// remember is what the next census need not read again.
func (c *census) remember() indexes {
	if c.doubt != nil { // it has not seen all
		for key, f := range c.known {
			if c.seen[key] == nil {
				c.seen[key] = f
			}
		}
	}
	return c.seen
}
