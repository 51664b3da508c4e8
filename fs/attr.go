package fs

import (
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
func (n *node) Getattr(_ context.Context, fh fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	var info store.Info
	var err error
	if h, ok := fh.(*handle); ok {
		info, err = h.file.Info()
	} else {
		info, err = n.mount.store.Stat(n.rel(), n.key)
	}
	if err != nil {
		return n.mount.report(err)
	}
	setAttr(&out.Attr, &info)
	return 0
}

// Setattr changes mode, owner, size and times, in the order that keeps a given
// time from being overwritten by what else changes.
func (n *node) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	rel := n.rel()
	for _, set := range []func(string, fusefs.FileHandle, *fuse.SetAttrIn) error{n.setMode, n.setOwner, n.setSize, n.setTimes} {
		if err := set(rel, fh, in); err != nil {
			return n.mount.report(err)
		}
	}
	return n.Getattr(ctx, fh, out)
}

func (n *node) setMode(rel string, _ fusefs.FileHandle, in *fuse.SetAttrIn) error {
	mode, ok := in.GetMode()
	if !ok {
		return nil
	}
	return n.mount.store.Chmod(rel, n.key, mode&0o7777)
}

func (n *node) setOwner(rel string, _ fusefs.FileHandle, in *fuse.SetAttrIn) error {
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

func (n *node) setSize(rel string, fh fusefs.FileHandle, in *fuse.SetAttrIn) error {
	size, ok := in.GetSize()
	if !ok {
		return nil
	}
	if size > maxSize {
		return syscall.EFBIG
	}
	if h, ok := fh.(*handle); ok {
		return h.file.Truncate(int64(size))
	}
	return n.mount.store.Truncate(rel, int64(size))
}

// maxSize keeps offset arithmetic far from its limits.
const maxSize = 1 << 60

func (n *node) setTimes(rel string, _ fusefs.FileHandle, in *fuse.SetAttrIn) error {
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
func (n *node) Getxattr(_ context.Context, attr string, dest []byte) (uint32, syscall.Errno) {
	size, err := n.mount.store.Getxattr(n.rel(), attr, dest)
	return uint32(max(size, 0)), n.mount.report(err)
}

// Listxattr lists the extended attributes of the backing file.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	size, err := n.mount.store.Listxattr(n.rel(), dest)
	return uint32(max(size, 0)), n.mount.report(err)
}

// Setxattr sets an extended attribute of the backing file.
func (n *node) Setxattr(_ context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	return n.mount.report(n.mount.store.Setxattr(n.rel(), attr, data, int(flags)))
}

// Removexattr removes an extended attribute of the backing file.
func (n *node) Removexattr(_ context.Context, attr string) syscall.Errno {
	return n.mount.report(n.mount.store.Removexattr(n.rel(), attr))
}
