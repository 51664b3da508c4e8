package fs

import (
	"context"
	"path"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
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
func (n *node) OpendirHandle(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	rel := n.rel()
	fd, err := n.mount.store.OpenDir(rel)
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
		e, errno := d.stream.Readdirent(ctx)
		if errno != 0 || e == nil {
			return e, errno
		}
		if !d.node.mount.store.Hidden(path.Join(d.rel, e.Name)) {
			e.Ino = d.node.mount.store.DirentNumber(e.Ino)
			return e, 0
		}
	}
}
