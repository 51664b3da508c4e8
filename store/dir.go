package store

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// root is the backing directory, reached only through its descriptor: after a
// mount over it, its path would lead to the mount.
type root struct {
	sys     system
	fd      int
	path    string // for messages
	changes dirChanges
	ctimes  ctimes
}

func openRoot(sys system, dir string) (*root, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &root{sys: sys, fd: fd, path: dir}, nil
}

func (r *root) close() error { return unix.Close(r.fd) }

// name is rel for messages: under the path that the user gave.
func (r *root) name(rel string) string { return path.Join(r.path, rel) }

func (r *root) fail(op, rel string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: r.name(rel), Err: err}
}

// open opens rel without following symbolic links, in the last component or
// before it: the kernel has resolved those of a mount already.
func (r *root) open(rel string, flags int, mode uint32) (int, error) {
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	return r.sys.openat2(r.fd, rel, &how)
}

// openFile is open for data. What the store reads on its own must not look like
// an access, so the access time stays; only owners and root may ask for that.
func (r *root) openFile(rel string, flags int, mode uint32) (*os.File, error) {
	fd, err := r.open(rel, flags|unix.O_NOATIME, mode)
	if errors.Is(err, unix.EPERM) {
		fd, err = r.open(rel, flags, mode)
	}
	if err != nil {
		return nil, r.fail("open", rel, err)
	}
	return os.NewFile(uintptr(fd), r.name(rel)), nil
}

// nameOf is where the kernel knows the inode of an open descriptor by now, below
// the root, or "".
func (r *root) nameOf(fd int) string {
	var paths [2]string
	for i, fd := range []int{r.fd, fd} {
		p, err := os.Readlink(descriptorPath(fd))
		if err != nil {
			return ""
		}
		paths[i] = p
	}
	rel, ok := strings.CutPrefix(paths[1], strings.TrimSuffix(paths[0], "/")+"/")
	if !ok {
		return ""
	}
	return rel
}

// list returns the names in a directory.
func (r *root) list(rel string) ([]string, error) {
	fd, err := r.open(rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, r.fail("open", rel, err)
	}
	d := os.NewFile(uintptr(fd), r.name(rel))
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
}

// at calls do with a descriptor of rel's directory and rel's last component:
// the system calls that take a name do not resolve more than that.
func (r *root) at(op, rel string, do func(dirfd int, base string) error) error {
	dir, base := path.Split(rel)
	dir = strings.TrimSuffix(dir, "/")
	if base == "" {
		base = "."
	}
	if dir == "" {
		return r.fail(op, rel, do(r.fd, base))
	}
	fd, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return r.fail(op, rel, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return r.fail(op, rel, do(fd, base))
}

// at2 is at for two names.
func (r *root) at2(op, from, to string, do func(fromFD int, fromBase string, toFD int, toBase string) error) error {
	return r.at(op, from, func(fromFD int, fromBase string) error {
		return r.at(op, to, func(toFD int, toBase string) error {
			return do(fromFD, fromBase, toFD, toBase)
		})
	})
}

// mkdirs makes the directories of rel that are not there, and leaves the time of
// the one above them as it is.
func (r *root) mkdirs(rel string) error {
	for i := range rel {
		if rel[i] == '/' {
			if err := r.mkdir(rel[:i]); err != nil {
				return err
			}
		}
	}
	return r.mkdir(rel)
}

func (r *root) mkdir(rel string) error {
	if _, err := r.stat(rel); err == nil {
		return nil
	}
	return r.at("mkdir", rel, func(dirfd int, base string) error {
		return r.keepTime(dirfd, func() error {
			err := unix.Mkdirat(dirfd, base, 0o700)
			if errors.Is(err, unix.EEXIST) {
				return nil
			}
			return err
		})
	})
}

// keepTime runs change and gives the directory the modification time that it
// had, and lets clients see the change time that it had, unless a client changed
// it meanwhile: programs find the oldest checkpoint by it.
func (r *root) keepTime(dirfd int, change func() error) error {
	alone, leave, err := r.changes.own(dirfd)
	if err != nil {
		return err
	}
	defer leave()
	before, err := statFD(dirfd)
	if err != nil {
		return err
	}
	if err := change(); err != nil || !alone() {
		return err
	}
	t := unix.Timespec{Sec: before.Mtime.Sec, Nsec: int64(before.Mtime.Nsec)}
	_ = setTimes(dirfd, unix.Timespec{Nsec: unix.UTIME_OMIT}, t) // a time that can't be kept costs nothing else
	if !alone() {
		_ = setTimes(dirfd, unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Nsec: unix.UTIME_NOW})
		return nil
	}
	if after, err := statFD(dirfd); err == nil && after.Mtime == before.Mtime {
		key := keyOf(&before)
		r.ctimes.put(key, after.Ctime, r.ctimes.of(key, before.Ctime))
	}
	return nil
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

func (r *root) stat(rel string) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := r.at("stat", rel, func(dirfd int, base string) error {
		return unix.Statx(dirfd, base, unix.AT_SYMLINK_NOFOLLOW, statMask, &st)
	})
	return st, err
}

func statFD(fd int) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st)
	return st, err
}

// retry repeats a system call that a signal interrupted. EAGAIN is how openat2
// reports a rename that went on at the same time.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
}

// descriptorPath leads to the inode of an open descriptor.
func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// unlink removes a name that is the store's own.
func (r *root) unlink(rel string) error {
	return r.at("unlink", rel, func(dirfd int, base string) error {
		return r.sys.unlinkat(dirfd, base, 0)
	})
}
