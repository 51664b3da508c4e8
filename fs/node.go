package fs

import (
	"context"
	"path"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// mount is what all nodes of a mount share.
type mount struct {
	store *store.Store
	log   logger
	root  store.Key

	compactions compactions
}

// node is an inode: a name's file, directory or link.
type node struct {
	fusefs.Inode
	mount *mount
	key   store.Key
}

// rel is the node's name in the store. A node that lost its name gets one that
// leads nowhere.
func (n *node) rel() string { return n.Path(n.Root()) }

// OnForget is called when the kernel knows the node no longer.
func (n *node) OnForget() { n.mount.store.Forget(n.key) }

func (n *node) child(name string) string { return path.Join(n.rel(), name) }

// caller is on whose behalf the request is.
func caller(ctx context.Context) store.Caller {
	c, ok := fuse.FromContext(ctx)
	if !ok {
		return store.Caller{}
	}
	return store.Caller{UID: c.Uid, GID: c.Gid, PID: c.Pid}
}

// Lookup finds a name in a directory.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.entry(ctx, n.child(name), out)
}

// entry describes rel, and finds or makes its node.
func (n *node) entry(ctx context.Context, rel string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	info, err := await(ctx, func(context.Context) (store.Info, error) { return n.mount.store.Lstat(rel) })
	if err != nil {
		return nil, n.mount.report(err)
	}
	return n.adopt(ctx, path.Base(rel), &info, out), 0
}

// adopt finds or makes the node of an inode with the given name. Its generation
// is the birth time, so that a number given to a new file is never taken for the
// old one.
//
// A directory that the kernel has forgotten keeps its node as long as there are
// children that it knows by other names. A second node would leave them with a
// name in the first, which no rename or unlink takes away any more.
func (n *node) adopt(ctx context.Context, name string, info *store.Info, out *fuse.EntryOut) *fusefs.Inode {
	setAttr(&out.Attr, info)
	if child := n.GetChild(name); child != nil {
		if c, ok := child.Operations().(*node); ok && c.key == info.Key && child.Mode() == info.Mode&unix.S_IFMT {
			return child
		}
	}
	return n.NewInode(ctx, &node{mount: n.mount, key: info.Key}, fusefs.StableAttr{
		Mode: info.Mode & unix.S_IFMT,
		Ino:  n.mount.number(info.Key.Device, info.Number),
		Gen:  uint64(info.Key.Born),
	})
}

// number is the inode number that clients see: the backing's, told apart
// where the store reaches into other filesystems.
func (m *mount) number(device, number uint64) uint64 {
	other := device ^ m.root.Device
	return number ^ (other<<32 | other>>32)
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	rel := n.child(name)
	as := caller(ctx)
	if err := changeNames(ctx, func() error { return n.mount.store.Mkdir(rel, mode, as) }, nil); err != nil {
		return nil, n.mount.report(err)
	}
	return n.entry(ctx, rel, out)
}

// Mknod makes a special file, or an empty regular one.
func (n *node) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	rel := n.child(name)
	as := caller(ctx)
	if err := changeNames(ctx, func() error { return n.mount.store.Mknod(rel, mode, rdev, as) }, nil); err != nil {
		return nil, n.mount.report(err)
	}
	return n.entry(ctx, rel, out)
}

// Symlink makes a symbolic link.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	rel := n.child(name)
	as := caller(ctx)
	if err := changeNames(ctx, func() error { return n.mount.store.Symlink(target, rel, as) }, nil); err != nil {
		return nil, n.mount.report(err)
	}
	return n.entry(ctx, rel, out)
}

// Readlink reads a symbolic link.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	target, err := await(ctx, func(context.Context) (string, error) { return n.mount.store.Readlink(n.rel()) })
	return []byte(target), n.mount.report(err)
}

// Link gives a file a second name.
func (n *node) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	t, ok := target.(*node)
	if !ok {
		return nil, syscall.EXDEV
	}
	rel := n.child(name)
	if err := changeNames(ctx, func() error { return n.mount.store.Link(t.rel(), t.key, rel) }, nil); err != nil {
		return nil, n.mount.report(err)
	}
	return n.entry(ctx, rel, out)
}

// Unlink removes a name.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	rel := n.child(name)
	return n.mount.report(changeNames(ctx, func() error { return n.mount.store.Unlink(rel) }, func() { n.gone(name) }))
}

// Rmdir removes an empty directory.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	rel := n.child(name)
	return n.mount.report(changeNames(ctx, func() error { return n.mount.store.Rmdir(rel) }, func() { n.gone(name) }))
}

// gone notes that a name went after whoever removed it was told EINTR.
func (n *node) gone(name string) {
	n.RmChild(name)
	_ = n.NotifyEntry(name) // it may not know the name
}

// Rename moves a name, with the flags of renameat2(2).
func (n *node) Rename(ctx context.Context, name string, parent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	p, ok := parent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	from, to := n.child(name), p.child(newName)
	return n.mount.report(changeNames(ctx, func() error { return n.mount.store.Rename(from, to, uint(flags)) }, func() {
		if flags&unix.RENAME_EXCHANGE != 0 {
			n.ExchangeChild(name, &p.Inode, newName)
		} else {
			n.MvChild(name, &p.Inode, newName, true)
		}
		_ = n.NotifyEntry(name) // it may not know the name
		_ = p.NotifyEntry(newName)
	}))
}

// Statfs describes the backing filesystem.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	st, err := await(ctx, func(context.Context) (unix.Statfs_t, error) { return n.mount.store.Statfs() })
	if err != nil {
		return n.mount.report(err)
	}
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize = uint32(st.Bsize), uint32(st.Frsize)
	out.NameLen = uint32(st.Namelen)
	return 0
}
