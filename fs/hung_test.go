package fs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/store/patience"
)

// hungDisk is a mount whose directory slow is on a disk that can be made to
// hang: another mount, whose daemon can be stopped.
type hungDisk struct {
	*testMount
	disk *testMount
}

func newHungDisk(t *testing.T) *hungDisk {
	t.Helper()
	backing := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(backing, "slow"), 0o700))
	must(t, os.MkdirAll(filepath.Join(backing, "fast"), 0o700))
	disk := startMount(t, daemonOrder{Dir: t.TempDir(), Point: filepath.Join(backing, "slow")}, nil)
	m := startMount(t, daemonOrder{Dir: backing, Point: t.TempDir()}, nil)
	h := &hungDisk{m, disk}
	t.Cleanup(func() { h.signal(t, syscall.SIGCONT) }) // before the mounts go
	return h
}

func (h *hungDisk) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, h.disk.cmd.Process.Signal(s))
}

// shell starts a client in the mount.
func (h *hungDisk) shell(t *testing.T, script string) (cmd *exec.Cmd, done chan exit, out *lockedBuffer) {
	t.Helper()
	out = &lockedBuffer{}
	cmd = exec.Command("bash", "-c", "exec "+script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.point, out, out
	must(t, cmd.Start())
	done = make(chan exit, 1)
	go func() { done <- exit{cmd.Wait()} }()
	return cmd, done, out
}

// runs fails if a client does not succeed soon.
func (h *hungDisk) runs(t *testing.T, script string) {
	t.Helper()
	cmd, done, out := h.shell(t, script)
	select {
	case e := <-done:
		if e.err != nil {
			t.Errorf("%s: %v: %s", script, e.err, out)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s is held up", script)
		_ = cmd.Process.Kill()
		<-done
	}
}

// TestHungDisk: what waits for a disk that hangs can be killed, and everything
// else goes on.
func TestHungDisk(t *testing.T) {
	h := newHungDisk(t)
	text := bytes.Repeat([]byte("a line of a log\n"), 1<<16)
	weights := realWeights(t)[:8<<20]
	for name, data := range map[string][]byte{"plain": text, "weights": weights, "old": weights, "name": text} {
		must(t, os.WriteFile(h.path("slow", name), data, 0o600))
		must(t, os.WriteFile(h.path("fast", name), data, 0o600))
	}
	h.unmount(t) // nothing is in its memory
	h.testMount = startMount(t, daemonOrder{Dir: h.backing, Point: h.point}, nil)
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, realWeights(t), 0o600))

	requests := map[string]string{
		"read of a container":   `cat slow/weights`,
		"read of a plain file":  `dd if=slow/plain of=/dev/null bs=4k`,
		"mapped read":           `cmp -n 1000 slow/weights slow/old`,
		"write of a plain file": `dd if=` + source + ` of=slow/plain bs=64k conv=notrunc status=none`,
		"write of a container":  `dd if=` + source + ` of=slow/weights bs=64k seek=3 conv=notrunc status=none`,
		"save":                  `dd if=` + source + ` of=slow/new bs=1M conv=fsync status=none`,
		"replacement":           `cp ` + source + ` slow/old`,
		"stat":                  `stat slow/plain`,
		"list":                  `ls -l slow`,
		"rename":                `mv slow/name slow/other`,
		"unlink":                `rm slow/name`,
		"mkdir":                 `mkdir slow/dir`,
		"attributes":            `chmod 644 slow/name`,
		"truncate":              `truncate -s 100 slow/plain`,
	}
	h.signal(t, syscall.SIGSTOP)
	type client struct {
		name string
		cmd  *exec.Cmd
		done chan exit
		out  *lockedBuffer
	}
	var clients []client
	for name, script := range requests {
		cmd, done, out := h.shell(t, script)
		clients = append(clients, client{name, cmd, done, out})
	}
	time.Sleep(500 * time.Millisecond)
	for range 3 {
		h.runs(t, `cmp fast/weights fast/old`)
		h.runs(t, `cp `+source+` fast/new`)
		h.runs(t, `mv fast/new fast/newer`)
		h.runs(t, `cmp fast/newer `+source)
		h.runs(t, `ls -l fast`)
		h.runs(t, `rm fast/newer`)
	}
	for _, c := range clients {
		select {
		case e := <-c.done:
			t.Errorf("%s does not wait for the disk: %v %s", c.name, e.err, c.out)
			c.done <- e
		default:
		}
		_ = c.cmd.Process.Kill()
	}
	late := time.After(4*patience.Patience + 5*time.Second)
	for _, c := range clients {
		select {
		case <-c.done:
		case <-late:
			t.Errorf("%s can't be killed while the disk hangs", c.name)
		}
	}
	h.signal(t, syscall.SIGCONT)
	// The disk is back: what nobody changed is whole, and new requests are served.
	h.runs(t, `cp `+source+` slow/after`)
	h.runs(t, `cmp `+source+` slow/after`)
	h.runs(t, `cmp fast/plain fast/name`)
	h.runs(t, `ls -l slow`)
	h.unmount(t)
}

// TestSignalsAreNotSeen: a signal that finds a request at work does not make it
// fail.
func TestSignalsAreNotSeen(t *testing.T) {
	py := python(t)
	m := mountOver(t)
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, realWeights(t), 0o600))
	for _, name := range []string{"weights", "again"} {
		out, err := exec.Command(py, "../testdata/clients/signals.py", m.path(name), source).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Logf("%s", out)
	}
	noisy := filepath.Join(t.TempDir(), "noise")
	must(t, os.WriteFile(noisy, bytes.Repeat([]byte("plain text is kept as it is\n"), 2<<20), 0o600))
	if out, err := exec.Command(py, "../testdata/clients/signals.py", m.path("plain"), noisy).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestStalledClients: clients that stop in the middle of a read or a write hold
// up nobody, however many they are.
func TestStalledClients(t *testing.T) {
	m := mountOver(t)
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, realWeights(t), 0o600))
	must(t, os.WriteFile(m.path("old"), realWeights(t), 0o600))
	const writers, readers = 110, 10 // more than there are chunks for all
	for i := range writers + readers {
		// A writer holds a part of a frame.
		script := fmt.Sprintf(`exec 3>%s/new%d; head -c 1300000 %s >&3; echo; kill -STOP $$`, m.point, i, source)
		if i >= writers {
			script = fmt.Sprintf(`exec 3<%s/old; head -c 300000 <&3 >/dev/null; echo; kill -STOP $$`, m.point)
		}
		cmd := exec.Command("bash", "-c", script)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatalf("client %d did not get that far: %v", i, err)
		}
	}
	h := &hungDisk{testMount: m}
	h.runs(t, `cp `+source+` another`)
	h.runs(t, `cmp `+source+` another`)
	h.runs(t, `cmp `+source+` old`)
	h.runs(t, `mv another old`)
}
