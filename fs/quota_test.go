package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// newQuota makes a btrfs filesystem in a file and mounts it. Its directory
// backing is a subvolume that may have limit bytes. Skips where the kernel has
// no btrfs.
func newQuota(t testing.TB, limit int64) *testDisk {
	t.Helper()
	needDisk(t)
	needProgram(t, "mkfs.btrfs", "btrfs", "setpriv")
	d := &testDisk{image: filepath.Join(t.TempDir(), "disk"), dir: t.TempDir()}
	must(t, os.WriteFile(d.image, nil, 0o600))
	must(t, os.Truncate(d.image, 512<<20))
	command(t, "mkfs.btrfs", "-q", d.image)
	t.Cleanup(func() { d.remove(t) })
	if out, err := d.attach(); err != nil {
		t.Skipf("SKIPPED: this kernel mounts no btrfs: %v: %s", err, out)
	}
	command(t, "btrfs", "quota", "enable", d.dir)
	command(t, "btrfs", "subvolume", "create", filepath.Join(d.dir, "backing"))
	command(t, "btrfs", "qgroup", "limit", fmt.Sprint(limit), filepath.Join(d.dir, "backing"))
	return d
}

// used is how many bytes count against the quota.
func (d *testDisk) used(t testing.TB) int64 {
	t.Helper()
	must(t, d.sync())
	lines := strings.Split(strings.TrimSpace(command(t, "btrfs", "qgroup", "show", "--raw", "-f", filepath.Join(d.dir, "backing"))), "\n")
	var group string
	var referenced int64
	if _, err := fmt.Sscan(lines[len(lines)-1], &group, &referenced); err != nil {
		t.Fatalf("%v: %q", err, lines)
	}
	return referenced
}

// mountLimited mounts it by a daemon that quotas hold for: root's own capability
// lets it write past them.
func mountLimited(t testing.TB, d *testDisk) *testMount {
	return startMount(t, daemonOrder{Dir: d.backing(t), Point: t.TempDir()}, func(cmd *exec.Cmd) {
		setpriv, err := exec.LookPath("setpriv")
		must(t, err)
		cmd.Args = []string{setpriv, "--bounding-set=-sys_resource", cmd.Path}
		cmd.Path = setpriv
	})
}

// limited is a mount on a disk with a quota.
type limited struct {
	*testMount
	disk   *testDisk
	before int64 // used, with the files that are there from the beginning
	other  []byte
}

// TestQuota: a quota that is used up is an error that the saving program gets;
// the old file survives; and what is unlinked can be used again.
func TestQuota(t *testing.T) {
	for kind, data := range tooLarge(t) {
		for _, sync := range []bool{false, true} {
			if (testing.Short() || raceDetector) && sync == (kind == "noise") {
				continue
			}
			t.Run(fmt.Sprintf("%s/sync %v", kind, sync), func(t *testing.T) { useUpQuota(t, data, sync) })
		}
	}
}

func useUpQuota(t *testing.T, data []byte, sync bool) {
	weights := realWeights(t)
	old := safetensorsFile(t)[:4<<20]
	m := &limited{disk: newQuota(t, 24<<20), other: old[:100_000]}
	m.testMount = mountLimited(t, m.disk)
	model, fresh := m.path("model"), m.path("new")
	must(t, os.WriteFile(model, old, 0o600))
	must(t, os.WriteFile(m.path("other"), m.other, 0o600))
	settle(t, m.testMount)
	m.before = m.disk.used(t)

	m.refuses(t, fresh, os.O_EXCL, data, sync)
	checkFile(t, model, old)
	eventuallyBegins(t, fresh, data)
	must(t, os.Remove(fresh))
	m.returned(t, m.before)
	for range 2 {
		m.refuses(t, model, os.O_TRUNC, data, sync)
		eventuallyFile(t, model, old)
		m.returned(t, m.before)
	}
	m.refuses(t, model, os.O_APPEND, data, sync)
	if got := eventuallyBegins(t, model, slices.Concat(old, data)); len(got) < len(old) {
		t.Errorf("%d bytes are left of the old file's %d", len(got), len(old))
	}
	must(t, os.Remove(model))
	m.returned(t, m.before-2<<20)

	for range 2 {
		if call, err := saveAll(model, os.O_TRUNC, weights[1<<20:4<<20], true); err != nil {
			t.Fatalf("there is room now: %s says %v", call, err)
		}
	}
	m.unmount(t)
	m.testMount = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
	checkFile(t, model, weights[1<<20:4<<20])
	checkFile(t, m.path("other"), m.other)
	if l := leftovers(t, m.backing); len(l) > 0 {
		t.Errorf("%v", l)
	}
}

// refuses writes what there is no quota for.
func (m *limited) refuses(t *testing.T, name string, flags int, data []byte, sync bool) {
	t.Helper()
	if call, err := saveAll(name, flags, data, sync); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("opened with %#x: %s says %v", flags, call, err)
	}
	checkFile(t, m.path("other"), m.other)
}

// returned waits until no more than want bytes are used, about.
func (m *limited) returned(t *testing.T, want int64) {
	t.Helper()
	var used int64
	for range 100 { // RELEASE comes after close(2), and btrfs counts later still
		settle(t, m.testMount)
		if used = m.disk.used(t); used <= want+256<<10 {
			return
		}
	}
	t.Errorf("%d bytes are used, want %d", used, want)
}
