package fs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What can be wrong with a mount point, or with the machine. Test with
// errors.Is; the messages say what to do.
var (
	ErrAlreadyMounted = errors.New("already a mithrilfs mount: use it, or unmount it first with: mithrilfs umount")
	ErrInside         = errors.New("the mount point is inside the backing directory: choose one outside, or mount over the directory itself")
	ErrNoFUSE         = errors.New("there is no /dev/fuse: load the kernel module with: modprobe fuse (in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN)")
	ErrNoFusermount   = errors.New("only root can mount without fusermount3: install the package fuse3")
	ErrBusy           = errors.New("the mount is in use: close the files that are open there, and leave the directory")
	ErrNotMounted     = errors.New("not a mithrilfs mount")
)

// fsType is how the kernel names our mounts.
const (
	subtype = "mithrilfs"
	fsType  = "fuse." + subtype
)

// mounted is one line of /proc/self/mountinfo.
type mounted struct {
	device string // major:minor
	point  string
	fsType string
	source string // for ours, the backing directory
}

func mounts() ([]mounted, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []mounted
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m, ok := parseMountinfo(lines.Text()); ok {
			list = append(list, m)
		}
	}
	return list, lines.Err()
}

// parseMountinfo reads a line as proc(5) describes it: fixed fields, optional
// ones, a hyphen, and what the filesystem is.
func parseMountinfo(line string) (mounted, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 5 || len(r) < 2 {
		return mounted{}, false
	}
	return mounted{device: l[2], point: unescape(l[4]), fsType: r[0], source: unescape(r[1])}, true
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf returns the mount that path, which is absolute, is in. It asks no
// filesystem, so a mount whose daemon is gone can't make it hang.
func mountOf(path string) (mounted, bool, error) {
	list, err := mounts()
	if err != nil {
		return mounted{}, false, err
	}
	best, found := mounted{}, false
	for _, m := range list { // of two on one point, the later one is on top
		if within(path, m.point) && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true
		}
	}
	return best, found, nil
}

// within says whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// ourMount returns the mithrilfs mount that path is in.
func ourMount(path string) (mounted, bool, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return mounted{}, false, err
	}
	m, ok, err := mountOf(abs)
	if err != nil || ok && m.fsType == fsType {
		return m, ok, err
	}
	real, err := filepath.EvalSymlinks(abs) // asks no mount of ours
	if err != nil {
		return mounted{}, false, nil
	}
	m, ok, err = mountOf(real)
	return m, ok && m.fsType == fsType, err
}

// InMount says whether path is in a mithrilfs mount, without asking the mount.
func InMount(path string) (bool, error) {
	_, ok, err := ourMount(path)
	return ok, err
}

// place is where a mount goes, checked.
type place struct{ dir, point string }

// checkPlace finds out what is wrong before anything is mounted.
func checkPlace(dir, point string) (place, error) {
	if point == "" {
		point = dir
	}
	for _, p := range []string{dir, point} {
		m, ok, err := ourMount(p)
		if err != nil {
			return place{}, err
		}
		if ok {
			return place{}, fmt.Errorf("%s: %w %s", p, ErrAlreadyMounted, m.point)
		}
	}
	var pl place
	for _, p := range []struct {
		name string
		to   *string
	}{{dir, &pl.dir}, {point, &pl.point}} {
		real, err := realDir(p.name)
		if err != nil {
			return place{}, err
		}
		*p.to = real
	}
	if pl.point != pl.dir && within(pl.point, pl.dir) {
		return place{}, fmt.Errorf("%s: %w", point, ErrInside)
	}
	return pl, checkMachine()
}

func realDir(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("%w: make the directory first", err)
	}
	st, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", &os.PathError{Op: "mount", Path: name, Err: unix.ENOTDIR}
	}
	return real, nil
}

// checkMachine says whether this process can mount anything.
func checkMachine() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return ErrNoFUSE
	}
	if err == nil {
		_ = f.Close()
	}
	if os.Geteuid() == 0 {
		return err
	}
	if _, err := fusermount(); err != nil {
		return ErrNoFusermount
	}
	return nil // fusermount3 opens the device with root's rights
}

func fusermount() (string, error) {
	path, err := exec.LookPath("fusermount3")
	if err != nil {
		path, err = exec.LookPath("fusermount")
	}
	return path, err
}
