package fs

import (
	"context"
	"errors"
	"io"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// handle is one open file description of a client.
type handle struct {
	mount *mount
	file  *store.File
	write bool
}

// Create makes a file and opens it. Bytes written to it go past the page cache,
// which is two to three times as fast.
func (n *node) Create(ctx context.Context, name string, flags uint32, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	rel := n.child(name)
	as := caller(ctx)
	o, err := patience.Do(ctx, func(ctx context.Context) (opened, error) {
		f, err := n.mount.store.Create(rel, mode&0o7777, as)
		if errors.Is(err, unix.EEXIST) && flags&unix.O_EXCL == 0 {
			f, err = n.mount.store.Open(ctx, rel, openMode(flags|unix.O_RDWR))
		}
		return describe(f, true, err)
	}, n.abandon)
	if err != nil {
		return nil, nil, 0, n.mount.report(err)
	}
	return n.adopt(ctx, name, &o.info, out), &handle{n.mount, o.file, true}, fuse.FOPEN_DIRECT_IO, 0
}

// opened is a file just opened.
type opened struct {
	file  *store.File
	write bool
	info  store.Info
}

// describe completes what was opened with its attributes, or gives it up.
func describe(f *store.File, write bool, err error) (opened, error) {
	if err != nil {
		return opened{}, err
	}
	info, err := f.Info()
	if err != nil {
		_ = f.Release(write)
	}
	return opened{f, write, info}, err
}

// abandon gives up a file whose opener did not wait for it.
func (n *node) abandon(o opened, err error) {
	if err == nil {
		_ = o.file.Release(o.write)
	}
}

// Open opens a file. What nobody writes may stay in the page cache.
func (n *node) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	mode := openMode(flags)
	o, err := patience.Do(ctx, func(ctx context.Context) (opened, error) {
		f, err := n.mount.store.OpenInode(ctx, n.rel(), n.key, mode)
		return opened{file: f, write: mode != store.Read}, err
	}, n.abandon)
	if err != nil {
		return nil, 0, n.mount.report(err)
	}
	h := &handle{n.mount, o.file, o.write}
	if h.write || o.file.Changing() {
		return h, fuse.FOPEN_DIRECT_IO, 0
	}
	return h, fuse.FOPEN_KEEP_CACHE, 0
}

func openMode(flags uint32) store.Mode {
	switch {
	case flags&unix.O_TRUNC != 0:
		return store.Truncate // with O_RDONLY too, as on any Linux filesystem
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		return store.Read
	}
	return store.Write
}

// Read fills dest, or returns the bytes where they lie.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	switch v, err := h.file.View(ctx, off, len(dest)); {
	case errors.Is(err, io.EOF):
		return fuse.ReadResultData(nil), 0
	case err != nil:
		return nil, h.mount.report(err)
	case v != nil:
		return view{v}, 0
	}
	n, err := h.file.ReadAtContext(ctx, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.mount.report(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Write writes data, which is the kernel's again when it returns.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := h.file.WriteAtContext(ctx, data, off)
	if n > 0 {
		return uint32(n), 0 // the next write brings the error
	}
	return 0, h.mount.report(err)
}

// Flush is close(2), of any duplicate of the descriptor: it tells the client
// what went wrong with what it wrote.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	if !h.write {
		return 0
	}
	return h.mount.report(request(ctx, func(context.Context) error { return h.file.Flush() }))
}

// Fsync is fsync(2) and fdatasync(2).
func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	const dataOnly = 1
	return h.mount.report(request(ctx, func(context.Context) error { return h.file.Sync(flags&dataOnly == 0) }))
}

// Release is the end of the description. Nobody waits for its errno, so errors
// are logged.
func (h *handle) Release(context.Context) syscall.Errno {
	err := h.file.Release(h.write)
	if err != nil {
		h.mount.log.Error(err.Error())
	}
	return errno(err)
}

// Allocate is fallocate(2). Holes can't be punched.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		return syscall.EOPNOTSUPP
	}
	if off > maxSize || size > maxSize || off+size > maxSize {
		return syscall.EFBIG
	}
	return h.mount.report(request(ctx, func(ctx context.Context) error {
		return h.file.Allocate(ctx, int64(off), int64(size), mode&unix.FALLOC_FL_KEEP_SIZE != 0)
	}))
}

// Lseek finds data and holes: a file is data from beginning to end.
func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	size, err := await(ctx, func(context.Context) (uint64, error) { return uint64(h.file.Size()), nil })
	if err != nil {
		return 0, h.mount.report(err)
	}
	if off >= size {
		return 0, syscall.ENXIO
	}
	switch whence {
	case unix.SEEK_DATA:
		return off, 0
	case unix.SEEK_HOLE:
		return size, 0
	}
	return 0, syscall.EINVAL
}

// Ioctl answers what other processes ask about a file, and, on a directory, why
// a file in it can't be opened.
func (n *node) Ioctl(ctx context.Context, fh fusefs.FileHandle, request uint32, _ uint64, in, out []byte) (int32, syscall.Errno) {
	if request >= requestCompact && request <= requestCompactEnd {
		if !mayCompact(caller(ctx)) {
			return 0, syscall.EPERM
		}
		return 0, n.mount.compactions.control(n.mount.store, n.rel(), request, in, out)
	}
	if h, ok := fh.(*handle); ok {
		return 0, control(h.file, request, in, out)
	}
	if request != requestProblem || !n.IsDir() {
		return 0, syscall.ENOTTY
	}
	name, ok := requestName(in)
	if !ok || len(out) < pageSize {
		return 0, syscall.EINVAL
	}
	f, err := n.mount.store.Open(ctx, n.child(name), store.Read)
	if err == nil {
		err = f.Release(false)
	}
	return 0, answer(out, problem(cause(err)))
}

// cause is a damaged container's error without the backing path before it.
func cause(err error) error {
	var damage *container.DamageError
	var version *container.VersionError
	switch {
	case errors.As(err, &damage):
		return damage
	case errors.As(err, &version):
		return version
	}
	return err
}
