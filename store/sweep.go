package store

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// sweep removes the siblings in a directory that clients see empty, and says
// whether there may be none left: the files that they were going to replace have
// lost their names, and the background has not noticed yet.
func (s *Store) sweep(dirfd int, base string) bool {
	fd, err := s.root.sys.openat(dirfd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	d := os.NewFile(uintptr(fd), base)
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		if !strings.HasPrefix(name, siblingPrefix+s.instance+".") {
			return false
		}
	}
	for _, name := range names {
		_ = s.root.sys.unlinkat(fd, name, 0) // rmdir will tell
	}
	return true
}
