package fs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// To cut before every single call, in every way:
//
//	go test ./fs -run PowerCutAtEachStep -timeout 0 -allsteps
var allSteps = flag.Bool("allsteps", false, "cut the power before every single call of the tests that cut at each step")

// scenario is one thing that a client does, whose steps the power is cut
// between.
type scenario struct {
	name    string
	prepare func(c *crashClient) error // what is there, durably, before
	run     func(c *crashClient) error
	done    string // what the daemon logs when it is through with what it goes on with afterwards
}

// Lengths of what the scenarios save: some frames and a part of one.
const (
	oldLength = 700_001
	newLength = 900_003
)

var scenarios = []scenario{
	{name: "seal", run: func(c *crashClient) error { return c.saveIn("f", os.O_CREATE|os.O_EXCL, 1, 0) }},
	{name: "seal and fsync", run: func(c *crashClient) error { return c.saveIn("f", os.O_CREATE|os.O_EXCL, 1, 2) }},
	{name: "replace", prepare: saveOld, run: func(c *crashClient) error { return c.saveIn("f", os.O_TRUNC, 1, 0) }},
	{name: "replace and fsync", prepare: saveOld, run: func(c *crashClient) error { return c.saveIn("f", os.O_TRUNC, 1, 2) }},
	{name: "append and fsync", prepare: saveOld, run: func(c *crashClient) error {
		w, err := c.open("f", 0)
		if err != nil {
			return err
		}
		w.at = w.image.size
		for i := range 2 {
			err = errors.Join(err, w.write(c.part(3+i, 70_001)))
			err = errors.Join(err, w.sync(i == 0))
		}
		return w.end(err)
	}},
	{name: "edit and fsync", prepare: saveOld, run: func(c *crashClient) error {
		w, err := c.open("f", 0)
		if err != nil {
			return err
		}
		err = w.writeAt(c.part(3, 300_000), 100_000)
		err = errors.Join(err, w.sync(false))
		err = errors.Join(err, w.writeAt(c.part(4, 300_000), 300_000))
		err = errors.Join(err, w.truncate(oldLength/2))
		return w.end(err)
	}},
	{name: "rename over", prepare: saveOld, run: renameOver},
	{name: "rename over and fsync", prepare: saveOld, run: func(c *crashClient) error {
		return errors.Join(renameOver(c), c.syncDir(".tmpf", "f"))
	}},
	{name: "rename over and write on", prepare: saveOld, run: func(c *crashClient) error {
		w, err := c.open(".tmpf", os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		err = w.write(c.part(1, newLength))
		if err == nil {
			err = c.rename(".tmpf", "f")
			w.name = "f"
		}
		return w.end(errors.Join(err, w.write(c.part(2, oldLength))))
	}},
	{name: "repack", prepare: saveOld, done: "stored anew", run: func(c *crashClient) error {
		w, err := c.open("f", 0)
		if err != nil {
			return err
		}
		for i := range 4 { // three of them are dead bytes afterwards
			err = errors.Join(err, w.writeAt(c.part(3+i, oldLength), 0))
		}
		return w.end(err)
	}},
	{name: "code against others", prepare: saveSeries, run: (*crashClient).compact},
	{name: "edit a base", prepare: codeSeries, run: func(c *crashClient) error {
		w, err := c.open("g2", 0)
		if err != nil {
			return err
		}
		return w.end(w.writeAt(c.part(3, 100_000), 300_000))
	}},
	{name: "remove a base", prepare: codeSeries, run: func(c *crashClient) error {
		err := c.unlink("g2")
		if err == nil {
			err = c.compact()
		}
		if err == nil {
			err = c.unlink("g1")
		}
		return err
	}},
}

// saveSeries saves three checkpoints of one run, and what all scenarios have, and
// waits until they are sealed.
func saveSeries(c *crashClient) error {
	err := saveOld(c)
	for i := range 3 {
		name := fmt.Sprintf("g%d", i)
		if err == nil {
			var w *writing
			if w, err = c.open(name, os.O_CREATE|os.O_EXCL); err == nil {
				err = w.end(w.write(c.series[i]))
			}
		}
		for err == nil {
			r, e := InspectRemote(c.path(name))
			if e == nil && r.Summary().State == store.StateSealed {
				err = r.Close()
				break
			}
			err = errors.Join(e, r.Close())
			time.Sleep(time.Millisecond)
		}
	}
	return err
}

// codeSeries is saveSeries, and lets the daemon code them against each other.
func codeSeries(c *crashClient) error {
	return errors.Join(saveSeries(c), c.compact())
}

func (c *crashClient) compact() error {
	return c.try("compact", CompactRemote(context.Background(), c.path(""), false, func(store.SeriesReport) {}))
}

// part is n bytes of the weights, others for each i.
func (c *crashClient) part(i, n int) []byte { return c.weights[i<<20 : i<<20+n] }

// saveIn writes a file in three pieces, and makes the first sync of them
// durable one by one.
func (c *crashClient) saveIn(name string, flags, part, sync int) error {
	w, err := c.open(name, flags)
	if err != nil {
		return err
	}
	for i, p := range slices.Collect(slices.Chunk(c.part(part, newLength), newLength/3)) {
		err = errors.Join(err, w.write(p))
		if i < sync {
			err = errors.Join(err, w.sync(i == 0))
		}
	}
	return w.end(err)
}

func saveOld(c *crashClient) error {
	w, err := c.open("f", os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	return w.end(w.write(c.part(0, oldLength)))
}

// renameOver saves beside the old file, and renames while the new one is open.
func renameOver(c *crashClient) error {
	w, err := c.open(".tmpf", os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	err = errors.Join(w.truncate(newLength), w.write(c.part(1, newLength)))
	if err == nil {
		err = c.rename(".tmpf", "f")
		w.name = "f"
	}
	return w.end(err)
}

// cuts are ways in which the power may go: how much of what the daemon did
// reaches the disk before.
var cuts = []struct {
	name string
	last func(disk *testDisk, backing string, r *rand.Rand) error // what the kernel writes before
	how  int
}{
	{"nothing more", func(*testDisk, string, *rand.Rand) error { return nil }, shutdownAtOnce},
	{"the journal", func(*testDisk, string, *rand.Rand) error { return nil }, shutdownLogged},
	{"some data", func(_ *testDisk, backing string, r *rand.Rand) error {
		writeBack(backing, r, true)
		return nil
	}, shutdownLogged},
	{"the ends", func(_ *testDisk, backing string, _ *rand.Rand) error { return writeEnds(backing) }, shutdownLogged},
	{"everything", func(disk *testDisk, _ string, _ *rand.Rand) error { return disk.sync() }, shutdownAtOnce},
}

// writeEnds lets the kernel write the last pages of every file before all others.
func writeEnds(dir string) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		from := max(0, st.Size()-8<<10)
		return unix.SyncFileRange(int(f.Fd()), from, st.Size()-from, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	})
}

// sync writes what the kernel keeps of the disk to it.
func (d *testDisk) sync() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// stepTest cuts the power before one call after the other.
type stepTest struct {
	disk    *testDisk
	order   daemonOrder
	client  *crashClient
	crashed atomic.Bool
	free    int64 // what the disk had while nothing was in it
}

// TestPowerCutAtEachStep cuts the power before each call by which the daemon
// changes the backing filesystem while a file is sealed, replaced, appended to,
// edited, renamed over another, or stored anew, and after the last one. Before
// one call is after the one before it, with all that clients were told by then.
func TestPowerCutAtEachStep(t *testing.T) {
	x := &stepTest{disk: newDisk(t, 128)}
	x.order = daemonOrder{Dir: x.disk.backing(t), Point: t.TempDir()}
	x.client = crashClients(t, x.order.Point, 1, true, &x.crashed)[0]
	sampled := 8
	if testing.Short() || raceDetector {
		sampled = 2
	}
	r := rand.New(rand.NewPCG(*crashSeed, 3))
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			calls := x.cut(t, s, 0, 0, r)
			t.Logf("%d calls: %v", len(calls), calls)
			if *allSteps {
				for how := range cuts {
					for n := 1; n <= len(calls); n++ {
						x.run(t, s, n, how, r)
					}
				}
				return
			}
			for range sampled {
				x.run(t, s, 1+r.IntN(len(calls)), r.IntN(len(cuts)), r)
			}
		})
	}
}

func (x *stepTest) run(t *testing.T, s scenario, n, how int, r *rand.Rand) {
	if t.Failed() {
		return // one is enough to look at
	}
	t.Run(fmt.Sprintf("before call %[2]d, %[1]s reaching the disk", cuts[how].name, n), func(t *testing.T) { x.cut(t, s, n, how, r) })
}

// cut plays a scenario until its n-th call, cuts, and compares. It returns the
// calls. With n 0, or with fewer calls, it cuts after the last.
func (x *stepTest) cut(t *testing.T, s scenario, n, how int, r *rand.Rand) []string {
	m, w := startWatched(t, x.order)
	c := x.client
	x.crashed.Store(false)
	x.prepare(t, s)
	d, err := os.Open(x.disk.dir)
	must(t, err)
	defer func() { _ = d.Close() }()
	cut := func() {
		x.crashed.Store(true)
		if err := cuts[how].last(x.disk, x.order.Dir, r); err != nil {
			t.Error(err)
		}
		if err := unix.IoctlSetPointerInt(int(d.Fd()), ext4Shutdown, cuts[how].how); err != nil {
			t.Errorf("ext4 can't be stopped: %v", err)
		}
	}
	var calls []string // touched by one call at a time
	w.watch(func(i int, call string) {
		calls = append(calls, call)
		if i == n {
			cut()
		}
	})
	err = s.run(c)
	if err == nil {
		err = x.settle(t, m, s)
	}
	if err != nil && (!x.crashed.Load() || !errors.Is(err, errCrash)) {
		t.Errorf("%v\n%s", err, m.log)
	}
	w.watch(nil)
	if !x.crashed.Load() {
		cut()
	}
	must(t, d.Close())
	afterCut(t, x.disk, x.order, m, []*crashClient{c})
	if t.Failed() {
		t.Logf("the calls until the cut: %v", calls)
	}
	return calls
}

// prepare makes what the scenario begins with, durably. What earlier ones left
// must be files of the client and nothing else.
func (x *stepTest) prepare(t *testing.T, s scenario) {
	c := x.client
	must(t, os.RemoveAll(filepath.Join(x.order.Point, filepath.Dir(c.dir))))
	eventually(t, func() bool { // pins go in the background
		pins, err := os.ReadDir(filepath.Join(x.order.Dir, ".mithrilfs/bases"))
		return errors.Is(err, os.ErrNotExist) || err == nil && len(pins) == 0
	})
	for _, name := range strangers(t, x.order.Dir) {
		t.Errorf("left in the backing directory: %s", name)
	}
	must(t, x.disk.sync())
	free := x.disk.free(t)
	if x.free == 0 {
		x.free = free
	}
	if free < x.free-64<<10 {
		t.Errorf("%d bytes are free, %d were", free, x.free)
	}
	must(t, os.MkdirAll(c.path(""), 0o700))
	c.rebase(nil)
	if s.prepare != nil {
		must(t, s.prepare(c))
		eventually(t, func() bool { // RELEASE comes after close(2)
			i, err := store.Inspect(filepath.Join(x.order.Dir, c.dir, "f"))
			must(t, err)
			defer func() { must(t, i.Close()) }()
			return i.Summary().State == store.StateSealed
		})
	}
	must(t, x.disk.sync())
	c.rebase(c.look(t, x.order.Dir))
}

// strangers are files and directories other than the store's own.
func strangers(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(name, dir)
		if rel != "" && rel != "/.mithrilfs" && rel != "/.mithrilfs/pending" && rel != "/.mithrilfs/bases" {
			found = append(found, rel)
		}
		return err
	}))
	return found
}

// settle waits for what the daemon does after the last close, and for its end.
func (x *stepTest) settle(t *testing.T, m *testMount, s scenario) error {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if x.crashed.Load() {
			return errCrash
		}
		if !strings.Contains(m.log.String(), s.done) {
			continue
		}
		select {
		case e := <-m.exited:
			m.exited <- e
			return e.err
		default:
			_ = unix.Unmount(m.point, 0) // busy, perhaps, until RELEASE
		}
	}
	return errors.New("the daemon does not end")
}
