package series

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

const (
	// privateDir is where a backing directory keeps what is not a logical file.
	privateDir = ".mithrilfs"
	// ownPrefix begins the names of unfinished files, beside the files that they
	// are going to replace.
	ownPrefix = ".mithrilfs-"
	// pinDir has the pins: hard links to bases, named by generation.
	pinDir = privateDir + "/bases"
)

// Catalog lists the containers of a backing directory. It remembers what it has
// read of them, so that another Scan only asks for the attributes of each file. It
// serves one goroutine at a time.
type Catalog struct {
	dir    *os.File
	log    *slog.Logger
	known  map[Key]*entry
	seen   map[Key]bool // with a name that clients see
	pinned map[Key]bool
	tables map[Fingerprint][][]container.Tensor // of members, each once

	pins     []Pin
	dirs     []dirState // of the last Scan
	complete bool       // no dependent can have been missed
}

// dirState is a directory as it was when its names were read.
type dirState struct {
	rel   string
	key   Key
	ctime unix.StatxTimestamp
}

// entry is what a Catalog remembers of a file.
type entry struct {
	stored       int64
	mtime, ctime unix.StatxTimestamp
	member       *Member          // nil: the file is no sealed container
	bases        []container.Base // of any container
	problem      string           // why its bases could not be read
	again        bool             // the problem may go away while the file stays as it is
}

// Pin is a hard link that keeps the inode of a base.
type Pin struct {
	Generation container.Generation
	Key        Key
	Links      uint32 // names of the inode, the pin among them: 1 if the file was deleted or replaced
}

// NewCatalog returns a Catalog of an open directory, which stays the caller's. The
// directory is reached through the descriptor only, so it may be mounted over.
// logger may be nil.
func NewCatalog(dir *os.File, logger *slog.Logger) *Catalog {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Catalog{dir: dir, log: logger, known: make(map[Key]*entry), tables: make(map[Fingerprint][][]container.Tensor)}
}

// Scan lists the sealed containers below the directory by path, each inode once,
// by the first of its names. It passes by what the store keeps for itself,
// symbolic links, and whatever is mounted below. Of a container only the index is
// read, and again only when the file has changed. A file that is damaged or can't
// be read is logged, once for each state of it, and left out; one that changes or
// vanishes meanwhile is left out. The error is that of ctx, or why the directory
// itself can't be listed.
func (c *Catalog) Scan(ctx context.Context) ([]Member, error) {
	c.seen = make(map[Key]bool, len(c.known))
	c.dirs, c.complete = nil, true
	if err := c.readPins(); err != nil {
		return nil, err
	}
	pinned := make(map[Key]uint32, len(c.pins))
	for _, p := range c.pins {
		pinned[p.Key]++
	}
	var members []Member
	dirs := []string{""}
	for len(dirs) > 0 {
		rel := dirs[len(dirs)-1]
		below, err := c.scanDir(ctx, rel, func(m Member) {
			m.Links -= min(m.Links, pinned[m.Key])
			members = append(members, m)
		})
		if err != nil && (rel == "" || ctx.Err() != nil) {
			return nil, err
		}
		if err != nil {
			c.complete = false
			if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EXDEV) {
				c.log.Warn("a directory can't be searched for checkpoints", "err", err)
			}
		}
		dirs = append(dirs[:len(dirs)-1], below...)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Rel, b.Rel) })
	c.complete = c.complete && c.unchanged()
	c.forget()
	return members, nil
}

// unchanged says whether every directory has the names that were read of it: then
// they all had them at one moment, and no file was missed because it was moved.
func (c *Catalog) unchanged() bool {
	for _, d := range c.dirs {
		f, err := c.open(d.rel, unix.O_DIRECTORY)
		if err != nil {
			return false
		}
		st, err := statFD(f)
		_ = f.Close()
		if err != nil || keyOf(&st) != d.key || st.Ctime != d.ctime {
			return false
		}
	}
	return true
}

// clockTick is longer than the time in which a file can change twice and have the
// same times.
const clockTick = 50 * time.Millisecond

// note remembers a directory before its names are read. One that has only just
// changed may change again without a trace.
func (c *Catalog) note(rel string, d *os.File) error {
	st, err := statFD(d)
	if err != nil {
		return err
	}
	if time.Since(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))) < clockTick {
		c.complete = false
	}
	c.dirs = append(c.dirs, dirState{rel, keyOf(&st), st.Ctime})
	return nil
}

// forget drops what is about files that are gone.
func (c *Catalog) forget() {
	tables := make(map[Fingerprint][][]container.Tensor)
	for key, e := range c.known {
		switch {
		case !c.seen[key] && !c.pinned[key]:
			delete(c.known, key)
		case e.member != nil:
			m := e.member
			if !slices.ContainsFunc(tables[m.Layout], func(t []container.Tensor) bool { return &t[0] == &m.Tensors[0] }) && len(m.Tensors) > 0 {
				tables[m.Layout] = append(tables[m.Layout], m.Tensors)
			}
		}
	}
	c.tables = tables
}

// Pins are the pins that the last Scan found, by generation.
func (c *Catalog) Pins() []Pin { return c.pins }

// Unneeded returns the pins that no container depended on, sealed or not, when the
// last Scan ended. There are none if that Scan may have missed a dependent: a file
// or directory that it could not read, something mounted below, a directory that
// changed meanwhile. Whoever makes dependents must not do so between Scan and what
// comes of this, and must keep what open files without a name depend on.
func (c *Catalog) Unneeded() []Pin {
	if !c.complete {
		return nil
	}
	needed := make(map[container.Generation]bool)
	for _, e := range c.known {
		for _, b := range e.bases {
			needed[b.Generation] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(c.pins), func(p Pin) bool { return needed[p.Generation] })
}

// readPins lists the pins. A directory without any has none.
func (c *Catalog) readPins() error {
	c.pins, c.pinned = nil, make(map[Key]bool)
	d, err := c.open(pinDir, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		b, err := hex.DecodeString(name)
		if err != nil || len(b) != len(container.Generation{}) {
			continue
		}
		st, err := stat(d, name)
		if err != nil {
			continue // it went away
		}
		c.pins = append(c.pins, Pin{container.Generation(b), keyOf(&st), st.Nlink})
		// A base without another name may have bases itself.
		if e := c.look(path.Join(pinDir, name), &st); e == nil || e.problem != "" {
			c.complete = false
		}
		c.pinned[keyOf(&st)] = true
	}
	return nil
}

// scanDir passes the members in one directory on, and returns the directories in
// it.
func (c *Catalog) scanDir(ctx context.Context, rel string, add func(Member)) (below []string, err error) {
	d, err := c.open(rel, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	if err := c.note(rel, d); err != nil {
		return nil, err
	}
	list, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range list {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		name := path.Join(rel, e.Name())
		switch {
		case name == privateDir || strings.HasPrefix(e.Name(), ownPrefix):
		case e.IsDir():
			below = append(below, name)
		case e.Type().IsRegular():
			c.scanFile(d, name, add)
		}
	}
	slices.Reverse(below) // the last one is searched first
	return below, nil
}

// scanFile passes a member on, if the file is one.
func (c *Catalog) scanFile(dir *os.File, rel string, add func(Member)) {
	st, err := stat(dir, path.Base(rel))
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		c.complete = false // it went away
		return
	}
	key := keyOf(&st)
	if c.seen[key] {
		return
	}
	e := c.look(rel, &st)
	if e == nil {
		c.complete = false
		return
	}
	c.seen[key] = true
	c.complete = c.complete && e.problem == ""
	if e.member != nil {
		m := *e.member
		m.Rel, m.Links = rel, st.Nlink
		m.Step, m.Place = ParseStep(rel)
		add(m)
	}
}

// look returns what there is to know of a file, which is read if it has changed. It
// returns nil for one that is not the one with these attributes any more.
func (c *Catalog) look(rel string, st *unix.Statx_t) *entry {
	key := keyOf(st)
	e := c.known[key]
	if e != nil && !e.again && e.current(st) {
		return e
	}
	if e = c.read(rel, st, e); e != nil {
		c.known[key] = e
	}
	return e
}

// current says whether a file is as it was when e was read.
func (e *entry) current(st *unix.Statx_t) bool {
	return e.stored == int64(st.Size) && e.mtime == st.Mtime && e.ctime == st.Ctime
}

// read looks into a file, of which old was known, or nil. It returns nil for one
// that is not the one with these attributes any more.
func (c *Catalog) read(rel string, st *unix.Statx_t, old *entry) *entry {
	f, err := c.open(rel, unix.O_NONBLOCK)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EXDEV) {
		return nil // it went away, or something is mounted there
	}
	e := &entry{stored: int64(st.Size), mtime: st.Mtime, ctime: st.Ctime}
	if err == nil {
		defer func() { _ = f.Close() }()
		err = e.readFrom(f)
		now, statErr := statFD(f)
		if statErr != nil || keyOf(&now) != keyOf(st) || !e.current(&now) {
			return nil
		}
	}
	if err != nil {
		e.problem = err.Error()
		e.again = !errors.Is(err, container.ErrDamaged) && !errors.Is(err, container.ErrVersion)
		if old == nil || old.problem != e.problem {
			c.log.Warn("a file is left as it is: it can't be read", "file", rel, "err", err)
		}
	}
	if m := e.member; m != nil {
		m.Key, m.Stored = keyOf(st), int64(st.Size)
		m.Mtime = time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))
		c.share(m)
	}
	return e
}

// readFrom reads the index of a sealed container, or, of one that is not sealed,
// what it depends on.
func (e *entry) readFrom(f *os.File) error {
	l, err := container.ReadSealed(f, e.stored)
	switch {
	case errors.Is(err, container.ErrNotContainer):
		return nil
	case errors.Is(err, container.ErrUnsealed):
		e.bases, err = container.ReadBases(f, e.stored)
		return err
	case err != nil:
		return err
	}
	e.bases = l.Dependence.Bases
	e.member = &Member{
		Generation: l.Generation(), Size: l.Size, Format: l.Format, Tensors: l.Tensors,
		Layout: FingerprintOf(l.Format, l.Tensors), Bases: e.bases,
	}
	return nil
}

// share gives a member the table of another one if theirs are equal: all of a
// series have the same.
func (c *Catalog) share(m *Member) {
	if len(m.Tensors) == 0 {
		return
	}
	for _, t := range c.tables[m.Layout] {
		if slices.EqualFunc(t, m.Tensors, equalTensors) {
			m.Tensors = t
			return
		}
	}
	c.tables[m.Layout] = append(c.tables[m.Layout], m.Tensors)
}

func equalTensors(a, b container.Tensor) bool {
	return a.Name == b.Name && a.DType == b.DType && a.Begin == b.Begin && a.End == b.End && slices.Equal(a.Shape, b.Shape)
}

// open opens a file or a directory below the root: through no symbolic link, and
// not into what is mounted there. Where that is allowed, it does not look like an
// access.
func (c *Catalog) open(rel string, flags uint64) (*os.File, error) {
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOATIME | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(c.dir.Fd()), rel, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), rel), nil
		case errors.Is(err, unix.EPERM) && how.Flags&unix.O_NOATIME != 0:
			how.Flags &^= unix.O_NOATIME
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN): // EAGAIN: a rename at the same time
			return nil, &os.PathError{Op: "open", Path: rel, Err: err}
		}
	}
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

func stat(dir *os.File, name string) (st unix.Statx_t, err error) {
	err = unix.Statx(int(dir.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, statMask, &st)
	return st, err
}

func statFD(f *os.File) (st unix.Statx_t, err error) {
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, statMask, &st)
	return st, err
}

func keyOf(st *unix.Statx_t) Key {
	return Key{Device: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino, Born: st.Btime.Sec*1e9 + int64(st.Btime.Nsec)}
}
