package fs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// refusal starts a daemon that must refuse, and returns what it says, with
// directories replaced by their names.
func refusal(t *testing.T, o daemonOrder, prepare func(*exec.Cmd), names ...string) string {
	t.Helper()
	m, line := launch(t, o, prepare)
	e := <-m.exited
	if line == readyLine {
		m.exited <- e
		m.stop(t)
		t.Fatal("it mounted")
	}
	for i := 0; i+1 < len(names); i += 2 {
		line = strings.ReplaceAll(line, names[i], names[i+1])
	}
	return line
}

func TestRefusals(t *testing.T) {
	m := mountApart(t)
	over := mountOver(t)
	must(t, os.MkdirAll(m.path("sub"), 0o700))
	plain := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(plain, nil, 0o600))
	fresh := t.TempDir()
	must(t, os.Mkdir(filepath.Join(fresh, "inside"), 0o700))
	names := []string{m.point, "POINT", m.backing, "BACKING", over.point, "OVER", plain, "FILE", fresh, "FRESH"}
	for _, c := range []struct {
		name  string
		order daemonOrder
		want  string
	}{
		{"the directory is a mount over itself", daemonOrder{Dir: over.point},
			"OVER: already a mithrilfs mount: use it, or unmount it first with: mithrilfs umount OVER"},
		{"the mount point is a mount", daemonOrder{Dir: fresh, Point: m.point},
			"POINT: already a mithrilfs mount: use it, or unmount it first with: mithrilfs umount POINT"},
		{"the directory is in a mount", daemonOrder{Dir: m.path("sub")},
			"POINT/sub: already a mithrilfs mount: use it, or unmount it first with: mithrilfs umount POINT"},
		{"the directory is served elsewhere", daemonOrder{Dir: m.backing, Point: fresh},
			"BACKING: the directory is in use by another mithrilfs: unmount it there, or wait until that command is done"},
		{"the mount point is inside the directory", daemonOrder{Dir: fresh, Point: filepath.Join(fresh, "inside")},
			"FRESH/inside: the mount point is inside the backing directory: choose one outside, or mount over the directory itself"},
		{"there is no such directory", daemonOrder{Dir: filepath.Join(fresh, "no")},
			"lstat FRESH/no: no such file or directory: make the directory first"},
		{"it is a file", daemonOrder{Dir: plain}, "mount FILE: not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := refusal(t, c.order, nil, names...); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// TestNoFUSE hides /dev from a daemon.
func TestNoFUSE(t *testing.T) {
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: it takes root to hide /dev/fuse")
	}
	hidden := func(cmd *exec.Cmd) {
		self := cmd.Path
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `mount -t tmpfs none /dev && exec "$0"`, self}
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	if got := refusal(t, daemonOrder{Dir: t.TempDir()}, hidden); got != ErrNoFUSE.Error() {
		t.Errorf("%s\nwant %v", got, ErrNoFUSE)
	}
}

// TestUnprivileged mounts as an ordinary user, with and without fusermount3.
func TestUnprivileged(t *testing.T) {
	needFUSE(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: it takes root to become somebody else")
	}
	dir, err := os.MkdirTemp("", "mithrilfs-test")
	must(t, err)
	defer func() { must(t, os.RemoveAll(dir)) }()
	must(t, os.Chown(dir, 65534, 65534))
	// The test binary may be where only root can reach it.
	binary, err := os.ReadFile(os.Args[0])
	must(t, err)
	program := filepath.Join(dir, "program")
	must(t, os.WriteFile(program, binary, 0o755))
	node := t.TempDir()
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o755))
	must(t, os.Chown(data, 65534, 65534))
	// Some machines keep /dev/fuse to root: the daemon gets one that is not, in a
	// mount namespace of its own.
	user := func(path string) func(*exec.Cmd) {
		return func(cmd *exec.Cmd) {
			cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-ec", `mount -t tmpfs none "$1"
				mknod -m 666 "$1/fuse" c 10 229
				mount --bind "$1/fuse" /dev/fuse
				PATH=$2 exec /usr/bin/setpriv --reuid 65534 --regid 65534 --clear-groups "$0"`, program, node, path}
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		}
	}
	if got := refusal(t, daemonOrder{Dir: data}, user("/nowhere")); got != ErrNoFusermount.Error() {
		t.Errorf("%s\nwant %v", got, ErrNoFusermount)
	}
	m, line := launch(t, daemonOrder{Dir: data}, user(os.Getenv("PATH")))
	defer m.stop(t)
	if line != readyLine {
		t.Fatalf("%s\n%s", line, m.log)
	}
	inside := func(script string) (string, error) {
		out, err := exec.Command("nsenter", "-t", strconv.Itoa(m.cmd.Process.Pid), "-m", "-S", "65534", "-G", "65534", "sh", "-c", script).CombinedOutput()
		return string(out), err
	}
	if out, err := inside("echo hello > " + m.path("f") + " && cat " + m.path("f")); err != nil || out != "hello\n" {
		t.Errorf("%v %s", err, out)
	}
	if out, err := inside("fusermount3 -u " + m.point); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	m.wait(t)
	checkFile(t, filepath.Join(data, "f"), []byte("hello\n"))
}

func TestUnmountErrors(t *testing.T) {
	m := mountOver(t)
	f, err := os.Create(m.path("f"))
	must(t, err)
	if err := Unmount(m.point); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	must(t, f.Close())
	m.unmount(t)
	if err := Unmount(m.point); !errors.Is(err, ErrNotMounted) {
		t.Errorf("%v", err)
	}
}

func TestParseMountinfo(t *testing.T) {
	m, ok := parseMountinfo(`36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - fuse.mithrilfs /back\134slash rw`)
	if want := (mounted{"98:0", "/mnt two", "fuse.mithrilfs", `/back\slash`}); !ok || m != want {
		t.Errorf("%+v %v", m, ok)
	}
	for _, bad := range []string{"", "36 35 98:0", "1 2 3 4 5 6 - x", "no hyphen at all in this line"} {
		if m, ok := parseMountinfo(bad); ok {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

// TestInodeNumbersAreNotMixedUp: a new file that gets the number of a removed
// one is another file.
func TestInodeNumbersAreNotMixedUp(t *testing.T) {
	m := mountOver(t)
	var held []*os.File
	for i := range 200 {
		f, err := os.Create(m.path("f"))
		must(t, err)
		_, err = f.WriteString(strings.Repeat("x", i+1))
		must(t, err)
		if i%10 == 0 {
			held = append(held, f)
		} else {
			must(t, f.Close())
		}
		must(t, os.Remove(m.path("f")))
	}
	for i, f := range held {
		var st unix.Stat_t
		must(t, unix.Fstat(int(f.Fd()), &st))
		if st.Size != int64(10*i+1) || st.Nlink != 0 {
			t.Errorf("file %d has %d bytes and %d links", 10*i, st.Size, st.Nlink)
		}
		must(t, f.Close())
	}
}
