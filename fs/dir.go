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
	mount *mount
	rel   string
	openDir
}

// openDir is the stream's descriptor.
type openDir struct {
	fd     int
	device uint64
}

// OpendirHandle opens a directory for reading its names.
func (n *node) OpendirHandle(ctx context.Context, _ uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	rel := n.rel()
	o, err := patience.Do(ctx, func(context.Context) (openDir, error) {
		fd, device, err := n.mount.store.OpenDir(rel)
		return openDir{fd, device}, err
	}, func(o openDir, err error) {
		if err == nil {
			_ = unix.Close(o.fd)
		}
	})
	if err != nil {
		return nil, 0, n.mount.report(err)
	}
	ds, errno := fusefs.NewLoopbackDirStreamFd(o.fd)
	if errno != 0 {
		return nil, 0, errno
	}
	s, ok := ds.(stream)
	if !ok {
		ds.Close()
		return nil, 0, syscall.ENOTSUP
	}
	return &dirHandle{s, n.mount, rel, o}, 0, 0
}

// Readdirent returns the next name, with the number that stat gives for it.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	e, err := await(ctx, d.next)
	return e, d.mount.report(err)
}

// next is the next entry of the backing directory that clients see, nil at its
// end.
func (d *dirHandle) next(ctx context.Context) (*fuse.DirEntry, error) {
	for {
		e, errno := d.stream.Readdirent(ctx)
		if errno != 0 {
			return nil, errno
		}
		if e == nil {
			return nil, nil
		}
		if !d.mount.store.Hidden(path.Join(d.rel, e.Name)) {
			e.Ino = d.mount.number(d.device, d.mount.store.EntryNumber(d.fd, e.Name, e.Ino))
			return e, nil
		}
	}
}
