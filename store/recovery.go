package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// instance names this host, its boot and this process. A sibling's name begins
// with it, so that another host's daemon knows that it is none of its own.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte("0")
	}
	return fmt.Sprintf("%s.%.8s.%d", hostLabel(host), boot, os.Getpid())
}

// hostLabel makes a host's name fit into a file's name.
func hostLabel(host string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '/' || r > '~' || r <= ' ' {
			return '-'
		}
		return r
	}, host[:min(len(host), 64)])
}

// recover removes what daemons of this host left when they died, files that were
// going to replace others, which are whole, and completes what must be. The lock
// on the directory says that no such daemon lives.
func (s *Store) recover() {
	names, err := s.root.list(pendingDir)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			s.log.Warn("can't look for leftovers", "error", err)
		}
		return
	}
	host, _, _ := strings.Cut(s.instance, ".")
	lost := &lost{siblings: make(map[string]string), redos: make(map[Key]string), left: maxSearch}
	removed := 0
	for _, name := range names {
		if strings.HasPrefix(name, redoPrefix+host+".") {
			s.recoverRedo(name, lost)
		}
		if !strings.HasPrefix(name, siblingPrefix+host+".") {
			continue
		}
		dir, err := s.Readlink(path.Join(pendingDir, name))
		if err == nil && s.removeLeftover(strings.TrimPrefix(dir, "./"), name) {
			removed++
		} else if err == nil {
			lost.siblings[name] = ""
		}
	}
	removed += s.find(lost)
	s.counters.leftovers.Add(uint64(removed))
	if removed > 0 {
		s.log.Info("removed unfinished replacements of a daemon that died", "files", removed)
	}
}

// removeLeftover removes a sibling from the directory dir, and then its note, or
// says that it is not there.
func (s *Store) removeLeftover(dir, name string) bool {
	b := &sibling{root: s.root, name: name, dir: dir}
	var err error
	if b.dirfd, err = s.root.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstatat(b.dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		_ = unix.Close(b.dirfd)
		return false
	}
	b.discard()
	return true
}

// recoverRedo removes a redo that is not finished. What is for one that is, has
// to be found.
func (s *Store) recoverRedo(name string, lost *lost) {
	r := &redo{root: s.root, rel: path.Join(pendingDir, strings.TrimSuffix(name, unfinished))}
	inode, born, ok := redoOf(name)
	switch {
	case strings.HasSuffix(name, unfinished):
		r.remove()
	case ok:
		lost.redos[Key{Inode: inode, Born: born}] = r.rel
	}
}

// lost is what recovery has to search the tree for: notes have the path that a
// directory had, and clients or others may have renamed it since.
type lost struct {
	siblings map[string]string // by name, the directories in which they are
	redos    map[Key]string    // of inodes without a device, the redos for them
	left     int               // names to look at before the search is given up
}

// maxSearch is how many names recovery looks at.
const maxSearch = 1 << 20

// find searches the tree. What is not there does not need its note any more.
func (s *Store) find(lost *lost) (removed int) {
	if len(lost.siblings) == 0 && len(lost.redos) == 0 {
		return 0
	}
	dirs := []string{""}
	for len(dirs) > 0 && lost.left > 0 {
		dir := dirs[len(dirs)-1]
		dirs = append(dirs[:len(dirs)-1], s.searchDir(dir, lost)...)
	}
	complete := len(dirs) == 0 && lost.left > 0
	for name, dir := range lost.siblings {
		switch {
		case dir != "" && s.removeLeftover(strings.TrimPrefix(dir, "./"), name):
			removed++
		case complete: // a crash came before it was made, or it was removed
			b := &sibling{root: s.root, name: name, dirfd: -1}
			b.forget()
		default:
			s.log.Warn("can't find an unfinished replacement: remove it by hand", "name", name)
		}
	}
	for _, rel := range lost.redos {
		if complete {
			s.log.Info("the file for which a conversion was under way is gone", "conversion", rel)
			(&redo{root: s.root, rel: rel}).remove()
		} else {
			s.log.Error("can't find the file that this was going to be copied over", "conversion", s.root.name(rel))
		}
	}
	return removed
}

// searchDir looks into one directory and returns those below it.
func (s *Store) searchDir(dir string, lost *lost) (below []string) {
	if dir == privateDir {
		return nil
	}
	fd, err := s.root.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		lost.left = 0 // what is in there can't be said to be gone
		return nil
	}
	d := os.NewFile(uintptr(fd), s.root.name(dir))
	defer func() { _ = d.Close() }()
	for lost.left > 0 {
		entries, err := d.ReadDir(1024)
		lost.left -= len(entries)
		for _, e := range entries {
			rel := path.Join(dir, e.Name())
			if _, ok := lost.siblings[e.Name()]; ok {
				lost.siblings[e.Name()] = "./" + dir
			}
			if e.IsDir() {
				below = append(below, rel)
			} else if e.Type().IsRegular() && len(lost.redos) > 0 {
				s.redoFor(rel, lost)
			}
		}
		if errors.Is(err, io.EOF) {
			return below
		}
		if err != nil {
			lost.left = 0
		}
	}
	return below
}

// redoFor completes the redo that is for the file rel, if there is one.
func (s *Store) redoFor(rel string, lost *lost) {
	st, err := s.root.stat(rel)
	if err != nil {
		return
	}
	key := Key{Inode: st.Ino, Born: nanoseconds(st.Btime)}
	from, ok := lost.redos[key]
	if !ok {
		return
	}
	delete(lost.redos, key)
	if err := (&redo{root: s.root, rel: from}).complete(rel); err != nil {
		s.log.Error("can't complete a conversion: free space, or make the file writable, and mount again", "error", err)
		return
	}
	s.log.Info("completed a conversion of a daemon that died", "file", s.root.name(rel))
}
