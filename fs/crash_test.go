package fs

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// To kill more often, or to see a failure again (as far as time allows: the
// operations are the same, the moment is not quite):
//
//	go test ./fs -run CrashOfTheDaemon -timeout 0 -kills 500
//	go test ./fs -run CrashOfTheDaemon -crashseed 42 -kills 1
var (
	crashKills = flag.Int("kills", 0, "how often to kill the daemon; 0: a few times")
	crashSeed  = flag.Uint64("crashseed", 1, "first seed of the tests that kill and cut power")
)

// TestCrashOfTheDaemon kills the daemon at random moments, while clients save,
// replace, edit, rename, link, truncate and unlink. After each, every file must
// be what may be left of it.
func TestCrashOfTheDaemon(t *testing.T) {
	needFUSE(t)
	kills := *crashKills
	if kills == 0 {
		kills = 25
		if testing.Short() || raceDetector {
			kills = 5
		}
	}
	var crashed atomic.Bool
	o := daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}
	clients := crashClients(t, o.Point, 3, false, &crashed)
	for seed := *crashSeed; seed < *crashSeed+uint64(kills); seed++ {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { killOnce(t, o, clients, seed, &crashed) }) {
			return
		}
	}
}

func killOnce(t *testing.T, o daemonOrder, clients []*crashClient, seed uint64, crashed *atomic.Bool) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := startMount(t, o, nil)
	for _, c := range clients {
		must(t, os.MkdirAll(c.path(""), 0o700))
	}
	crashed.Store(false)
	if seed%2 == 0 {
		defer compacting(o.Point, crashed)()
	}
	runClients(t, clients, seed, func() {
		time.Sleep(time.Duration(min(r.ExpFloat64()*float64(80*time.Millisecond), float64(600*time.Millisecond))))
		crashed.Store(true)
		_ = m.cmd.Process.Kill()
	})
	m.died(t)
	if r.IntN(8) == 0 { // and once more, while it recovers
		startAndKill(t, o, time.Duration(1+r.IntN(40))*time.Millisecond)
	}
	m = startMount(t, o, nil)
	for _, c := range clients {
		have := c.look(t, o.Dir)
		for _, x := range c.judge(have) {
			t.Errorf("%s/%s\nIts client did\n%s", c.dir, x, c.story())
		}
		c.rebase(have)
	}
	for _, x := range checkBacking(t, o.Dir, clients) {
		t.Error(x)
	}
	m.unmount(t)
}

// runClients lets the clients run until crash has returned and they have
// noticed. Before, nothing may fail.
func runClients(t testing.TB, clients []*crashClient, seed uint64, crash func()) {
	t.Helper()
	var all sync.WaitGroup
	for i, c := range clients {
		c.rand = rand.New(rand.NewPCG(seed, uint64(i)+100))
		all.Go(func() {
			if err := c.run(); !errors.Is(err, errCrash) {
				t.Errorf("seed %d: %v\nThe client did\n%s", seed, err, c.story())
			}
		})
	}
	crash()
	all.Wait()
}

// died waits for a daemon that was killed and takes its mount away.
func (m *testMount) died(t testing.TB) {
	t.Helper()
	e := <-m.exited
	m.exited <- e
	if err := unix.Unmount(m.point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
}

// startAndKill starts a daemon that is killed soon, whether it serves by then
// or not. One that dies while it looks at its own mount, as go-fuse does once,
// waits for itself until the connection is cut off.
func startAndKill(t testing.TB, o daemonOrder, after time.Duration) {
	t.Helper()
	done := make(chan bool)
	var cut sync.WaitGroup
	cut.Go(func() {
		for wait := after + 200*time.Millisecond; ; wait = 100 * time.Millisecond {
			select {
			case <-done:
				return
			case <-time.After(wait):
				_ = unix.Unmount(o.Point, unix.MNT_FORCE|unix.MNT_DETACH)
			}
		}
	})
	m, _ := launch(t, o, func(cmd *exec.Cmd) {
		cmd.Args = []string{"timeout", "-s", "KILL", fmt.Sprint(after.Seconds()), cmd.Path}
		cmd.Path = "/usr/bin/timeout"
	})
	m.died(t)
	close(done)
	cut.Wait()
}
