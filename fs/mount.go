package fs

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// logger is what the package logs to.
type logger = *slog.Logger

// Options are what a mount can be told.
type Options struct {
	ReadOnly   bool
	AllowOther bool     // other users may use the mount, as far as modes let them
	Options    []string // more for mount(2) or fusermount3, such as "noexec"
	Debug      bool     // log every request, through Logger at level debug
	Logger     *slog.Logger
	// Store says how the backing directory is used. ReadOnly and Logger are
	// taken from above.
	Store store.Options
}

const (
	// requestSize is the most that one READ or WRITE carries; the kernel's own
	// limit, fs.fuse.max_pages_limit, may be lower.
	requestSize = 1 << 20
	// backgroundRequests is high, so that reads of one file that wait for its
	// disk do not keep those of another out.
	backgroundRequests = 256
	// attrTimeout is how long the kernel believes what it was told.
	attrTimeout = time.Second
)

// Mount serves the backing directory dir at mountpoint, or over dir itself if
// mountpoint is empty. It returns when the mount can be used. Errors that a
// user can do something about match one of the variables of this package, or
// store.ErrInUse.
func Mount(dir, mountpoint string, o Options) (*Server, error) {
	pl, err := checkPlace(dir, mountpoint)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Store.ReadOnly, o.Store.Logger = o.ReadOnly, o.Logger
	st, err := store.Open(pl.dir, o.Store)
	if err != nil {
		return nil, err
	}
	s := &Server{store: st, log: o.Logger, point: pl.point}
	if err := s.mount(pl, o); err != nil {
		_ = st.Close()
		return nil, err
	}
	o.Logger.Info("mounted", "directory", pl.dir, "mountpoint", pl.point)
	return s, nil
}

func (s *Server) mount(pl place, o Options) error {
	info, err := s.store.Lstat("")
	if err != nil {
		return err
	}
	// Modes come from clients, whose umask the kernel has applied.
	unix.Umask(0)
	m := &mount{store: s.store, log: o.Logger, root: info.Key}
	root := &node{mount: m, key: info.Key}
	timeout := attrTimeout
	mo := mountOptions(pl, o)
	serve := fusefs.NewNodeFS(root, &fusefs.Options{
		MountOptions:    mo,
		EntryTimeout:    &timeout,
		AttrTimeout:     &timeout,
		NullPermissions: true,
		RootStableAttr:  &fusefs.StableAttr{Mode: unix.S_IFDIR, Ino: m.number(info.Key.Device, info.Number), Gen: uint64(info.Key.Born)},
		Logger:          debugLog(o.Logger),
	})
	s.fuse, err = fuse.NewServer(serve, pl.point, &mo)
	if err != nil {
		return fmt.Errorf("mounting at %s: %w", pl.point, err)
	}
	// Not fusefs.Mount, which opens a file of the mount from here: a process that
	// is killed while it waits for itself never ends.
	go s.fuse.Serve()
	s.setReadAhead()
	return nil
}

func mountOptions(pl place, o Options) fuse.MountOptions {
	mo := fuse.MountOptions{
		FsName:            pl.dir,
		Name:              subtype,
		AllowOther:        o.AllowOther,
		Options:           append([]string{"default_permissions"}, o.Options...),
		MaxWrite:          requestSize,
		MaxBackground:     backgroundRequests,
		EnableAcl:         true,
		DisableSplice:     true, // go-fuse would log a line for every large read
		DirectMountStrict: os.Geteuid() == 0,
		Debug:             o.Debug,
		Logger:            debugLog(o.Logger),
		// A file that is written past the page cache can be mapped, and O_TRUNC
		// is told from truncate(2).
		ExtraCapabilities: fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_ATOMIC_O_TRUNC,
		PanicHandler: func(v any) fuse.Status {
			o.Logger.Error("panic while serving a request", "panic", v, "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
	if !o.ReadOnly {
		return mo
	}
	if mo.DirectMountStrict {
		mo.DirectMountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY
	} else {
		mo.Options = append(mo.Options, "ro")
	}
	return mo
}

// debugLog is go-fuse's way to our log, where only debugging wants it.
func debugLog(l *slog.Logger) *log.Logger {
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		return log.New(io.Discard, "", 0)
	}
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}
