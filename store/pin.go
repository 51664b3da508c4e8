package store

import (
	"encoding/hex"
	"errors"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// basesDir holds the pins. A pin is a hard link to the inode that holds a base,
// named by the base's last generation: whatever becomes of the base's other
// names, its dependents can be read. What a pin leads to is never changed in
// place, neither by clients (unshare.go) nor by the store.
const basesDir = privateDir + "/bases"

// errUnpinnable says that a filesystem, or its rules, can't make the hard link.
var errUnpinnable = errors.New("hard links can't be made")

// errPinned says that a pin leads to another inode than whoever asks believed.
var errPinned = errors.New("its pin leads to another file")

// pins knows all pins of a directory. While there are none, which count tells,
// nothing else costs.
type pins struct {
	count atomic.Int64 // of links

	change sync.Mutex // held while a pin is made, moved or removed

	mu           sync.RWMutex // guards what follows and, held for writing, the links of pinned inodes
	byGeneration map[container.Generation]Key
	links        map[Key]uint32 // how many pins, or names of tempPin, lead to an inode
}

// pinName is the path of a pin in the store.
func pinName(g container.Generation) string { return path.Join(basesDir, hex.EncodeToString(g[:])) }

// parsePin reads the generation from a pin's name.
func parsePin(name string) (g container.Generation, ok bool) {
	if len(name) != hex.EncodedLen(len(g)) || name != strings.ToLower(name) {
		return g, false
	}
	_, err := hex.Decode(g[:], []byte(name))
	return g, err == nil
}

// put notes that the pin g leads to the inode key. The caller holds mu.
func (p *pins) put(g container.Generation, key Key) {
	p.take(g)
	if p.byGeneration == nil {
		p.byGeneration = make(map[container.Generation]Key)
	}
	p.byGeneration[g] = key
	p.link(key)
}

// take notes that there is no pin g. The caller holds mu.
func (p *pins) take(g container.Generation) {
	if key, ok := p.byGeneration[g]; ok {
		delete(p.byGeneration, g)
		p.unlink(key)
	}
}

// link and unlink note a link more, or less. The caller holds mu.
func (p *pins) link(key Key) {
	if p.links == nil {
		p.links = make(map[Key]uint32)
	}
	p.links[key]++
	p.count.Add(1)
}

func (p *pins) unlink(key Key) {
	if p.links[key]--; p.links[key] == 0 {
		delete(p.links, key)
	}
	p.count.Add(-1)
}

// of returns the inode to which the pin g leads.
func (p *pins) of(g container.Generation) (Key, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	key, ok := p.byGeneration[g]
	return key, ok
}

// all returns the generations of all pins.
func (p *pins) all() map[container.Generation]Key {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make(map[container.Generation]Key, len(p.byGeneration))
	for g, key := range p.byGeneration {
		all[g] = key
	}
	return all
}

// has says whether a pin leads to the inode.
func (p *pins) has(key Key) bool {
	if p.count.Load() == 0 {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.links[key] > 0
}

// visible sets the number of links to what clients see of it: names, not pins.
// again looks at the inode once more, while no pin is made or removed.
func (p *pins) visible(st *unix.Statx_t, again func() (unix.Statx_t, error)) error {
	if st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG || p.count.Load() == 0 {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := p.links[keyOf(st)]
	if n == 0 {
		return nil
	}
	now, err := again()
	if err != nil {
		return err
	}
	*st = now
	st.Nlink -= min(n, st.Nlink)
	return nil
}

// statVisible is backing.stat with the number of links that clients see.
func (s *Store) statVisible(b *backing) (unix.Statx_t, error) {
	st, err := b.stat()
	if err == nil {
		err = s.pins.visible(&st, b.stat)
	}
	return st, err
}

// loadPins finds the pins that are there, and removes what a daemon that died
// was about to make one. Who does not know all pins must not write: an edit could
// change in place what others are coded against.
func (s *Store) loadPins() error {
	names, err := s.root.list(basesDir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	host, _, _ := strings.Cut(s.instance, ".")
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	for _, name := range names {
		rel := path.Join(basesDir, name)
		if strings.HasPrefix(name, siblingPrefix+host+".") && !s.readOnly {
			_ = s.root.unlink(rel)
			continue
		}
		g, ok := parsePin(name)
		if !ok {
			continue
		}
		st, err := s.root.stat(rel)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			s.pins.put(g, keyOf(&st))
		}
	}
	return nil
}

// pinless notes that no more pins can be made, and why, once.
func (s *Store) pinless(why string, err error) {
	if s.unpinnable.CompareAndSwap(false, true) {
		s.log.Warn(why+": checkpoints stay full", "error", err)
	}
}

// linksRefused says whether err means that a filesystem, or its rules, can't make
// the hard link, rather than that something is wrong with the disk.
func linksRefused(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.EMLINK, unix.EXDEV, unix.ENOTSUP, unix.ENOSYS, unix.EROFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unpinnable marks an error of making a pin that linksRefused.
func unpinnable(err error) error {
	if linksRefused(err) {
		err = errors.Join(errUnpinnable, err)
	}
	return err
}

// pin makes sure that there is a pin g, and that it and what it leads to are
// durable. If there is none, one is made to the inode of file, whose last
// generation g is. Nobody may change file meanwhile.
func (s *Store) pin(g container.Generation, file *backing) error {
	if err := file.sync(true); err != nil {
		return err
	}
	if err := s.makeBases(); err != nil {
		return unpinnable(err)
	}
	s.pins.change.Lock()
	defer s.pins.change.Unlock()
	has, err := s.findPin(g)
	if err != nil {
		return err
	}
	if !has {
		before, err := s.linkPin(pinName(g), file, func(key Key) { s.pins.put(g, key) })
		if err != nil {
			return unpinnable(err)
		}
		s.showCtime(file.fd(), &before)
		s.counters.pinned.Add(1)
	}
	return s.syncDir(basesDir)
}

// findPin says whether there is a pin g, and notes where it leads to: it may have
// been removed by hand, or given another file. The caller holds change.
func (s *Store) findPin(g container.Generation) (bool, error) {
	st, err := s.root.stat(pinName(g))
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	switch {
	case errors.Is(err, unix.ENOENT):
		s.pins.take(g)
		return false, nil
	case err != nil:
		return false, err
	}
	s.pins.put(g, keyOf(&st))
	return true, nil
}

// linkPin makes a hard link to the inode of file and notes it by done, at once
// for whoever counts links. It returns what the inode was before. The error is
// unix.EXDEV where the link leads elsewhere, as overlayfs may have it.
func (s *Store) linkPin(rel string, file *backing, done func(Key)) (unix.Statx_t, error) {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	before, err := file.stat()
	if err != nil {
		return before, err
	}
	err = s.root.at("pin", rel, func(dirfd int, base string) error {
		return s.root.sys.linkat(file.fd(), dirfd, base)
	})
	if err != nil {
		return before, err
	}
	if now, err := s.root.stat(rel); err != nil || keyOf(&now) != keyOf(&before) {
		return before, errors.Join(err, unix.EXDEV, s.root.unlink(rel))
	}
	done(keyOf(&before))
	return before, nil
}

// showCtime lets clients see the change time that an inode had before the store
// changed the number of its links.
func (s *Store) showCtime(fd int, before *unix.Statx_t) {
	after, err := statFD(fd)
	if err != nil || after.Ctime == before.Ctime {
		return
	}
	key, c := s.ids.of(keyOf(before)), &s.root.ctimes
	c.put(key, after.Ctime, c.of(key, before.Ctime))
}

// makeBases makes the directory of pins, durably.
func (s *Store) makeBases() error {
	if _, err := s.root.stat(basesDir); err == nil {
		return nil
	}
	if err := s.root.mkdirs(basesDir); err != nil {
		return err
	}
	for _, dir := range []string{"", privateDir} {
		if err := s.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes what happened to the names in a directory durable.
func (s *Store) syncDir(rel string) error {
	d, err := s.root.openFile(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = s.root.sys.fsync(d)
	if errors.Is(err, unix.EINVAL) {
		err = nil // a filesystem that has nothing to sync there
	}
	return errors.Join(err, d.Close())
}

// movePin lets the pin g, which leads to the inode from, lead to that of to, which
// is durable and holds the same logical bytes. Whether the pin itself is durable
// does not matter: either inode will do. The error is errPinned if it does not lead
// there.
func (s *Store) movePin(g container.Generation, from Key, to *backing) error {
	s.pins.change.Lock()
	defer s.pins.change.Unlock()
	if key, ok := s.pins.of(g); !ok || key != from {
		return errPinned
	}
	temp := s.tempPin()
	st, err := s.linkPin(temp, to, s.pins.link)
	if err != nil {
		return err
	}
	return s.renamePin(temp, keyOf(&st), g)
}

// tempPin is a name for what is going to be a pin.
func (s *Store) tempPin() string {
	return path.Join(basesDir, siblingPrefix+s.instance+"."+randomName())
}

// renamePin gives what tempPin named, the inode key, the name of the pin g. If
// that fails, it is gone. The caller holds change.
func (s *Store) renamePin(temp string, key Key, g container.Generation) error {
	s.pins.mu.Lock()
	err := s.root.at2("pin", temp, pinName(g), func(fromFD int, from string, toFD int, to string) error {
		return s.root.sys.renameat(fromFD, from, toFD, to, 0)
	})
	if err != nil {
		_ = s.root.unlink(temp)
	}
	s.pins.unlink(key)
	if err == nil {
		s.pins.put(g, key)
	}
	s.pins.mu.Unlock()
	return err
}

// unpin removes the pin g, which leads to key: no dependent needs it. The caller
// holds change.
func (s *Store) unpin(g container.Generation, key Key) error {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	if now, ok := s.pins.byGeneration[g]; !ok || now != key {
		return errPinned
	}
	fd, err := s.root.open(pinName(g), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		s.pins.take(g) // removed by hand
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	before, err := statFD(fd)
	if err != nil {
		return err
	}
	if err := s.root.unlink(pinName(g)); err != nil {
		return err
	}
	s.pins.take(g)
	s.showCtime(fd, &before)
	s.counters.unpinned.Add(1)
	return nil
}

// noteDependents remembers which inodes need pins, for who removes names.
func (s *Store) noteDependents(c *census) {
	if c.doubt != nil {
		return
	}
	set := make(map[Key]bool)
	for _, f := range c.files {
		if len(f.log.Dependence.Bases) > 0 {
			set[f.key] = true
		}
	}
	s.dependents.Store(&set)
}

// lostInode tells that a name of the inode is gone, or its last opener: there may
// be pins that are not needed any more.
func (s *Store) lostInode(key Key) {
	if s.pins.count.Load() == 0 {
		return
	}
	if set := s.dependents.Load(); set == nil || (*set)[key] || s.pins.has(key) {
		s.keeper.wake()
	}
}
