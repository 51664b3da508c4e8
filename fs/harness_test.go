package fs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// A mount must never be touched by the process that serves it. So the test
// binary runs itself as the daemon: TestMain sees daemonVariable and serves,
// and the tests are its clients.
const daemonVariable = "MITHRILFS_TEST_DAEMON"

// daemonOrder is what the test asks of its daemon.
type daemonOrder struct {
	Dir, Point string
	AllowOther bool
	ReadOnly   bool
	Watched    bool // calls that change files wait for the test: see watcher
	Series     bool // checkpoints are coded against each other, almost at once
}

func TestMain(m *testing.M) {
	if order := os.Getenv(daemonVariable); order != "" {
		os.Exit(daemon(order))
	}
	os.Exit(m.Run())
}

const readyLine = "ready"

// daemon serves until it is unmounted or gets SIGTERM. Its first line on
// standard output is readyLine, or why it can't.
func daemon(order string) int {
	var o daemonOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	if o.Watched {
		if err := giveWatch(watchFD); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	debug.SetMemoryLimit(192 << 20)
	level := slog.LevelInfo
	if os.Getenv("MITHRILFS_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	options := Options{AllowOther: o.AllowOther, ReadOnly: o.ReadOnly, Logger: log, Debug: level == slog.LevelDebug}
	// MITHRILFS_TEST_SERIES=1 runs any test beside the coding of checkpoints.
	series := o.Series || os.Getenv("MITHRILFS_TEST_SERIES") != ""
	options.Store.Series = store.SeriesOptions{Enabled: series, Quiet: 10 * time.Millisecond}
	s, err := Mount(o.Dir, o.Point, options)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(readyLine)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	shut := make(chan error, 1)
	go func() {
		<-term
		shut <- s.Shutdown(500 * time.Millisecond)
	}()
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	select {
	case err = <-done:
	case err = <-shut:
		if errors.Is(err, ErrDetached) {
			return 0
		}
		err = errors.Join(err, <-done)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// testMount is a mount with its daemon.
type testMount struct {
	backing, point string
	cmd            *exec.Cmd
	log            *lockedBuffer
	exited         chan exit
}

// exit is how a daemon ended.
type exit struct{ err error }

// lockedBuffer collects a daemon's log while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// needFUSE skips where there is no FUSE, and fails where there must be.
func needFUSE(t testing.TB) {
	t.Helper()
	err := checkMachine()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("MITHRILFS_REQUIRE"), ","), "fuse") {
		t.Fatalf("FUSE is required here: %v", err)
	}
	t.Skipf("SKIPPED, no FUSE: %v", err)
}

// mountOver mounts over a fresh directory.
func mountOver(t testing.TB) *testMount {
	t.Helper()
	return startMount(t, daemonOrder{Dir: t.TempDir()}, nil)
}

// startMount starts a daemon and waits until it serves. It is unmounted when
// the test ends, whatever happened.
func startMount(t testing.TB, o daemonOrder, prepare func(*exec.Cmd)) *testMount {
	t.Helper()
	needFUSE(t)
	m, line := launch(t, o, prepare)
	if line != readyLine {
		t.Fatalf("the daemon says %q\n%s", line, m.log)
	}
	t.Cleanup(func() { m.stop(t) })
	return m
}

// launch starts a daemon and returns its first line.
func launch(t testing.TB, o daemonOrder, prepare func(*exec.Cmd)) (*testMount, string) {
	t.Helper()
	if o.Point == "" {
		o.Point = o.Dir
	}
	order, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	m := &testMount{backing: o.Dir, point: o.Point, log: &lockedBuffer{}, exited: make(chan exit, 1)}
	m.cmd = exec.Command(os.Args[0])
	// The race detector would let every daemon sleep for a second at its end.
	m.cmd.Env = append(os.Environ(), daemonVariable+"="+string(order), "GORACE=atexit_sleep_ms=0")
	m.cmd.Stderr = m.log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(m.cmd)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, _ := r.ReadString('\n')
	go func() {
		_, _ = io.Copy(io.Discard, r)
		m.exited <- exit{m.cmd.Wait()}
	}()
	return m, strings.TrimSuffix(line, "\n")
}

// unmount takes the mount away and waits for the daemon, which must be content.
func (m *testMount) unmount(t testing.TB) {
	t.Helper()
	must(t, unmountSoon(m.point))
	m.wait(t)
}

// unmountSoon is Unmount, where something that goes through all mounts, as
// sync(2) does, may hold this one for a moment.
func unmountSoon(point string) (err error) {
	for range 100 {
		if err = Unmount(point); !errors.Is(err, ErrBusy) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (m *testMount) wait(t testing.TB) {
	t.Helper()
	select {
	case e := <-m.exited:
		m.exited <- e // for stop
		if e.err != nil {
			t.Fatalf("the daemon ended with %v\n%s", e.err, m.log)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the daemon does not end\n%s", m.log)
	}
}

// stop ends the mount however it can.
func (m *testMount) stop(t testing.TB) {
	_ = unix.Unmount(m.point, unix.MNT_DETACH)
	select {
	case <-m.exited:
	case <-time.After(5 * time.Second):
		_ = m.cmd.Process.Kill()
		<-m.exited
	}
	if log := m.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		t.Errorf("the daemon's log:\n%s", log)
	}
	if t.Failed() && testing.Verbose() {
		t.Logf("the daemon's log:\n%s", m.log)
	}
}

// remount unmounts and mounts the same directories again.
func (m *testMount) remount(t testing.TB) *testMount {
	t.Helper()
	m.unmount(t)
	return startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
}

// says fails unless the daemon's log has the text, which may be on its way.
func (m *testMount) says(t testing.TB, text string) {
	t.Helper()
	for range 500 {
		if strings.Contains(m.log.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the log does not say %q:\n%s", text, m.log)
}

// path is a name in the mount.
func (m *testMount) path(name ...string) string {
	return filepath.Join(append([]string{m.point}, name...)...)
}

// rss is the most memory that the daemon ever had.
func (m *testMount) rss(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
