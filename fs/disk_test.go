package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testDisk is a small filesystem of its own, so that a test can fill it, or cut
// its power.
type testDisk struct {
	image string // "" for tmpfs
	dir   string // where it is mounted
}

// needDisk skips where no filesystem can be mounted.
func needDisk(t testing.TB) {
	t.Helper()
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: it takes root to mount a filesystem")
	}
}

// newDisk makes an ext4 filesystem in a file and mounts it. It goes away with
// the test.
func newDisk(t testing.TB, mib int64) *testDisk {
	t.Helper()
	needDisk(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("SKIPPED: no loop devices: %v", err)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	d := &testDisk{image: filepath.Join(t.TempDir(), "disk"), dir: t.TempDir()}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, mib<<20))
	command(t, mkfs, "-q", "-F", "-m", "0", d.image)
	t.Cleanup(func() { d.remove(t) })
	if out, err := d.attach(); err != nil {
		t.Skipf("SKIPPED: can't mount a disk: %v: %s", err, out)
	}
	return d
}

func (d *testDisk) attach() ([]byte, error) {
	return exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput()
}

// newTmpfs mounts a tmpfs of a size.
func newTmpfs(t testing.TB, size string) *testDisk {
	t.Helper()
	needDisk(t)
	d := &testDisk{dir: t.TempDir()}
	t.Cleanup(func() { d.remove(t) })
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED: can't mount a tmpfs: %v", err)
	}
	return d
}

// detach unmounts, and waits until the loop device is given back: a process
// with a mount namespace of its own may keep the filesystem a little longer.
func (d *testDisk) detach(t testing.TB) {
	t.Helper()
	mounted := true
	for range 500 {
		if mounted && unix.Unmount(d.dir, 0) == nil {
			mounted = false
		}
		if !mounted && len(d.devices()) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s does not go", d.dir)
}

// devices are the loop devices that have the image.
func (d *testDisk) devices() []string {
	out, _ := exec.Command("losetup", "-n", "-O", "NAME", "-j", d.image).Output()
	return strings.Fields(string(out))
}

// remove takes it away, whatever holds it.
func (d *testDisk) remove(t testing.TB) {
	_ = unix.Unmount(d.dir, unix.MNT_DETACH)
	if d.image == "" {
		return
	}
	for _, device := range d.devices() {
		_ = exec.Command("losetup", "-d", device).Run() // it may go by itself
	}
}

// backing is a directory of the disk that a mount can have.
func (d *testDisk) backing(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(d.dir, "backing")
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

// free is how many bytes can be written to it.
func (d *testDisk) free(t testing.TB) int64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(d.dir, &st))
	return int64(st.Bavail) * st.Bsize
}
