package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// Server is a live mount.
type Server struct {
	fuse  *fuse.Server
	store *store.Store
	log   logger
	point string
}

// Wait returns when the mount is gone, whoever unmounted it, and every file is
// sealed.
func (s *Server) Wait() error {
	s.fuse.Wait()
	err := s.store.Close()
	s.LogStats()
	return err
}

// LogStats logs the store's counters.
func (s *Server) LogStats() { s.log.Info("counters", "store", s.store.Stats().String()) }

// ErrDetached says that clients kept files open: what they had written is
// sealed, and the mount is out of the tree, but Wait goes on until they close
// them. Their requests fail once the process ends.
var ErrDetached = errors.New("files were still open: they are sealed, and the mount is detached")

// Shutdown unmounts. Files that are open get until grace is over; then the
// error is ErrDetached, or tells what went wrong with sealing.
func (s *Server) Shutdown(grace time.Duration) error {
	deadline := time.Now().Add(grace)
	for {
		err := unmount(s.point, false)
		if err == nil || !errors.Is(err, ErrBusy) {
			return err
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.store.Hurry()
	s.log.Warn("files are still open: sealing what they hold", "mountpoint", s.point)
	if err := errors.Join(s.store.SealAll(), unmount(s.point, true)); err != nil {
		return err
	}
	return ErrDetached
}

// unmount takes the topmost mount off point, or with lazy only out of the tree.
func unmount(point string, lazy bool) error {
	flags, args := 0, []string{"-u", point}
	if lazy {
		flags, args = unix.MNT_DETACH, []string{"-u", "-z", point}
	}
	err := unix.Unmount(point, flags|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		err = runFusermount(args)
	}
	if errors.Is(err, unix.EBUSY) {
		err = ErrBusy
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", point, err)
	}
	return nil
}

// runFusermount unmounts for users who are not root. What it says is all there
// is to tell errors apart by.
func runFusermount(args []string) error {
	path, err := fusermount()
	if err != nil {
		return ErrNoFusermount
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "busy") {
		return unix.EBUSY
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(string(out)), err)
	}
	return nil
}

// releaseTimeout is how long Unmount waits for the daemon to seal its files.
const releaseTimeout = time.Minute

// Unmount takes the mithrilfs mount at mountpoint out of the tree and waits until its
// daemon has let go of the backing directory, with every file sealed. The error
// matches ErrNotMounted or ErrBusy, or tells what else went wrong.
func Unmount(mountpoint string) error {
	m, ok, err := ourMount(mountpoint)
	if err != nil {
		return err
	}
	if ok && !isPoint(mountpoint, m.point) {
		return fmt.Errorf("%s: %w itself, only inside of %s", mountpoint, ErrNotMounted, m.point)
	}
	if !ok {
		return fmt.Errorf("%s: %w", mountpoint, ErrNotMounted)
	}
	if err := unmount(m.point, false); err != nil {
		return err
	}
	return waitReleased(m.source)
}

// isPoint says whether path leads to the mount point.
func isPoint(path, point string) bool {
	abs, err := filepath.Abs(path)
	if err != nil || abs == point {
		return err == nil
	}
	// The last component may be a symbolic link, which is not in the mount.
	real, err := filepath.EvalSymlinks(abs)
	return err == nil && real == point
}

// waitReleased waits for the lock that a daemon holds on its directory.
func waitReleased(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return nil // moved, or not ours to read: nothing to wait for
	}
	defer func() { _ = f.Close() }()
	deadline := time.Now().Add(releaseTimeout)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return &os.PathError{Op: "lock", Path: dir, Err: err}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is unmounted, but its daemon has not finished writing after %v: "+
				"wait for the process to end before you use the directory", dir, releaseTimeout)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
