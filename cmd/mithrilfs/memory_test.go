package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/internal/testweights"
)

// The whole form: go test ./cmd/mithrilfs -run Memory -save-mib 2048 -rounds 200
var (
	saveMiB = flag.Int64("save-mib", 96, "MiB that each client of the memory test saves")
	rounds  = flag.Int("rounds", 24, "how often the memory test saves, loads and unlinks")
)

// programVariable makes the test binary be the program, to serve a mount in a
// process of its own, with the limits that the program sets for itself.
const programVariable = "MITHRILFS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const (
	busyRSS   = 384 << 20 // of the daemon, while clients save and load
	idleRSS   = 128 << 20 // and when they have gone
	groupSize = 512 << 20 // of the daemon and the page cache of its files
)

// TestMemoryOfManyClients: four clients save while four load, and the daemon
// stays small, in a control group that would have it killed otherwise.
func TestMemoryOfManyClients(t *testing.T) {
	d := startProgram(t)
	d.limit(t, groupSize)
	const clients = 4
	size := *saveMiB << 20
	each := func(work func(i int) error) {
		t.Helper()
		errs := make([]error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() { errs[i] = work(i) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("%v\nthe daemon's log:\n%s", err, d.said())
		}
	}
	name := func(set string, i int) string { return filepath.Join(d.point, fmt.Sprint(set, i)) }

	each(func(i int) error { return saveWeights(name("old", i), uint64(i), size) })
	saving := d.status(t, "VmHWM")
	loads := make(chan error, 1)
	go func() {
		errs := make([]error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() { errs[i] = loadWeights(name("old", i), uint64(i), size) })
		}
		all.Wait()
		loads <- errors.Join(errs...)
	}()
	each(func(i int) error { return saveWeights(name("new", i), uint64(clients+i), size) })
	if err := <-loads; err != nil {
		t.Fatal(err)
	}
	both := d.status(t, "VmHWM")
	idle := d.status(t, "VmRSS")
	for deadline := time.Now().Add(20 * time.Second); idle > idleRSS && time.Now().Before(deadline); {
		time.Sleep(500 * time.Millisecond)
		idle = d.status(t, "VmRSS")
	}
	t.Logf("%d clients, %d MiB each: %d MiB of memory while they save, %d while others load too, %d idle",
		clients, size>>20, saving>>20, both>>20, idle>>20)
	if both > busyRSS {
		t.Errorf("the daemon had %d MiB", both>>20)
	}
	if idle > idleRSS {
		t.Errorf("the idle daemon has %d MiB", idle>>20)
	}
	each(func(i int) error { return loadWeights(name("new", i), uint64(clients+i), size) })
}

// TestMemoryDoesNotGrow: nothing stays of files that are gone.
func TestMemoryDoesNotGrow(t *testing.T) {
	d := startProgram(t)
	const size = 24 << 20
	round := func(i int) {
		name := filepath.Join(d.point, fmt.Sprint("step", i))
		if err := errors.Join(saveWeights(name, uint64(i), size), loadWeights(name, uint64(i), size), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	warm := max(*rounds/4, 8) // until pools and the cache are full
	for i := range warm {
		round(i)
	}
	rss, files := d.status(t, "VmHWM"), d.files(t)
	for i := warm; i < *rounds; i++ {
		round(i)
	}
	t.Logf("%d MiB after %d rounds, %d after %d", rss>>20, warm, d.status(t, "VmHWM")>>20, *rounds)
	if grown := d.status(t, "VmHWM") - rss; grown > 32<<20 {
		t.Errorf("the daemon's memory grew by %d MiB in %d rounds", grown>>20, *rounds-warm)
	}
	if now := d.files(t); now > files {
		t.Errorf("the daemon has %d files open, %d of them more than before", now, now-files)
	}
}

// saveWeights makes the system calls of safetensors' save_file.
func saveWeights(name string, seed uint64, size int64) error {
	f, err := os.OpenFile(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	head := weightsHeader(size)
	err = f.Truncate(int64(len(head)) + size)
	if err == nil {
		_, err = f.Write(head)
	}
	piece := make([]byte, testweights.Block)
	for done := int64(0); done < size && err == nil; done += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), size-done)]
		testweights.Fill(piece, seed, uint64(done/testweights.Block))
		_, err = f.Write(piece)
	}
	return errors.Join(err, os.Rename(name+".tmp", name), f.Close())
}

func weightsHeader(size int64) []byte {
	text := fmt.Sprintf(`{"weight":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}`, size/2, size)
	text += strings.Repeat(" ", -len(text)&7)
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
}

// loadWeights reads through a mapping, as loaders do, and compares.
func loadWeights(name string, seed uint64, size int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	head := weightsHeader(size)
	m, err := unix.Mmap(int(f.Fd()), 0, len(head)+int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(m) }()
	want, number := make([]byte, testweights.Block), uint64(0)
	for rest := m[len(head):]; len(rest) > 0; number++ {
		n := min(len(rest), len(want))
		testweights.Fill(want[:n], seed, number)
		if !slices.Equal(rest[:n], want[:n]) {
			return fmt.Errorf("%s: the bytes differ, %d from the end", name, len(rest))
		}
		rest = rest[n:]
	}
	return nil
}

// program is mithrilfs mount in a process of its own.
type program struct {
	point string
	cmd   *exec.Cmd
	log   string // file of its standard error
	ended chan error
}

func startProgram(t *testing.T) *program {
	t.Helper()
	if raceDetector {
		t.Skip("SKIPPED: the race detector multiplies memory")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("MITHRILFS_REQUIRE"), ","), "fuse") {
			t.Fatalf("FUSE is required here: %v", err)
		}
		t.Skipf("SKIPPED, no FUSE: %v", err)
	}
	backing := t.TempDir()
	p := &program{point: t.TempDir(), log: filepath.Join(t.TempDir(), "log"), ended: make(chan error, 1)}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0], "mount", "--foreground", "--ready-fd=3", "--log", p.log, backing, p.point)
	p.cmd.Env = append(os.Environ(), programVariable+"=1")
	p.cmd.Stderr = log
	p.cmd.ExtraFiles = []*os.File{tell}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tell.Close()
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.stop(t) })
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("the mount does not come up\n%s", p.said())
	}
	_ = ready.Close()
	return p
}

func (p *program) stop(t *testing.T) {
	if o := invoke(t, "umount", p.point); o.code != exitOK {
		t.Errorf("umount: %s", o.stderr)
		_ = unix.Unmount(p.point, unix.MNT_DETACH)
		_ = p.cmd.Process.Kill()
	}
	if err := <-p.ended; err != nil {
		t.Errorf("the daemon ended with %v\n%s", err, p.said())
	}
}

func (p *program) said() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// status is a size from the kernel's description of the daemon.
func (p *program) status(t *testing.T, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("the daemon has no %s", field)
	return 0
}

// files is how many descriptors the daemon has open. What clients closed goes
// a moment later.
func (p *program) files(t *testing.T) int {
	t.Helper()
	time.Sleep(200 * time.Millisecond)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// limit puts the daemon into a control group of its own, where this user may
// make one.
func (p *program) limit(t *testing.T, size int64) {
	t.Helper()
	group, knob := memoryGroup()
	dir := filepath.Join(group, fmt.Sprintf("mithrilfs-test-%d", p.cmd.Process.Pid))
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		t.Cleanup(func() { removeGroup(t, dir, p.cmd.Process.Pid) })
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, knob), []byte(strconv.FormatInt(size, 10)), 0),
			os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0))
	}
	if err != nil {
		t.Logf("NOT LIMITED, only measured: no control group: %v", err)
		return
	}
	t.Logf("in a control group of %d MiB", size>>20)
}

// memoryGroup is where this process's memory is accounted, and what the file
// with the limit is called.
func memoryGroup() (dir, knob string) {
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) == 3 && slices.Contains(strings.Split(part[1], ","), "memory") {
			return filepath.Join("/sys/fs/cgroup/memory", part[2]), "memory.limit_in_bytes"
		}
		if len(part) == 3 && part[0] == "0" {
			dir = filepath.Join("/sys/fs/cgroup", part[2])
		}
	}
	return dir, "memory.max"
}

// removeGroup runs before the daemon ends, which must not be in it any more.
func removeGroup(t *testing.T, dir string, pid int) {
	err := os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	if err := errors.Join(err, os.Remove(dir)); err != nil {
		t.Logf("the control group %s stays: %v", dir, err)
	}
}
