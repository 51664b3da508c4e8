// Nullfs is a FUSE filesystem that throws away what is written and reads as
// zeros: what FUSE itself costs, with the options that mithrilfs mounts with.
// Only a file's first MiB is kept, so that loaders find a header there. It has
// no directories.
//
//	nullfs MOUNTPOINT
//
// prints a line once it serves, and ends when it is unmounted.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	requestSize = 1 << 20 // of one READ or WRITE
	kept        = 1 << 20 // bytes of each file that are remembered
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: nullfs MOUNTPOINT")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "nullfs:", err)
		os.Exit(1)
	}
}

func serve(point string) error {
	timeout := time.Second
	mo := fuse.MountOptions{
		FsName:            "null",
		Name:              "nullfs",
		Options:           []string{"default_permissions"},
		MaxWrite:          requestSize,
		MaxBackground:     256,
		DisableSplice:     true,
		DirectMountStrict: os.Geteuid() == 0,
		ExtraCapabilities: fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_ATOMIC_O_TRUNC,
		Logger:            log.New(io.Discard, "", 0),
	}
	node := fusefs.NewNodeFS(&root{}, &fusefs.Options{
		MountOptions:    mo,
		EntryTimeout:    &timeout,
		AttrTimeout:     &timeout,
		NullPermissions: true,
	})
	server, err := fuse.NewServer(node, point, &mo)
	if err != nil {
		return err
	}
	go server.Serve()
	fmt.Println("ready")
	server.Wait()
	return nil
}

// root is the only directory. Its files stay when the kernel forgets them.
type root struct{ fusefs.Inode }

var (
	_ fusefs.NodeCreater  = (*root)(nil)
	_ fusefs.NodeRenamer  = (*root)(nil)
	_ fusefs.NodeUnlinker = (*root)(nil)
	_ fusefs.NodeFsyncer  = (*root)(nil)
)

// Create makes a file whose bytes go past the page cache, as mithrilfs does.
func (r *root) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	if r.GetChild(name) != nil && flags&unix.O_EXCL != 0 {
		return nil, nil, 0, syscall.EEXIST
	}
	f := &file{mode: mode & 0o7777, changed: time.Now()}
	inode := r.NewPersistentInode(ctx, f, fusefs.StableAttr{Mode: unix.S_IFREG})
	r.AddChild(name, inode, true)
	f.fill(&out.Attr)
	return inode, f, fuse.FOPEN_DIRECT_IO, 0
}

// Rename and Unlink leave the names to go-fuse's tree, which holds them.
func (r *root) Rename(context.Context, string, fusefs.InodeEmbedder, string, uint32) syscall.Errno {
	return 0
}

// Unlink says that the name may go.
func (r *root) Unlink(context.Context, string) syscall.Errno { return 0 }

// Fsync has nothing to make durable.
func (r *root) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno { return 0 }

// file is a file and its own handle.
type file struct {
	fusefs.Inode

	mu      sync.RWMutex // guards what follows
	size    int64
	head    []byte
	mode    uint32
	changed time.Time
}

var (
	_ fusefs.NodeOpener    = (*file)(nil)
	_ fusefs.NodeGetattrer = (*file)(nil)
	_ fusefs.NodeSetattrer = (*file)(nil)
	_ fusefs.NodeFsyncer   = (*file)(nil)
	_ fusefs.FileReader    = (*file)(nil)
	_ fusefs.FileWriter    = (*file)(nil)
	_ fusefs.FileFlusher   = (*file)(nil)
)

// Open lets what nobody writes stay in the page cache.
func (f *file) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if flags&unix.O_TRUNC != 0 {
		f.truncate(0)
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		return f, fuse.FOPEN_DIRECT_IO, 0
	}
	return f, fuse.FOPEN_KEEP_CACHE, 0
}

// Getattr tells the size that was written.
func (f *file) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.fill(&out.Attr)
	return 0
}

// fill sets what is not the same for all; the caller holds mu or the only
// reference.
func (f *file) fill(a *fuse.Attr) {
	a.Mode = unix.S_IFREG | f.mode
	a.Size = uint64(f.size)
	a.Nlink = 1
	a.SetTimes(&f.changed, &f.changed, &f.changed)
}

// Setattr sets the size or the mode; nobody owns anything.
func (f *file) Setattr(_ context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f.truncate(int64(size))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if mode, ok := in.GetMode(); ok {
		f.mode = mode & 0o7777
	}
	f.fill(&out.Attr)
	return 0
}

func (f *file) truncate(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size = size
	f.head = f.head[:min(int64(len(f.head)), size)]
}

// Write keeps what is in the first MiB.
func (f *file) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := min(off+int64(len(data)), kept); off < end {
		if grow := int(end) - len(f.head); grow > 0 {
			f.head = append(f.head, make([]byte, grow)...)
		}
		copy(f.head[off:end], data)
	}
	f.size = max(f.size, off+int64(len(data)))
	return uint32(len(data)), 0
}

var zeros [requestSize]byte

// Read gives the head, and zeros behind it without copying them.
func (f *file) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := int(max(min(int64(len(dest)), f.size-off), 0))
	if off >= int64(len(f.head)) && n <= len(zeros) {
		return fuse.ReadResultData(zeros[:n]), 0
	}
	clear(dest[:n])
	if off < int64(len(f.head)) {
		copy(dest[:n], f.head[off:])
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Flush has nothing to report.
func (f *file) Flush(context.Context) syscall.Errno { return 0 }

// Fsync has nothing to make durable.
func (f *file) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno { return 0 }
