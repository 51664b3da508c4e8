package store

import (
	"fmt"
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

// recover removes what daemons of this host left when they died: files that
// were going to replace others, which are whole. The lock on the directory says
// that no such daemon lives.
func (s *Store) recover() {
	fd, err := s.root.open(pendingDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return // there is none
	}
	d := os.NewFile(uintptr(fd), s.root.name(pendingDir))
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		s.log.Warn("can't look for leftovers", "error", err)
		return
	}
	host, _, _ := strings.Cut(s.instance, ".")
	removed := 0
	for _, name := range names {
		owner, ok := strings.CutPrefix(name, siblingPrefix)
		if ok && strings.HasPrefix(owner, host+".") && s.removeLeftover(name) {
			removed++
		}
	}
	s.counters.leftovers.Add(uint64(removed))
	if removed > 0 {
		s.log.Info("removed unfinished replacements of a daemon that died", "files", removed)
	}
}

// removeLeftover removes a sibling and then its note.
func (s *Store) removeLeftover(name string) bool {
	target, err := s.Readlink(path.Join(pendingDir, name))
	if err != nil {
		return false
	}
	dir := strings.TrimPrefix(target, "./")
	left := path.Join(dir, name)
	b := &sibling{root: s.root, name: name, dir: dir}
	if b.dirfd, err = s.root.open(b.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		s.log.Warn("can't remove an unfinished replacement: its directory has moved; remove the file by hand", "file", left, "error", err)
		return false
	}
	b.discard()
	return true
}
