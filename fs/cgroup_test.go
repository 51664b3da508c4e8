package fs

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// To let each write more:
//
//	go test ./fs -run WritersInLittleMemory -v -timeout 0 -writersmib 1024
var writersMiB = flag.Int64("writersmib", 0, "MiB that each of the many writers writes; 0: 64")

// cgroup is a bound on the memory of some processes, their page cache included.
type cgroup struct {
	dir string
	v1  bool
}

const cgroupRoot = "/sys/fs/cgroup"

// newCgroup makes a cgroup that goes with the test. It skips where none can be
// made.
func newCgroup(t testing.TB, limit int64) *cgroup {
	t.Helper()
	name := fmt.Sprintf("mithrilfs-test-%d", os.Getpid())
	g := &cgroup{dir: filepath.Join(cgroupRoot, name)}
	limits := map[string]string{"memory.max": fmt.Sprint(limit), "memory.swap.max": "0"}
	controllers, _ := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"))
	if !strings.Contains(string(controllers), "memory") {
		g = &cgroup{dir: filepath.Join(cgroupRoot, "memory", name), v1: true}
		limits = map[string]string{"memory.limit_in_bytes": fmt.Sprint(limit)}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Skipf("SKIPPED: no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { g.remove(t) })
	for file, value := range limits {
		err := os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0)
		if err != nil && file != "memory.swap.max" { // there may be no swap
			t.Skipf("SKIPPED: a cgroup's memory can't be bounded: %v", err)
		}
	}
	return g
}

// remove waits for the last processes to be gone.
func (g *cgroup) remove(t testing.TB) {
	for range 200 {
		if err := unix.Rmdir(g.dir); err == nil || errors.Is(err, unix.ENOENT) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s can't be removed", g.dir)
}

// enter makes a command run in it.
func (g *cgroup) enter(cmd *exec.Cmd) {
	cmd.Args = append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// killed is how many processes have been killed for want of memory, and peak
// the most that all had together.
func (g *cgroup) killed(t testing.TB) (n, peak int64) {
	t.Helper()
	events, most := "memory.events", "memory.peak"
	if g.v1 {
		events, most = "memory.oom_control", "memory.max_usage_in_bytes"
	}
	b, err := os.ReadFile(filepath.Join(g.dir, events))
	must(t, err)
	n = -1
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "oom_kill %d", &n)
	}
	if n < 0 {
		t.Fatalf("%s has no oom_kill: %s", events, b)
	}
	if b, err := os.ReadFile(filepath.Join(g.dir, most)); err == nil { // memory.peak is new
		_, _ = fmt.Sscan(string(b), &peak)
	}
	return n, peak
}

// TestWritersInLittleMemory: many programs save at once, and neither they nor
// the daemon need more memory than the cgroup they are all in has.
func TestWritersInLittleMemory(t *testing.T) {
	const writers = 64
	mib := *writersMiB
	if mib == 0 {
		mib = 64
		if testing.Short() || raceDetector {
			mib = 4
		}
	}
	needFUSE(t)
	g := newCgroup(t, 1<<30)
	m := startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}, g.enter)
	source := filepath.Join(t.TempDir(), "weights")
	writeWeights(t, source, mib)
	name := func(i int) string { return m.path(fmt.Sprintf("rank-%d.bin", i)) }
	begin := time.Now()
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			cmd := exec.Command("dd", "if="+source, "of="+name(i), "bs=1M", "status=none")
			g.enter(cmd)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("writer %d: %v %s", i, err, out)
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	killed, peak := g.killed(t)
	t.Logf("%d writers of %d MiB each: %v, %d MiB/s; the cgroup had at most %d MiB, the daemon %d MiB",
		writers, mib, took, int64(float64(writers*mib)/took.Seconds()), peak>>20, m.rss(t)>>20)
	if killed > 0 {
		t.Errorf("%d processes were killed", killed)
	}
	if rss := m.rss(t); rss > 384<<20 && !raceDetector {
		t.Errorf("the daemon had %d MiB", rss>>20)
	}
	want := sumOf(t, source)
	for i := range writers {
		st, err := os.Stat(name(i))
		must(t, err)
		if st.Size() != mib<<20 {
			t.Errorf("%s has %d bytes", name(i), st.Size())
		}
		waitSealed(t, m, filepath.Base(name(i)))
		if i%8 == 0 && sumOf(t, name(i)) != want {
			t.Errorf("%s has other bytes", name(i))
		}
	}
}

// sumOf is a file's SHA-256, read in pieces.
func sumOf(t testing.TB, name string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	h := sha256.New()
	_, err = f.WriteTo(h)
	must(t, err)
	return [sha256.Size]byte(h.Sum(nil))
}
