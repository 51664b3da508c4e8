package fs

import (
	"context"
	"path"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// stream is what go-fuse's reader of a directory descriptor can do.
type stream interface {
	fusefs.FileReaddirenter
	fusefs.FileReleasedirer
	fusefs.FileSeekdirer
	fusefs.FileFsyncdirer
}

// dirHandle is an open directory. It leaves out what clients must not see.
type dirHandle struct {
	stream
	node *node
	rel  string
}

// OpendirHandle opens a directory for reading its names.
func (n *node) OpendirHandle(ctx context.Context, _ uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	rel := n.rel()
	fd, err := patience.Do(ctx, func(context.Context) (int, error) { return n.mount.store.OpenDir(rel) },
		func(fd int, err error) {
			if err == nil {
				_ = unix.Close(fd)
			}
		})
	if err != nil {
		return nil, 0, n.mount.report(err)
	}
	ds, errno := fusefs.NewLoopbackDirStreamFd(fd)
	if errno != 0 {
		return nil, 0, errno
	}
	s, ok := ds.(stream)
	if !ok {
		ds.Close()
		return nil, 0, syscall.ENOTSUP
	}
	return &dirHandle{s, n, rel}, 0, 0
}

// Readdirent returns the next name, with the number that stat gives for it.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	for {
		e, err := await(ctx, d.next)
		if err != nil || e == nil {
			return nil, d.node.mount.report(err)
		}
		if !d.node.mount.store.Hidden(path.Join(d.rel, e.Name)) {
			e.Ino = d.node.mount.store.DirentNumber(e.Ino)
			return e, 0
		}
	}
}

// next is the next entry of the backing directory, nil at its end.
func (d *dirHandle) next(ctx context.Context) (*fuse.DirEntry, error) {
	e, errno := d.stream.Readdirent(ctx)
	if errno != 0 {
		return nil, errno
	}
	return e, nil
}
