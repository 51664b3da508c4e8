package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// crashClient is a program that saves and edits files in a directory of its
// own until the crash that the test has prepared.
type crashClient struct {
	world
	rand    *rand.Rand
	root    string       // the mount
	dir     string       // its own directory, in root
	weights []byte       // what it saves
	series  [][]byte     // what it saves too: checkpoints of one run
	saves   int          // of series, so far
	text    []byte       // what it saves too
	crashed *atomic.Bool // from now on, errors are to be expected
}

// errCrash is any error after the crash began.
var errCrash = errors.New("the crash")

// try makes one call. Before the crash it must not fail.
func (c *crashClient) try(what string, err error) error {
	if err == nil {
		c.told = append(c.told, what)
		return nil
	}
	c.told = append(c.told, fmt.Sprintf("%s: %v", what, err))
	if c.crashed.Load() {
		return errCrash
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *crashClient) path(name string) string { return filepath.Join(c.root, c.dir, name) }

// writing is a file that the client has open.
type writing struct {
	c     *crashClient
	f     *os.File
	name  string
	image *image
	at    int64
}

// open opens a file that is there or, with O_CREAT, makes it; with O_TRUNC it
// begins a new one.
func (c *crashClient) open(name string, flags int) (*writing, error) {
	m := c.now(name)
	begins := m == nil || flags&os.O_TRUNC != 0
	if begins {
		m = c.begin(name, m)
	}
	f, err := os.OpenFile(c.path(name), flags|os.O_RDWR, 0o640)
	if err := c.try(fmt.Sprintf("open %s %#x", name, flags), err); err != nil {
		return nil, err
	}
	if begins && !m.replaces {
		c.begun(m)
	}
	return &writing{c: c, f: f, name: name, image: m}, nil
}

// begin puts an empty file in the place of old. A file with one name stays
// until the new one is whole.
func (c *crashClient) begin(name string, old *image) *image {
	m := &image{links: 1}
	if old == nil {
		c.may(name, m, 0)
		return m
	}
	old.gone = true
	m.links = old.links
	switch {
	case old.links != 1: // emptied in place
	case old.size > 0 || old.replaces:
		m.seen, m.replaces = -1, true
	case old.found:
		m.replaces = true // its file may have a header, or not
	}
	for n := range c.names {
		if c.now(n) == old {
			c.may(n, m, 0)
		}
	}
	return m
}

// begun says that an image that replaces nothing is there.
func (c *crashClient) begun(m *image) {
	for n := range c.names {
		if c.now(n) == m {
			c.did(n)
		}
	}
}

// published says that the image, with all its changes, may have its name now.
func (m *image) published() {
	if m.seen < 0 {
		m.seen = len(m.log)
		m.sized = len(m.log)
	}
}

func (w *writing) writeAt(p []byte, off int64) error {
	w.image.add(change{data: p, off: off})
	_, err := w.f.WriteAt(p, off)
	return w.c.try(fmt.Sprintf("write %s %d+%d", w.name, off, len(p)), err)
}

// write goes on where the last one ended.
func (w *writing) write(p []byte) error {
	err := w.writeAt(p, w.at)
	w.at += int64(len(p))
	return err
}

func (w *writing) truncate(size int64) error {
	w.image.add(change{size: size})
	return w.c.try(fmt.Sprintf("ftruncate %s %d", w.name, size), w.f.Truncate(size))
}

func (w *writing) sync(data bool) error {
	w.image.published()
	err := w.f.Sync
	what := "fsync"
	if data {
		what = "fdatasync"
		err = func() error { return unix.Fdatasync(int(w.f.Fd())) }
	}
	if err := w.c.try(what+" "+w.name, err()); err != nil {
		return err
	}
	if w.c.crashed.Load() {
		return errCrash // ext4, when it is being stopped, may lie
	}
	w.image.synced, w.image.closed, w.image.sized = len(w.image.log), len(w.image.log), len(w.image.log)
	w.c.is(w.name)
	w.c.fold(w.image)
	return nil
}

func (w *writing) close() error {
	w.image.published()
	if err := w.c.try("close "+w.name, w.f.Close()); err != nil {
		return err
	}
	// A declared tail is promised once the last RELEASE has sealed the file, of
	// which nobody is told.
	w.image.closed = len(w.image.log)
	if !w.c.power {
		w.c.fold(w.image)
	}
	return nil
}

// end closes a file whatever happened to it.
func (w *writing) end(err error) error {
	if err != nil {
		_ = w.f.Close()
		return err
	}
	return w.close()
}

func (c *crashClient) rename(from, to string) error {
	m, old := c.now(from), c.now(to)
	m.published()
	whole := 0
	if !c.power || old != nil && old.size > 0 {
		whole = len(m.log)
	}
	if old != nil {
		old.links--
		old.gone = old.gone || old.links == 0
	}
	c.may(from, nil, 0)
	c.may(to, m, whole)
	if err := c.try("rename "+from+" "+to, os.Rename(c.path(from), c.path(to))); err != nil {
		return err
	}
	m.closed, m.sized = len(m.log), len(m.log)
	c.did(from)
	c.did(to)
	return nil
}

func (c *crashClient) link(from, to string) error {
	m := c.now(from)
	m.published()
	c.may(to, m, 0)
	if err := c.try("link "+from+" "+to, os.Link(c.path(from), c.path(to))); err != nil {
		return err
	}
	m.links++
	m.closed, m.sized = len(m.log), len(m.log)
	c.did(from)
	c.did(to)
	return nil
}

func (c *crashClient) unlink(name string) error {
	m := c.now(name)
	m.links--
	m.gone = m.gone || m.links == 0
	c.may(name, nil, 0)
	if err := c.try("unlink "+name, os.Remove(c.path(name))); err != nil {
		return err
	}
	c.did(name)
	return nil
}

// truncatePath is truncate(2): it opens and closes the file itself.
func (c *crashClient) truncatePath(name string, size int64) error {
	m := c.now(name)
	if size == 0 {
		m = c.begin(name, m)
		m.published()
	} else {
		m.add(change{size: size})
	}
	if err := c.try(fmt.Sprintf("truncate %s %d", name, size), os.Truncate(c.path(name), size)); err != nil {
		return err
	}
	m.closed = len(m.log)
	m.sized = len(m.log)
	if size == 0 && !m.replaces {
		c.begun(m)
	}
	return nil
}

// syncDir makes what was done to the names durable.
func (c *crashClient) syncDir(names ...string) error {
	d, err := os.Open(filepath.Join(c.root, c.dir))
	if err := c.try("open .", err); err != nil {
		return err
	}
	err = c.try("fsync .", d.Sync())
	_ = d.Close()
	if err != nil {
		return err
	}
	if c.crashed.Load() {
		return errCrash
	}
	for _, n := range names {
		c.is(n)
	}
	return nil
}

// bytes are n of what it saves, others each time.
func (c *crashClient) bytes(n int) []byte {
	from := c.weights
	if c.rand.IntN(8) == 0 {
		from = c.text
	}
	n = min(n, len(from)/2)
	at := c.rand.IntN(len(from)-n) &^ 1
	return from[at : at+n]
}

func (c *crashClient) length() int {
	switch c.rand.IntN(5) {
	case 0:
		return 1 + c.rand.IntN(5000)
	case 1:
		return 1 + c.rand.IntN(100_000)
	}
	return 1 + c.rand.IntN(3<<20)
}

var crashNames = []string{"a", "b", "c", "d", "e"}

func (c *crashClient) name() string { return crashNames[c.rand.IntN(len(crashNames))] }

// existing is a name that leads to something, or "".
func (c *crashClient) existing() string {
	var names []string
	for _, n := range crashNames {
		if c.now(n) != nil {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[c.rand.IntN(len(names))]
}

// run goes on until the crash.
func (c *crashClient) run() error {
	for {
		if err := c.step(); err != nil {
			return err
		}
	}
}

func (c *crashClient) step() error {
	name := c.name()
	old := c.existing()
	switch c.rand.IntN(14) {
	case 0, 1:
		return c.saveSafetensors(name, c.bytes(c.length()))
	case 12, 13:
		c.saves++
		return c.saveSafetensors(name, c.series[c.saves%len(c.series)])
	case 2, 3:
		return c.saveSequence(name)
	case 4:
		return c.saveTorch(name)
	}
	if old == "" {
		return c.saveSequence(name)
	}
	switch c.rand.IntN(8) {
	case 0:
		if old != name && c.now(old) != c.now(name) {
			err := c.rename(old, name)
			if err == nil && c.rand.IntN(2) == 0 {
				err = c.syncDir(old, name)
			}
			return err
		}
	case 1:
		if c.now(name) == nil {
			return c.link(old, name)
		}
	case 2:
		err := c.unlink(old)
		if err == nil && c.rand.IntN(2) == 0 {
			err = c.syncDir(old)
		}
		return err
	case 3:
		return c.truncatePath(old, c.rand.Int64N(c.now(old).size*3/2+2))
	case 4:
		return c.append(old)
	default:
		return c.edit(old)
	}
	return nil
}

// saveSafetensors makes the calls of saveLikeSafetensors.
func (c *crashClient) saveSafetensors(name string, data []byte) error {
	temporary := ".tmp" + name
	if c.now(temporary) != nil { // of an earlier life
		if err := c.unlink(temporary); err != nil {
			return err
		}
	}
	w, err := c.open(temporary, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	err = w.truncate(int64(len(data)))
	for _, n := range []int{8112, 80, 1 << 18, 300, 1 << 20, 1 << 30} {
		if n = min(n, len(data)); err == nil && n > 0 {
			err = w.write(data[:n])
			data = data[n:]
		}
	}
	if err == nil {
		err = c.rename(temporary, name)
		w.name = name
	}
	switch c.rand.IntN(4) {
	case 0:
		if err == nil {
			err = c.syncDir(temporary, name)
		}
	case 1:
		if err == nil {
			err = w.sync(false)
		}
	}
	return w.end(err)
}

// saveSequence writes from beginning to end, over an old file perhaps.
func (c *crashClient) saveSequence(name string) error {
	data := c.bytes(c.length())
	w, err := c.open(name, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	piece := 1 + c.rand.IntN(600_000)
	for len(data) > 0 && err == nil {
		n := min(piece, len(data))
		err = w.write(data[:n])
		data = data[n:]
		if err == nil && c.rand.IntN(12) == 0 {
			err = w.sync(c.rand.IntN(2) == 0)
		}
	}
	if err == nil && c.rand.IntN(3) == 0 {
		err = w.sync(c.rand.IntN(2) == 0)
	}
	return w.end(err)
}

// saveTorch writes records with small headers, and goes back to fill some in.
func (c *crashClient) saveTorch(name string) error {
	w, err := c.open(name, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	for range 1 + c.rand.IntN(6) {
		begin := w.at
		if err == nil {
			err = w.write(c.text[:100])
		}
		if err == nil {
			err = w.write(c.bytes(c.length() / 3))
		}
		if err == nil && c.rand.IntN(3) == 0 {
			err = w.writeAt(c.text[1000:1016], begin+20)
		}
	}
	if err == nil {
		err = w.write(c.text[2000:2400])
	}
	return w.end(err)
}

func (c *crashClient) append(name string) error {
	w, err := c.open(name, 0)
	if err != nil {
		return err
	}
	w.at = w.image.size
	for range 1 + c.rand.IntN(4) {
		if err == nil {
			err = w.write(c.bytes(c.length() / 4))
		}
		if err == nil && c.rand.IntN(4) == 0 {
			err = w.sync(c.rand.IntN(2) == 0)
		}
	}
	return w.end(err)
}

func (c *crashClient) edit(name string) error {
	w, err := c.open(name, 0)
	if err != nil {
		return err
	}
	for range 1 + c.rand.IntN(6) {
		if err != nil {
			break
		}
		switch c.rand.IntN(8) {
		case 0:
			err = w.truncate(c.rand.Int64N(w.image.size*3/2 + 2))
		case 1:
			err = w.sync(c.rand.IntN(2) == 0)
		default:
			err = w.writeAt(c.bytes(1+c.rand.IntN(300_000)), c.rand.Int64N(w.image.size*9/8+1))
		}
	}
	return w.end(err)
}

// look reads everything that a client may see of the client's directory, and
// where the backing file is plain.
func (c *crashClient) look(t testing.TB, backing string) map[string]found {
	t.Helper()
	dir := filepath.Join(c.root, c.dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && c.power {
		return nil
	}
	must(t, err)
	have := make(map[string]found)
	for _, e := range entries {
		var f found
		f.data, f.err = readThrough(filepath.Join(dir, e.Name()))
		f.inode = inode(t, filepath.Join(dir, e.Name()))
		if x, err := store.Inspect(filepath.Join(backing, c.dir, e.Name())); err == nil {
			s := x.Summary()
			f.plain = s.State == store.StatePlain
			f.kept = fmt.Sprintf("%s, %d bytes, %d frames, %s", s.State, s.Stored, s.Frames, s.Problem)
			_ = x.Close()
		}
		have[e.Name()] = f
	}
	return have
}

func readThrough(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

// story is what the client did last, for people.
func (c *crashClient) story() string {
	return "    " + strings.Join(c.told[max(0, len(c.told)-40):], "\n    ")
}

// crashClients are n clients of the mount at root, each with its own directory.
func crashClients(t testing.TB, root string, n int, power bool, crashed *atomic.Bool) []*crashClient {
	weights := realWeights(t)
	text := []byte(strings.Repeat(`{"step": 12, "loss": 2.31, "epoch": 1}`+"\n", 20_000))
	clients := make([]*crashClient, n)
	series := seriesOf(weights, 6)
	for i := range clients {
		clients[i] = &crashClient{root: root, dir: fmt.Sprintf("run-%d/checkpoints", i), weights: weights, series: series, text: text, crashed: crashed}
		clients[i].power = power
		clients[i].names = make(map[string][]candidate)
	}
	return clients
}

// checkBacking finds what should not be in the backing directory: leftovers,
// and files that have grown far beyond what they hold.
func checkBacking(t testing.TB, backing string, clients []*crashClient) []string {
	t.Helper()
	wrong := leftovers(t, backing)
	for _, c := range clients {
		for name, list := range c.names {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(backing, c.dir, name), &st); err != nil {
				continue
			}
			if limit := 3*list[0].size + 24<<20; st.Size > limit {
				wrong = append(wrong, fmt.Sprintf("%s/%s: %d bytes are kept in %d", c.dir, name, list[0].size, st.Size))
			}
		}
	}
	pending, err := os.ReadDir(filepath.Join(backing, ".mithrilfs/pending"))
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		t.Fatal(err)
	}
	if len(pending) > 0 {
		wrong = append(wrong, fmt.Sprintf("notes: %v", pending))
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

// compacting lets the daemon code checkpoints against each other, again and again,
// until the crash. What it returns waits for the end of that.
func compacting(point string, crashed *atomic.Bool) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() {
		for !crashed.Load() {
			_ = CompactRemote(context.Background(), point, false, func(store.SeriesReport) {}) // the crash ends it
		}
	})
	return all.Wait
}
