package store

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// do runs create, which makes something in the backing directory, with the
// caller's ids, so that owner, setgid directories, default ACLs and quotas are
// the backing filesystem's own. Only root can; for anyone else the caller is
// who runs the daemon.
func (c Caller) do(create func() error) error {
	if os.Geteuid() != 0 || c.UID == 0 && c.GID == 0 {
		return create()
	}
	groups, err := c.groups()
	if err != nil {
		return err
	}
	// The ids are a thread's. A goroutine that ends without unlocking takes its
	// thread along, so ids that can't be restored harm nobody.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := c.become(groups)
		if err == nil {
			err = create()
		}
		done <- err
		if resume() == nil {
			runtime.UnlockOSThread()
		}
	}()
	return <-done
}

// become gives the calling thread the caller's ids. The user goes last: without
// root's capabilities the rest could not be set.
func (c Caller) become(groups []uint32) error {
	if err := setThreadGroups(groups); err != nil {
		return fmt.Errorf("taking on groups of process %d: %w", c.PID, err)
	}
	if err := unix.Setfsgid(int(c.GID)); err != nil {
		return err
	}
	return unix.Setfsuid(int(c.UID))
}

// resume makes the calling thread root again.
func resume() error {
	if err := unix.Setfsuid(0); err != nil {
		return err
	}
	if err := unix.Setfsgid(0); err != nil {
		return err
	}
	own, err := os.Getgroups()
	if err != nil {
		return err
	}
	groups := make([]uint32, len(own))
	for i, g := range own {
		groups[i] = uint32(g)
	}
	return setThreadGroups(groups)
}

// setThreadGroups is setgroups(2) for the calling thread alone: the one of the
// standard library changes all threads.
func setThreadGroups(groups []uint32) error {
	var p unsafe.Pointer
	if len(groups) > 0 {
		p = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(p), 0); errno != 0 {
		return errno
	}
	return nil
}

// groups reads the caller's supplementary groups. A caller that is gone by now
// has none.
func (c Caller) groups() ([]uint32, error) {
	if c.PID == 0 {
		return nil, nil
	}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(c.PID), 10) + "/status")
	if err != nil {
		return nil, nil
	}
	for line := range strings.Lines(string(status)) {
		list, ok := strings.CutPrefix(line, "Groups:")
		if !ok {
			continue
		}
		var groups []uint32
		for _, field := range strings.Fields(list) {
			g, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("groups of process %d: %w", c.PID, err)
			}
			groups = append(groups, uint32(g))
		}
		return groups, nil
	}
	return nil, nil
}
