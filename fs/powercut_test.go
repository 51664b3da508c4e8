package fs

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// To cut more often:
//
//	go test ./fs -run PowerCut -timeout 0 -cuts 100
var powerCuts = flag.Int("cuts", 6, "how often to cut the power")

// How ext4 is told to stop as if the power went: as it is, or after its journal
// has been written.
const (
	ext4Shutdown   = 0x8004587d // _IOR('X', 125, u32)
	shutdownLogged = 1
	shutdownAtOnce = 2
)

// TestPowerCut stops the filesystem below at random moments, while clients
// save, replace, edit, rename and sync. What was synced must be there, name
// included, and nothing may have bytes that it never had.
func TestPowerCut(t *testing.T) { cutPower(t, false) }

// TestPowerCutReordered is TestPowerCut where the kernel writes later pages of a
// file before earlier ones.
func TestPowerCutReordered(t *testing.T) { cutPower(t, true) }

func cutPower(t *testing.T, reorder bool) {
	t.Helper()
	disk := newDisk(t, 512)
	var crashed atomic.Bool
	o := daemonOrder{Dir: disk.backing(t), Point: t.TempDir()}
	clients := crashClients(t, o.Point, 3, true, &crashed)
	for seed := *crashSeed; seed < *crashSeed+uint64(*powerCuts); seed++ {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { cutOnce(t, disk, o, clients, seed, reorder, &crashed) }) {
			return
		}
	}
}

func cutOnce(t *testing.T, disk *testDisk, o daemonOrder, clients []*crashClient, seed uint64, reorder bool, crashed *atomic.Bool) {
	r := rand.New(rand.NewPCG(seed, 2))
	m := startMount(t, o, nil)
	for _, c := range clients {
		must(t, os.MkdirAll(c.path(""), 0o700))
	}
	d, err := os.Open(disk.dir)
	must(t, err)
	defer func() { _ = d.Close() }()
	must(t, unix.Syncfs(int(d.Fd())))
	crashed.Store(false)
	if seed%2 == 0 {
		defer compacting(o.Point, crashed)()
	}
	runClients(t, clients, seed, func() {
		until := time.Now().Add(time.Duration(min(r.ExpFloat64()*float64(200*time.Millisecond), float64(time.Second))))
		for wait := time.Duration(0); time.Now().Before(until); wait = time.Until(until) {
			time.Sleep(min(wait, time.Duration(r.IntN(60))*time.Millisecond))
			writeBack(o.Dir, r, reorder)
		}
		crashed.Store(true)
		flags := shutdownAtOnce
		if r.IntN(3) == 0 {
			flags = shutdownLogged
		}
		if err := unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, flags); err != nil {
			t.Errorf("ext4 can't be stopped: %v", err)
			_ = m.cmd.Process.Kill()
		}
	})
	_ = d.Close()
	afterCut(t, disk, o, m, clients)
}

// afterCut is the machine's next life: what the clients find must be what they
// may find, and what they can't read they remove.
func afterCut(t *testing.T, disk *testDisk, o daemonOrder, m *testMount, clients []*crashClient) {
	t.Helper()
	_ = m.cmd.Process.Kill()
	m.died(t)
	disk.detach(t)
	if out, err := disk.attach(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m = startMount(t, o, nil)
	for _, c := range clients {
		have := c.look(t, o.Dir)
		for _, x := range c.judge(have) {
			t.Errorf("%s/%s\nIts client did\n%s", c.dir, x, c.story())
		}
		for name, f := range have {
			if f.err != nil { // frames were lost that nobody promised
				must(t, os.Remove(c.path(name)))
				delete(have, name)
			}
		}
		c.rebase(have)
	}
	for _, x := range checkBacking(t, o.Dir, clients) {
		t.Error(x)
	}
	m.unmount(t)
}

// writeBack lets the kernel write some of what is in its cache: the beginnings
// of files, or any pieces of them.
func writeBack(dir string, r *rand.Rand, reorder bool) {
	_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || r.IntN(3) > 0 {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return nil
		}
		defer func() { _ = f.Close() }()
		st, err := f.Stat()
		if err == nil && st.Size() > 0 {
			off := int64(0)
			if reorder {
				off = r.Int64N(st.Size())
			}
			err = unix.SyncFileRange(int(f.Fd()), off, r.Int64N(st.Size()-off+1), unix.SYNC_FILE_RANGE_WRITE)
		}
		if err != nil && !errors.Is(err, unix.EIO) {
			return err
		}
		return nil
	})
}
