package fs

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// entry is a name of a tree and what it leads to.
type entry struct {
	stat   unix.Stat_t
	listed listed
	target string            // of a symbolic link
	attrs  map[string]string // extended attributes
}

// attribute is something that stat tells of a file.
type attribute struct {
	name string
	of   func(*entry) any
	// differs says why the mount's may be another than ext4's; such an
	// attribute is not compared.
	differs string
}

// attributes are all that stat tells, and how a mount's differ from ext4's.
var attributes = []attribute{
	{name: "type and mode", of: func(e *entry) any { return fmt.Sprintf("%o", e.stat.Mode) }},
	{name: "size", of: func(e *entry) any { return e.fileOnly(e.stat.Size) }},
	{name: "links", of: func(e *entry) any { return e.stat.Nlink }},
	{name: "owner", of: func(e *entry) any { return e.stat.Uid }},
	{name: "group", of: func(e *entry) any { return e.stat.Gid }},
	{name: "readdir's type", of: func(e *entry) any { return e.listed.typ }},
	{name: "readdir's number is stat's", of: func(e *entry) any { return e.listed.ino == e.stat.Ino }},
	{name: "target", of: func(e *entry) any { return e.target }},
	{name: "extended attributes", of: func(e *entry) any { return fmt.Sprintf("%q", e.attrs) }},
	{name: "blocks for data", of: func(e *entry) any { return e.stat.Size == 0 || e.stat.Blocks > 0 },
		differs: "a sparse file on ext4 may have none; a mount's never says 0"},
	{name: "st_mtime", differs: "two clocks: compared by sameTime, but for files with shared mappings: see loosen"},
	{name: "st_mtime of a FIFO", differs: "the kernel does not tell a mount of writes to it"},
	{name: "st_blocks", differs: "a mount says what the compressed file takes"},
	{name: "st_blksize", differs: "a mount asks buffered writers for larger pieces"},
	{name: "st_atime", differs: "a mount's daemon reads without marking files as read"},
	{name: "st_ctime", differs: "the daemon changes backing files after clients did, when it seals them"},
	{name: "st_dev and st_ino", differs: "numbers are any; which names share one is compared"},
	{name: "st_size of directories", differs: "it depends on names that a directory had before"},
	{name: "links and times of the root", differs: "a mount keeps a directory of its own there"},
}

func (e *entry) fileOnly(v int64) int64 {
	if e.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 0
	}
	return v
}

func (e *entry) regular() bool { return e.stat.Mode&unix.S_IFMT == unix.S_IFREG }

// tree is all names below a root, by their path.
type tree map[string]*entry

func (s *side) tree() (tree, error) {
	t := make(tree)
	dirs := []string{""}
	for i := 0; i < len(dirs); i++ {
		entries, err := s.list(dirs[i])
		if err != nil {
			return nil, fmt.Errorf("reading directory %q: %w", dirs[i], err)
		}
		for _, l := range entries {
			rel := path.Join(dirs[i], l.name)
			e, err := s.entry(rel)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rel, err)
			}
			e.listed = l
			t[rel] = e
			if e.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
				dirs = append(dirs, rel)
			}
		}
	}
	return t, nil
}

func (s *side) entry(rel string) (*entry, error) {
	p := s.path(rel)
	e := &entry{attrs: make(map[string]string)}
	if err := unix.Lstat(p, &e.stat); err != nil {
		return nil, fmt.Errorf("lstat: %w", err)
	}
	if e.stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		buf := make([]byte, 4096)
		n, err := unix.Readlink(p, buf)
		if err != nil {
			return nil, fmt.Errorf("readlink: %w", err)
		}
		e.target = string(buf[:n])
	}
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return nil, fmt.Errorf("getxattr %s: %w", name, err)
		}
		e.attrs[name] = string(value[:n])
	}
	return e, nil
}

// compareTrees returns what is different, with everything in the files.
func (x *session) compareTrees() string {
	want, err := x.ext4.tree()
	if err != nil {
		return fmt.Sprintf("ext4's tree: %v", err)
	}
	got, err := x.mount.tree()
	if err != nil {
		return fmt.Sprintf("the mount's tree: %v", err)
	}
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		return fmt.Sprintf("names on ext4: %q\nnames on the mount: %q", a, b)
	}
	var found []string
	for _, rel := range slices.Sorted(maps.Keys(want)) {
		for _, d := range x.compareEntries(rel, want[rel], got[rel]) {
			found = append(found, fmt.Sprintf("%q: %s", rel, d))
		}
	}
	found = append(found, x.compareLinks(want, got)...)
	return strings.Join(found[:min(len(found), 8)], "\n")
}

func (x *session) compareEntries(rel string, want, got *entry) (found []string) {
	for _, a := range attributes {
		if a.differs != "" {
			continue
		}
		if w, g := a.of(want), a.of(got); w != g {
			found = append(found, fmt.Sprintf("%s: %v on ext4, %v on the mount", a.name, w, g))
		}
	}
	if d := x.sameTime(want, got); d != "" {
		found = append(found, d)
	}
	if got.regular() && got.stat.Size > 0 && got.stat.Blocks == 0 {
		found = append(found, "no blocks, but data")
	}
	if want.regular() && got.regular() {
		if d := x.compareContents(rel); d != "" {
			found = append(found, d)
		}
	}
	return found
}

// compareContents reads a file on both sides.
func (x *session) compareContents(rel string) string {
	var fds [2]int
	for i, s := range x.sides() {
		fd, err := retryOpen(s.path(rel), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Sprintf("opening %s: %v", s.path(rel), err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	for off := int64(0); ; {
		a, errA := unix.Pread(fds[0], x.ext4.buf[:1<<20], off)
		b, errB := unix.Pread(fds[1], x.mount.buf[:1<<20], off)
		if errA != nil || errB != nil {
			return fmt.Sprintf("reading at %d: %v on ext4, %v on the mount", off, errA, errB)
		}
		if p, q := x.ext4.buf[:a], x.mount.buf[:b]; !bytes.Equal(p, q) {
			at := firstDifference(p, q)
			last := at
			for i := at; i < min(a, b); i++ {
				if p[i] != q[i] {
					last = i
				}
			}
			return fmt.Sprintf("contents differ from %d to %d at least: %x on ext4, %x on the mount (read %d and %d bytes at %d)",
				off+int64(at), off+int64(last), piece(p, at), piece(q, at), a, b, off)
		}
		if a == 0 {
			return ""
		}
		off += int64(a)
	}
}

// slackOps is a session's slack where one side plays each operation after the
// other.
const slackOps = 5 * time.Second

// sameTime compares modification times. A time that a test set lies long ago
// and must be the same. One that a change brought about is of today, and much
// the same.
func (x *session) sameTime(want, got *entry) string {
	w, g := time.Unix(want.stat.Mtim.Unix()), time.Unix(got.stat.Mtim.Unix())
	if w.Equal(g) || x.loose[want.stat.Ino] || want.stat.Mode&unix.S_IFMT == unix.S_IFIFO {
		return ""
	}
	if w.Before(x.began) || g.Before(x.began) || w.Sub(g).Abs() > x.slack {
		return fmt.Sprintf("mtime: %v on ext4, %v on the mount", w.UTC(), g.UTC())
	}
	return ""
}

// compareLinks compares which names share an inode, and checks that inodes of
// the mount keep their numbers.
func (x *session) compareLinks(want, got tree) (found []string) {
	numbers := make(map[uint64]uint64)
	back := make(map[uint64]uint64)
	known := make(map[extInode]uint64)
	for _, rel := range slices.Sorted(maps.Keys(want)) {
		w, g := want[rel].stat.Ino, got[rel].stat.Ino
		if n, ok := numbers[w]; ok && n != g {
			found = append(found, fmt.Sprintf("%q is a link of another name on ext4, but has a number of its own on the mount", rel))
		}
		if n, ok := back[g]; ok && n != w {
			found = append(found, fmt.Sprintf("%q has the mount's number of another file", rel))
		}
		numbers[w], back[g] = g, w
		id := x.ext4.inode(rel, w)
		if n, ok := x.numbers[id]; ok && n != g {
			found = append(found, fmt.Sprintf("%q had number %d on the mount, now %d", rel, n, g))
		}
		known[id] = g
	}
	x.numbers = known
	return found
}

// extInode names an inode of ext4, which gives numbers to new files at once.
type extInode struct {
	ino  uint64
	born unix.StatxTimestamp
}

func (s *side) inode(rel string, ino uint64) extInode {
	var st unix.Statx_t
	_ = unix.Statx(unix.AT_FDCWD, s.path(rel), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st)
	return extInode{ino, st.Btime}
}
