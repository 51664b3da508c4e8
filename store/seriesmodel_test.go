package store

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// More, or others:
//
//	go test ./store -run SeriesModel -timeout 0 -seriesops 2000 -seriesseed 7
var (
	seriesOps  = flag.Int("seriesops", 120, "operations of TestSeriesModel")
	seriesSeed = flag.Uint64("seriesseed", 1, "what TestSeriesModel draws from")
)

// modelFile is what a file must hold. Hard links share one.
type modelFile struct{ data []byte }

// seriesModel does things to a store with series in it, and knows what each file
// must hold afterwards.
type seriesModel struct {
	t     *testing.T
	r     *rand.Rand
	s     *Store
	x     *crashing
	files map[string]*modelFile
	saved [2]int // checkpoints of each run so far
	held  []heldFile
	done  map[string]int // operations by name
}

// heldFile is one that a client has open for reading.
type heldFile struct {
	file *File
	want *modelFile
}

// maxModelFiles keeps what a test compares small.
const maxModelFiles = 14

func (m *seriesModel) open() {
	m.t.Helper()
	m.x = &crashing{}
	s, err := Open(m.s.Path(), Options{sys: m.x, still: true})
	must(m.t, err)
	m.s = s
}

// close ends the store, and what clients have open before.
func (m *seriesModel) close() {
	m.t.Helper()
	for _, h := range m.held {
		must(m.t, h.file.Release(false))
	}
	m.held = nil
	must(m.t, m.s.Close())
}

// pick is one of the files, "" if there is none.
func (m *seriesModel) pick() string {
	names := slices.Sorted(maps.Keys(m.files))
	if len(names) == 0 {
		return ""
	}
	return names[m.r.IntN(len(names))]
}

// fresh is a name that is not taken.
func (m *seriesModel) fresh() string {
	for {
		name := fmt.Sprintf("%s/f%d", []string{"run0", "run1", "else"}[m.r.IntN(3)], m.r.IntN(1000))
		if m.files[name] == nil {
			must(m.t, os.MkdirAll(filepath.Join(m.s.Path(), path.Dir(name)), 0o700))
			return name
		}
	}
}

// next is the next checkpoint of a run.
func (m *seriesModel) next(run int) []byte {
	n := m.saved[run]
	m.saved[run]++
	const fresh = 60 // then the run begins again
	return savesOf(m.t, uint64(run+1), n%fresh+1)[n%fresh]
}

// write opens a file as a client does, writes data at off and closes.
func (m *seriesModel) write(name string, mode Mode, data []byte, off int) {
	m.t.Helper()
	f, err := m.s.Open(context.Background(), name, mode)
	must(m.t, err)
	_, err = f.WriteAt(data, int64(off))
	must(m.t, err)
	if m.r.IntN(2) == 0 {
		must(m.t, f.Sync(true))
	}
	must(m.t, f.Release(true))
}

func (m *seriesModel) save() {
	run := m.r.IntN(2)
	data := m.next(run)
	name := fmt.Sprintf("run%d/checkpoint-%d.safetensors", run, m.saved[run])
	if _, taken := m.files[name]; taken {
		return
	}
	storeFile(m.t, m.s, name, data)
	m.files[name] = &modelFile{data}
}

func (m *seriesModel) saveOver() {
	name := m.pick()
	data := m.next(m.r.IntN(2))
	if m.r.IntN(2) == 0 {
		m.write(name, Truncate, data, 0)
		m.files[name].data = data
		return
	}
	temp := m.fresh()
	storeFile(m.t, m.s, temp, data)
	must(m.t, m.s.Rename(temp, name, 0))
	m.files[name] = &modelFile{data}
}

func (m *seriesModel) remove() {
	name := m.pick()
	must(m.t, m.s.Unlink(name))
	delete(m.files, name)
}

func (m *seriesModel) rename() {
	from, to := m.pick(), m.fresh()
	must(m.t, m.s.Rename(from, to, 0))
	m.files[to] = m.files[from]
	delete(m.files, from)
}

// renameDir moves a directory.
func (m *seriesModel) renameDir() {
	from, to := "run0", fmt.Sprintf("moved%d", m.r.IntN(1000))
	if _, err := m.s.Lstat(from); err != nil {
		return
	}
	if _, err := m.s.Lstat(to); err == nil {
		return
	}
	must(m.t, m.s.Rename(from, to, unix.RENAME_NOREPLACE))
	m.moved(from, to)
}

func (m *seriesModel) moved(from, to string) {
	for name, f := range maps.Clone(m.files) {
		if rest, ok := strings.CutPrefix(name, from+"/"); ok {
			delete(m.files, name)
			m.files[to+"/"+rest] = f
		}
	}
}

func (m *seriesModel) link() {
	from, to := m.pick(), m.fresh()
	i, err := m.s.Lstat(from)
	must(m.t, err)
	must(m.t, m.s.Link(from, i.Key, to))
	m.files[to] = m.files[from]
}

func (m *seriesModel) edit() {
	name := m.pick()
	f := m.files[name]
	data := make([]byte, 1+m.r.IntN(100_000))
	for i := range data {
		data[i] = byte(m.r.Uint32())
	}
	off := m.r.IntN(len(f.data) + 1)
	m.write(name, Write, data, off)
	now := bytes.Clone(f.data)
	now = append(now, make([]byte, max(0, off+len(data)-len(now)))...)
	copy(now[off:], data)
	f.data = now
}

func (m *seriesModel) truncate() {
	name := m.pick()
	f := m.files[name]
	size := m.r.IntN(len(f.data) + 1000)
	must(m.t, m.s.Truncate(context.Background(), name, Key{}, int64(size)))
	now := append(bytes.Clone(f.data), make([]byte, max(0, size-len(f.data)))...)
	f.data = now[:size]
}

func (m *seriesModel) hold() {
	name := m.pick()
	f, err := m.s.Open(context.Background(), name, Read)
	must(m.t, err)
	m.held = append(m.held, heldFile{f, m.files[name]})
	if len(m.held) > 4 {
		must(m.t, m.held[0].file.Release(false))
		m.held = m.held[1:]
	}
}

// compact does what the keeper would, all or a few pieces of it.
func (m *seriesModel) compact() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	left := m.r.IntN(12)
	return m.s.keeper.obey(&order{ctx: ctx, CompactOptions: CompactOptions{Report: func(SeriesReport) {
		if left--; left == 0 {
			cancel()
		}
	}}})
}

// crash lets the daemon die while it codes.
func (m *seriesModel) crash() {
	for _, h := range m.held {
		must(m.t, h.file.Release(false))
	}
	m.held = nil
	m.x.mu.Lock()
	m.x.left, m.x.armed = m.r.IntN(150), true
	m.x.mu.Unlock()
	_ = m.compact()
	_ = m.s.Close()
	m.open()
}

// backing changes the directory while nobody serves it.
func (m *seriesModel) backing() {
	m.close()
	dir := m.s.Path()
	name := m.pick()
	at := filepath.Join(dir, name)
	raw, err := os.ReadFile(at)
	must(m.t, err)
	switch m.r.IntN(6) {
	case 0: // cp
		to := m.fresh()
		must(m.t, os.WriteFile(filepath.Join(dir, to), raw, 0o600))
		m.files[to] = &modelFile{m.files[name].data}
	case 1: // rsync over it
		must(m.t, os.WriteFile(at+".tmp", raw, 0o600))
		must(m.t, os.Rename(at+".tmp", at))
		m.files[name] = &modelFile{m.files[name].data}
	case 2: // rm
		must(m.t, os.Remove(at))
		delete(m.files, name)
	case 3: // mv
		to := m.fresh()
		must(m.t, os.Rename(at, filepath.Join(dir, to)))
		m.files[to] = m.files[name]
		delete(m.files, name)
	case 4: // mv of a directory
		if _, err := os.Stat(filepath.Join(dir, "run1")); err == nil {
			to := fmt.Sprintf("ran%d", m.r.IntN(1000))
			if os.Rename(filepath.Join(dir, "run1"), filepath.Join(dir, to)) == nil {
				m.moved("run1", to)
			}
		}
	case 5: // a copy of everything by a program that does not know hard links
		m.unlinkPins()
	}
	m.open()
}

func (m *seriesModel) unlinkPins() {
	for pin := range pinsOf(m.t, m.s.Path()) {
		at := filepath.Join(m.s.Path(), basesDir, pin)
		raw, err := os.ReadFile(at)
		must(m.t, err)
		must(m.t, os.Remove(at))
		must(m.t, os.WriteFile(at, raw, 0o600))
	}
}

// step does one thing.
func (m *seriesModel) step() {
	m.t.Helper()
	if len(m.files) == 0 || m.r.IntN(5) == 0 && len(m.files) < maxModelFiles {
		m.count("save", m.save)
		return
	}
	if len(m.files) >= maxModelFiles {
		m.count("remove", m.remove)
		return
	}
	ops := []struct {
		name string
		do   func()
	}{
		{"save", m.save}, {"save", m.save}, {"save over", m.saveOver}, {"remove", m.remove}, {"remove", m.remove},
		{"rename", m.rename}, {"rename a directory", m.renameDir}, {"link", m.link}, {"edit", m.edit}, {"truncate", m.truncate},
		{"hold", m.hold}, {"tidy", m.s.keeper.tidy}, {"compact", func() { _ = m.compact() }}, {"compact", func() { _ = m.compact() }},
		{"compact", func() { _ = m.compact() }}, {"crash", m.crash}, {"mount again", func() { m.close(); m.open() }}, {"change the backing", m.backing},
	}
	op := ops[m.r.IntN(len(ops))]
	m.count(op.name, op.do)
}

func (m *seriesModel) count(name string, do func()) {
	m.done[name]++
	do()
}

// check compares all files, and what is open.
func (m *seriesModel) check() {
	m.t.Helper()
	for name, f := range m.files {
		expect(m.t, m.s, map[string][]byte{name: f.data})
		if i, err := m.s.Lstat(name); err != nil || i.Nlink != m.links(f) {
			m.t.Errorf("%s has %d links, not %d, %v", name, i.Nlink, m.links(f), err)
		}
	}
	for _, h := range m.held {
		b := make([]byte, len(h.want.data))
		n, err := h.file.ReadAt(b, 0)
		if ignoreEOF(err) != nil || !bytes.Equal(b[:n], h.want.data) {
			m.t.Errorf("%s, which is open, reads differently, %v", h.file.Name(), err)
		}
	}
}

func (m *seriesModel) links(f *modelFile) (n uint32) {
	for _, o := range m.files {
		if o == f {
			n++
		}
	}
	return n
}

// TestSeriesModel does random things to series, coded and not, and compares every
// file with what it must hold.
func TestSeriesModel(t *testing.T) {
	ops := *seriesOps
	if (testing.Short() || raceDetector) && ops == 120 {
		ops = 40
	}
	t.Logf("seed %d", *seriesSeed)
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	m := &seriesModel{t: t, r: rand.New(rand.NewPCG(*seriesSeed, 4)), s: s, files: make(map[string]*modelFile), done: make(map[string]int)}
	m.x = &crashing{}
	var coded uint64
	for i := range ops {
		last := m.s
		before := last.Stats().Coded
		m.step()
		coded += last.Stats().Coded - before
		if m.check(); t.Failed() {
			t.Fatalf("after operation %d", i)
		}
	}
	t.Logf("%d operations: %v; %d files coded anew", ops, m.done, coded)
	if coded == 0 {
		t.Error("nothing was coded anew")
	}
	must(t, m.s.keeper.obey(&order{ctx: context.Background()}))
	m.check()
	for pin, names := range pinsOf(t, m.s.Path()) {
		if names == 0 && m.single() {
			t.Errorf("pin %s keeps an inode, though all is coded", pin)
		}
	}
	for name := range m.files {
		must(t, m.s.Unlink(name))
	}
	m.close()
	m.open()
	m.s.keeper.tidy()
	if pins := pinsOf(t, m.s.Path()); len(pins) > 0 {
		t.Errorf("all is deleted, and %d are pinned", len(pins))
	}
	must(t, m.s.Close())
	must(t, filepath.WalkDir(m.s.Path(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			t.Errorf("left behind: %s", name)
		}
		return err
	}))
}

// single says whether no file has several names: such are left as they are, and
// so is what they need.
func (m *seriesModel) single() bool {
	for _, f := range m.files {
		if m.links(f) > 1 {
			return false
		}
	}
	return true
}
