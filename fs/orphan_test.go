package fs

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWithoutName: what is open is reached after it has lost its name, whatever
// it is, and the daemon lets go of it when nobody knows it any more.
func TestWithoutName(t *testing.T) {
	b := newBothSides(t)
	root := os.Geteuid() == 0
	before := daemonDescriptors(t, b.daemon)
	for _, kind := range []struct {
		name   string
		create func(p string) error
		remove func(p string) error
	}{
		{"file", func(p string) error { return os.WriteFile(p, []byte("content"), 0o600) }, unix.Unlink},
		{"FIFO", func(p string) error { return unix.Mkfifo(p, 0o600) }, unix.Unlink},
		{"directory", func(p string) error { return unix.Mkdir(p, 0o700) }, unix.Rmdir},
		{"renamed over directory", func(p string) error { return unix.Mkdir(p, 0o700) }, func(p string) error {
			if err := unix.Mkdir(p+"2", 0o700); err != nil {
				return err
			}
			if err := unix.Rename(p+"2", p); err != nil {
				return err
			}
			return unix.Rmdir(p)
		}},
		{"renamed over FIFO", func(p string) error { return unix.Mkfifo(p, 0o600) }, func(p string) error {
			if err := os.WriteFile(p+"2", nil, 0o600); err != nil {
				return err
			}
			if err := unix.Rename(p+"2", p); err != nil {
				return err
			}
			return unix.Unlink(p)
		}},
		{"one of two names", func(p string) error { return unix.Mkfifo(p, 0o600) }, func(p string) error {
			if err := unix.Link(p, p+"2"); err != nil {
				return err
			}
			if err := unix.Unlink(p); err != nil {
				return err
			}
			return unix.Unlink(p + "2")
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var reports [2]string
			for i, s := range b.sides() {
				p := s.path("x")
				must(t, kind.create(p))
				fd, err := retryOpen(p, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
				must(t, err)
				must(t, kind.remove(p))
				reports[i] = useWithoutName(t, fd, root)
				must(t, unix.Close(fd))
			}
			if reports[0] != reports[1] {
				t.Errorf("on ext4:\n%s\non the mount:\n%s", reports[0], reports[1])
			}
		})
	}
	eventually(t, func() bool { return daemonDescriptors(t, b.daemon) <= before })
}

// useWithoutName does what can be done on a descriptor, and says what came out.
func useWithoutName(t *testing.T, fd int, root bool) (report string) {
	note := func(what string, err error) { report += fmt.Sprintf("%s: %v\n", what, err) }
	note("fchmod", unix.Fchmod(fd, 0o751))
	if root {
		note("fchown", unix.Fchown(fd, 1000, 1001))
	}
	old := time.Unix(1_000_000_000, 123_456_789)
	note("utimes", unix.UtimesNanoAt(fd, "", []unix.Timespec{unix.NsecToTimespec(old.UnixNano()), unix.NsecToTimespec(old.UnixNano())}, unix.AT_EMPTY_PATH))
	for _, attr := range []string{"user.a", "trusted.a"} {
		note("fsetxattr "+attr, unix.Fsetxattr(fd, attr, []byte("value"), 0))
		value := make([]byte, 10)
		n, err := unix.Fgetxattr(fd, attr, value)
		note(fmt.Sprintf("fgetxattr %s %q", attr, value[:max(n, 0)]), err)
	}
	names := make([]byte, 1000)
	n, err := unix.Flistxattr(fd, names)
	note(fmt.Sprintf("flistxattr %q", names[:max(n, 0)]), err)
	note("fremovexattr", unix.Fremovexattr(fd, "trusted.a"))
	var st unix.Stat_t
	note("fstat", unix.Fstat(fd, &st))
	report += fmt.Sprintf("mode %o, %d links, owner %d %d, time %d.%d\n", st.Mode, st.Nlink, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	return report
}

func daemonDescriptors(t testing.TB, m *testMount) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid))
	must(t, err)
	return len(entries)
}

// TestLinkAttributes: a symbolic link has extended attributes of its own.
func TestLinkAttributes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: it takes root to give a symbolic link attributes")
	}
	m := mountApart(t)
	must(t, os.WriteFile(m.path("f"), nil, 0o600))
	must(t, os.Symlink("f", m.path("link")))
	must(t, os.Symlink("nowhere", m.path("dangling")))
	for _, name := range []string{"link", "dangling"} {
		must(t, unix.Lsetxattr(m.path(name), "trusted.a", []byte(name), 0))
		must(t, unix.Lsetxattr(m.path(name), "trusted.b", []byte(name), 0))
		must(t, unix.Lremovexattr(m.path(name), "trusted.b"))
	}
	for range 2 {
		for _, name := range []string{"link", "dangling"} {
			b := make([]byte, 100)
			n, err := unix.Lgetxattr(m.path(name), "trusted.a", b)
			if err != nil || string(b[:n]) != name {
				t.Errorf("%s: %q %v", name, b[:max(n, 0)], err)
			}
			n, err = unix.Llistxattr(m.path(name), b)
			if err != nil || string(b[:n]) != "trusted.a\x00" {
				t.Errorf("%s has %q %v", name, b[:max(n, 0)], err)
			}
		}
		if n, err := unix.Listxattr(m.path("f"), nil); n != 0 || err != nil {
			t.Errorf("the file has attributes of its link: %d %v", n, err)
		}
		m = m.remount(t)
	}
}
