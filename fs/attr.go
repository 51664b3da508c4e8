package fs

import (
	"bytes"
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// blockSize is st_blksize: how much buffered writers collect.
const blockSize = 128 << 10

func setAttr(a *fuse.Attr, i *store.Info) {
	a.Mode, a.Nlink, a.Rdev = i.Mode, i.Nlink, i.Rdev
	a.Owner = fuse.Owner{Uid: i.UID, Gid: i.GID}
	a.Size, a.Blocks, a.Blksize = uint64(i.Size), i.Blocks, blockSize
	a.Atime, a.Atimensec = uint64(i.Atime.Sec), i.Atime.Nsec
	a.Mtime, a.Mtimensec = uint64(i.Mtime.Sec), i.Mtime.Nsec
	a.Ctime, a.Ctimensec = uint64(i.Ctime.Sec), i.Ctime.Nsec
}

// Getattr describes the inode.
func (n *node) Getattr(ctx context.Context, fh fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	info, err := await(ctx, func(context.Context) (store.Info, error) {
		if h, ok := fh.(*handle); ok {
			return h.file.Info()
		}
		return n.mount.store.Stat(n.rel(), n.key)
	})
	if err != nil {
		return n.mount.report(err)
	}
	setAttr(&out.Attr, &info)
	return 0
}

// Setattr changes mode, owner, size and times, in the order that keeps a given
// time from being overwritten by what else changes.
func (n *node) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	set := *in // go-fuse's own is for another request when this one hangs
	if err := request(ctx, func(ctx context.Context) error { return n.set(ctx, fh, &set) }); err != nil {
		return n.mount.report(err)
	}
	return n.Getattr(ctx, fh, out)
}

func (n *node) set(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn) error {
	rel := n.rel()
	if err := n.setMode(rel, in); err != nil {
		return err
	}
	if err := n.setOwner(rel, in); err != nil {
		return err
	}
	if err := n.setSize(ctx, rel, fh, in); err != nil {
		return err
	}
	return n.setTimes(rel, in)
}

func (n *node) setMode(rel string, in *fuse.SetAttrIn) error {
	mode, ok := in.GetMode()
	if !ok {
		return nil
	}
	return n.mount.store.Chmod(rel, n.key, mode&0o7777)
}

func (n *node) setOwner(rel string, in *fuse.SetAttrIn) error {
	uid, gid := -1, -1
	if u, ok := in.GetUID(); ok {
		uid = int(u)
	}
	if g, ok := in.GetGID(); ok {
		gid = int(g)
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	return n.mount.store.Chown(rel, n.key, uid, gid)
}

func (n *node) setSize(ctx context.Context, rel string, fh fusefs.FileHandle, in *fuse.SetAttrIn) error {
	size, ok := in.GetSize()
	if !ok {
		return nil
	}
	if size > maxSize {
		return syscall.EFBIG
	}
	if h, ok := fh.(*handle); ok {
		return h.file.Truncate(ctx, int64(size))
	}
	return n.mount.store.Truncate(ctx, rel, n.key, int64(size))
}

// maxSize keeps offset arithmetic far from its limits.
const maxSize = 1 << 60

func (n *node) setTimes(rel string, in *fuse.SetAttrIn) error {
	atime, okA := in.GetATime()
	mtime, okM := in.GetMTime()
	if !okA && !okM {
		return nil
	}
	return n.mount.store.Utimens(rel, n.key, timespec(atime, okA), timespec(mtime, okM))
}

func timespec(t time.Time, ok bool) unix.Timespec {
	if !ok {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// Getxattr reads an extended attribute of the backing file.
func (n *node) Getxattr(ctx context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	return n.attribute(ctx, dest, func(own []byte) (int, error) { return n.mount.store.Getxattr(n.rel(), n.key, attr, own) })
}

// Listxattr lists the extended attributes of the backing file.
func (n *node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	return n.attribute(ctx, dest, func(own []byte) (int, error) { return n.mount.store.Listxattr(n.rel(), n.key, own) })
}

// attribute fills dest with what get gives it.
func (n *node) attribute(ctx context.Context, dest []byte, get func([]byte) (int, error)) (uint32, syscall.Errno) {
	own := make([]byte, len(dest))
	size, err := await(ctx, func(context.Context) (int, error) { return get(own) })
	if err == nil {
		copy(dest, own)
	}
	return uint32(max(size, 0)), n.mount.report(err)
}

// Setxattr sets an extended attribute of the backing file.
func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	own := bytes.Clone(data)
	return n.mount.report(request(ctx, func(context.Context) error {
		return n.mount.store.Setxattr(n.rel(), n.key, attr, own, int(flags))
	}))
}

// Removexattr removes an extended attribute of the backing file.
func (n *node) Removexattr(ctx context.Context, attr string) syscall.Errno {
	return n.mount.report(request(ctx, func(context.Context) error {
		return n.mount.store.Removexattr(n.rel(), n.key, attr)
	}))
}
