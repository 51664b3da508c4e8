package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// siblingPrefix begins the names of files that are going to replace another
// file of their directory. Clients never see such a name.
const siblingPrefix = ".mithrilfs-new."

// pendingDir holds a note for every sibling, named like it, that points to its
// directory's path: so recovery need not search the tree.
const pendingDir = privateDir + "/pending"

// sibling is a file that is going to replace another one in the same directory.
type sibling struct {
	root    *root
	dirfd   int
	dir     string // rel of the directory when the sibling was made
	name    string // its own name
	target  string // the name that it will take
	backing *backing
	key     Key // its own inode's
}

// newSibling makes an empty file beside rel with the owner, mode and extended
// attributes of the file old, for whoever runs the daemon to write. The
// directory's modification time stays.
func (s *Store) newSibling(rel string, old *backing) (_ *sibling, err error) {
	dir, target := path.Split(rel)
	b := &sibling{root: s.root, dir: strings.TrimSuffix(dir, "/"), target: target}
	b.name = siblingPrefix + s.instance + "." + randomName()
	b.dirfd, err = s.root.open(b.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.discard()
		}
	}()
	if err := s.note(b); err != nil {
		return nil, err
	}
	err = s.root.keepTime(b.dirfd, func() error { return b.create(old) })
	return b, err
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// note records where the sibling is, before it is there. It is a symbolic link,
// whose target is there as soon as its name is, also after a power cut.
func (s *Store) note(b *sibling) error {
	if err := s.root.mkdirs(pendingDir); err != nil {
		return err
	}
	return s.root.at("note", path.Join(pendingDir, b.name), func(dirfd int, base string) error {
		return unix.Symlinkat("./"+b.dir, dirfd, base)
	})
}

func (b *sibling) create(old *backing) error {
	fd, err := b.root.sys.openat(b.dirfd, b.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOATIME, 0o600)
	if err != nil {
		return err
	}
	b.backing = newBacking(os.NewFile(uintptr(fd), b.root.name(path.Join(b.dir, b.target))), b.root.sys)
	b.backing.writable = true
	st, err := b.backing.stat()
	if err != nil {
		return err
	}
	b.key = keyOf(&st)
	return copyMetadata(old, b.backing)
}

// copyMetadata gives to the owner, mode and extended attributes of from.
func copyMetadata(from, to *backing) error {
	st, err := from.stat()
	if err != nil {
		return err
	}
	own, err := to.stat()
	if err != nil {
		return err
	}
	if st.Uid != own.Uid || st.Gid != own.Gid {
		if err := unix.Fchown(to.fd(), int(st.Uid), int(st.Gid)); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if err := copyXattrs(from.fd(), to.fd()); err != nil {
		return err
	}
	return unix.Fchmod(to.fd(), uint32(st.Mode)&0o7777)
}

// copyXattrs makes the attributes of to those of from, but for the mark, of which
// each has its own.
func copyXattrs(from, to int) error {
	names, err := xattrNames(from)
	if err != nil {
		return err
	}
	old, err := xattrNames(to)
	if err != nil {
		return err
	}
	for _, name := range old {
		if slices.Contains(names, name) {
			continue
		}
		if err := unix.Fremovexattr(to, name); err != nil {
			return fmt.Errorf("removexattr %s: %w", name, err)
		}
	}
	for _, name := range names {
		value := make([]byte, 64<<10) // the kernel's limit
		n, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return fmt.Errorf("getxattr %s: %w", name, err)
		}
		if err := unix.Fsetxattr(to, name, value[:n], 0); err != nil {
			return fmt.Errorf("setxattr %s: %w", name, err)
		}
	}
	return nil
}

// xattrNames lists the attributes of an open file, without the mark.
func xattrNames(fd int) ([]string, error) {
	names := make([]byte, xattrListMax)
	size, err := unix.Flistxattr(fd, names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listxattr: %w", err)
	}
	return strings.FieldsFunc(string(visibleXattrs(names[:size])), func(r rune) bool { return r == 0 }), nil
}

// publish puts the sibling in the place of the file with key old. If that file
// has lost its name meanwhile, replaced is false and the sibling's data has no
// name either.
func (b *sibling) publish(old Key) (replaced bool, err error) {
	var st unix.Statx_t
	err = unix.Statx(b.dirfd, b.target, unix.AT_SYMLINK_NOFOLLOW, statMask, &st)
	if err == nil && keyOf(&st) != old || errors.Is(err, unix.ENOENT) {
		b.discard()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = b.root.keepTime(b.dirfd, func() error {
		return b.root.sys.renameat(b.dirfd, b.name, b.dirfd, b.target, 0)
	})
	if err != nil {
		return false, err
	}
	b.forget()
	return true, nil
}

// giveUp ends a sibling that will replace nothing, with its content, which may be
// nil.
func (b *sibling) giveUp(c content) {
	if c != nil {
		c.close()
	}
	b.discard()
	_ = b.backing.close()
}

// discard removes the sibling's name, unless publish or discard did before.
func (b *sibling) discard() {
	if b.dirfd < 0 {
		return
	}
	_ = b.root.keepTime(b.dirfd, func() error { return b.root.sys.unlinkat(b.dirfd, b.name, 0) })
	b.forget()
}

// forget removes the note and closes the directory.
func (b *sibling) forget() {
	_ = b.root.at("unlink", path.Join(pendingDir, b.name), func(dirfd int, base string) error {
		return b.root.sys.unlinkat(dirfd, base, 0)
	})
	if b.dirfd >= 0 {
		_ = unix.Close(b.dirfd)
	}
	b.dirfd = -1
}
