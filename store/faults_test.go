package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/direct"
)

// faulty is a system of which one call fails.
type faulty struct {
	kernel
	mu    sync.Mutex // guards what follows
	armed bool
	kind  string // of call
	nth   int    // which of them, from 0 on; -1: none
	every bool   // and each one after it
	err   error
	half  bool // a write puts half of its bytes there before it fails
	lose  bool // an fdatasync or fsync that fails loses what was written since the last one
	count map[string]int
	fired bool
	file  bool                  // what failed was a sync of a file
	dirty map[uint64][][2]int64 // by inode: offsets and ends written since the last sync
	meet  *meeting
	// opened, if there is one, is called right after a name was opened.
	opened func(name string)
}

// fails counts a call and says whether it is the one.
func (x *faulty) fails(kind string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.armed {
		return false
	}
	n := x.count[kind]
	x.count[kind]++
	if kind != x.kind || n != x.nth && !(x.every && n > x.nth) {
		return false
	}
	x.fired = true
	return true
}

func (x *faulty) openat(dirfd int, name string, flags int, mode uint32) (int, error) {
	if x.fails("openat") {
		return -1, x.err
	}
	return x.kernel.openat(dirfd, name, flags, mode)
}

func (x *faulty) openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	if x.fails("openat2") {
		return -1, x.err
	}
	fd, err := x.kernel.openat2(dirfd, name, how)
	if x.opened != nil {
		x.opened(name)
	}
	return fd, err
}

func (x *faulty) renameat(fromFD int, from string, toFD int, to string, flags uint) error {
	if x.fails("renameat") {
		return x.err
	}
	if x.meet != nil {
		defer x.meet.at(from)()
	}
	return x.kernel.renameat(fromFD, from, toFD, to, flags)
}

func (x *faulty) unlinkat(dirfd int, name string, flags int) error {
	if x.fails("unlinkat") {
		return x.err
	}
	if x.meet != nil && !strings.HasPrefix(name, siblingPrefix) {
		defer x.meet.at(name)()
	}
	return x.kernel.unlinkat(dirfd, name, flags)
}

func (x *faulty) linkat(fd, dirfd int, name string) error {
	if x.fails("linkat") {
		return x.err
	}
	return x.kernel.linkat(fd, dirfd, name)
}

func (x *faulty) pread(f *os.File, p []byte, off int64) (int, error) {
	if x.fails("pread") {
		return 0, x.err
	}
	return x.kernel.pread(f, p, off)
}

func (x *faulty) pwrite(f *os.File, p []byte, off int64) (int, error) {
	if x.fails("pwrite") {
		n := 0
		if x.half {
			n, _ = x.kernel.pwrite(f, p[:len(p)/2], off)
		}
		return n, x.err
	}
	n, err := x.kernel.pwrite(f, p, off)
	x.wrote(f, off, n)
	return n, err
}

func (x *faulty) preadDirect(f *os.File, b *direct.Buffer, off int64, need int) (int, error) {
	if x.fails("preadDirect") {
		return 0, x.err
	}
	return x.kernel.preadDirect(f, b, off, need)
}

// wrote notes what a sync that fails would lose.
func (x *faulty) wrote(f *os.File, off int64, n int) {
	if ino := fileInode(f); x.lose && x.dirty != nil {
		x.mu.Lock()
		x.dirty[ino] = append(x.dirty[ino], [2]int64{off, off + int64(n)})
		x.mu.Unlock()
	}
}

func (x *faulty) truncate(f *os.File, size int64) error {
	if x.fails("truncate") {
		return x.err
	}
	return x.kernel.truncate(f, size)
}

func (x *faulty) fdatasync(f *os.File) error { return x.sync("fdatasync", f) }
func (x *faulty) fsync(f *os.File) error     { return x.sync("fsync", f) }

func (x *faulty) sync(kind string, f *os.File) error {
	fails := x.fails(kind)
	if st, err := f.Stat(); fails && err == nil && st.Mode().IsRegular() {
		x.file = true
	}
	if x.lose {
		x.mu.Lock()
		ino := fileInode(f)
		lost := x.dirty[ino]
		delete(x.dirty, ino)
		x.mu.Unlock()
		if fails {
			zero(f, lost)
		}
	}
	if fails {
		return x.err
	}
	return nil // the disk of the test is good enough as it is
}

// zero is what is left of pages that the kernel could not write and then forgot.
func zero(f *os.File, ranges [][2]int64) {
	st, err := f.Stat()
	if err != nil || st.IsDir() {
		return
	}
	for _, r := range ranges {
		if end := min(r[1], st.Size()); r[0] < end {
			w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0)
			if err == nil {
				_, _ = w.WriteAt(make([]byte, end-r[0]), r[0])
				_ = w.Close()
			}
		}
	}
}

func fileInode(f *os.File) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Ino
}

func testWeights(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/checkpoints/small_model.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within fails when do does not come back: something waits for what will never
// be.
func within(t *testing.T, limit time.Duration, do func()) {
	t.Helper()
	done := make(chan bool)
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		panic(t.Name() + ": it hangs")
	}
}

// account is what a scripted history expects of one name: contents that it
// may have, the last of which is the newest. A write that is under way makes
// prefixes of it possible.
type account struct {
	may     [][]byte // whole contents that may be there
	prefix  []byte   // and prefixes of this, not shorter than least
	least   int
	growing bool
	absent  bool // it may be missing
	edits   []edit
}

// edit is a write into a file that is there.
type edit struct {
	data []byte
	off  int
}

func (e edit) apply(b []byte) []byte {
	b = append(bytes.Clone(b), make([]byte, max(0, e.off+len(e.data)-len(b)))...)
	copy(b[e.off:], e.data)
	return b
}

// allows says whether got may be what is left.
func (a *account) allows(got []byte) bool {
	for _, m := range a.may {
		if bytes.Equal(got, m) {
			return true
		}
		for _, e := range a.edits {
			if e.off <= len(got) {
				n := 0
				for n < len(e.data) && e.off+n < len(got) && got[e.off+n] == e.data[n] {
					n++
				}
				if bytes.Equal(got, edit{e.data[:n], e.off}.apply(m)) {
					return true
				}
			}
			m = e.apply(m)
			if bytes.Equal(got, m) {
				return true
			}
		}
	}
	return a.growing && len(got) >= a.least && bytes.HasPrefix(a.prefix, got)
}

// history plays a life on a store. Errors are noted, not fatal.
type history struct {
	t        *testing.T
	s        *Store
	accounts map[string]*account
	errs     []string
	x        *faulty
}

func (h *history) note(what string, err error) bool {
	if err == nil {
		return true
	}
	h.errs = append(h.errs, fmt.Sprintf("%s: %v", what, err))
	return false
}

func (h *history) writeAll(f *File, data []byte, at int) bool {
	for len(data) > 0 {
		n := min(len(data), 700_001)
		k, err := f.WriteAt(data[:n], int64(at))
		if !h.note("write", err) {
			return false
		}
		at, data = at+k, data[k:]
	}
	return true
}

// end closes a file as the kernel does: FLUSH, then RELEASE. ok says whether
// nothing went wrong.
func (h *history) end(f *File) bool {
	ok := h.note("flush", f.Flush())
	return h.note("release", f.Release(true)) && ok
}

// sync says whether f is durable. One that failed must not succeed later.
func (h *history) sync(f *File) bool {
	ok := h.note("sync", f.Sync(true))
	if !ok && h.x.file && f.Sync(true) == nil {
		h.t.Errorf("%v, and then a second sync succeeds", h.errs)
	}
	return ok
}

// replace writes over name, or makes it.
func (h *history) replace(name string, data []byte, sync bool) {
	a := h.accounts[name]
	var f *File
	var err error
	switch {
	case a == nil:
		a = &account{absent: true, growing: true}
		h.accounts[name] = a
		f, err = h.s.Create(name, 0o600, Caller{})
	default:
		f, err = h.s.Open(context.Background(), name, Truncate)
	}
	a.prefix = data
	a.may = append(a.may, data)
	if !h.note("open "+name, err) {
		if a.growing {
			a.may = append(a.may, nil)
		}
		return
	}
	ok := h.writeAll(f, data, 0)
	if ok && sync {
		ok = h.sync(f)
	}
	if h.end(f) && ok {
		*a = account{may: [][]byte{data}}
	}
}

// change edits and appends.
func (h *history) change(name string, edits []edit, sync bool) {
	a := h.accounts[name]
	f, err := h.s.Open(context.Background(), name, Write)
	if !h.note("open "+name, err) {
		return
	}
	ok := true
	for _, e := range edits {
		a.edits = append(a.edits, e)
		if ok = h.writeAll(f, e.data, e.off); !ok {
			break
		}
	}
	if ok && sync {
		ok = h.sync(f)
	}
	if h.end(f) && ok && len(a.may) == 1 && !a.growing && !a.absent {
		b := a.may[0]
		for _, e := range a.edits {
			b = e.apply(b)
		}
		*a = account{may: [][]byte{b}}
	}
}

func (h *history) rename(from, to string) {
	source, target := h.accounts[from], h.accounts[to]
	err := h.s.Rename(from, to, 0)
	if h.note("rename", err) {
		h.accounts[to] = source
		delete(h.accounts, from)
		return
	}
	// It happened, or not.
	if target == nil {
		target = &account{absent: true}
	}
	both := &account{may: append(append([][]byte{}, source.may...), target.may...), absent: target.absent, edits: source.edits,
		growing: source.growing, prefix: source.prefix}
	h.accounts[to] = both
	source.absent = true
}

func (h *history) unlink(name string) {
	if h.note("unlink", h.s.Unlink(name)) {
		delete(h.accounts, name)
	} else if a := h.accounts[name]; a != nil {
		a.absent = true
	}
}

func (h *history) read(name string) {
	f, err := h.s.Open(context.Background(), name, Read)
	if !h.note("open "+name, err) {
		return
	}
	b := make([]byte, 64<<10)
	for off := int64(0); ; off += int64(len(b)) {
		n, err := f.ReadAt(b, off)
		if errors.Is(err, io.EOF) || n == 0 {
			break
		}
		if !h.note("read "+name, err) {
			break
		}
	}
	h.note("release "+name, f.Release(false))
}

// play is the whole life.
func (h *history) play(weights, text []byte) {
	h.replace("model", weights[:3<<20], false)
	h.replace("log", text[:20_000], true)
	h.read("model")
	h.change("model", []edit{{weights[5<<20 : 5<<20+300_000], 700_000}}, true)
	h.change("model", []edit{{weights[6<<20 : 6<<20+500_000], 3 << 20}, {weights[7<<20 : 7<<20+1000], 10}}, false)
	h.replace("model", weights[1<<20:1<<20+900_000], true)
	h.replace("dir/old", weights[2<<20:2<<20+300_000], false)
	h.replace("dir/old", weights[4<<20:4<<20+500_000], false)
	h.replace("dir/new", weights[3<<20:3<<20+700_000], false)
	h.rename("dir/new", "dir/old")
	h.replace("log", text[:70_000], false)
	h.change("log", []edit{{text[5000:90_000], 70_000}}, true)
	h.replace("gone", weights[:1<<20], false)
	h.unlink("gone")
}

// live opens a directory with x below it, plays, and closes.
func live(t *testing.T, dir string, x *faulty, weights, text []byte) *history {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "dir"), 0o700))
	s, err := Open(dir, Options{Workers: 1, sys: x})
	must(t, err)
	h := &history{t: t, s: s, accounts: make(map[string]*account), x: x}
	x.mu.Lock()
	x.count, x.dirty, x.armed = make(map[string]int), make(map[uint64][][2]int64), true
	x.mu.Unlock()
	h.play(weights, text)
	s.background.Wait()
	x.mu.Lock()
	x.armed = false
	x.mu.Unlock()
	h.note("close", s.Close())
	return h
}

// checkLife opens the directory anew and compares.
func (h *history) checkLife(dir string, lossy bool) {
	t := h.t
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	for name, a := range h.accounts {
		got, err := readLogical(s, name)
		switch {
		case errors.Is(err, unix.ENOENT) && a.absent:
		case lossy && !isContainer(t, filepath.Join(dir, name)): // nothing tells what a plain file lost
		case err != nil && (lossy || a.growing):
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case !a.allows(got):
			t.Errorf("%s has %d bytes that it should not have; it may have %s; errors: %q", name, len(got), a, h.errs)
		}
	}
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), siblingPrefix) {
			t.Errorf("left behind: %s", name)
		}
		return err
	})
}

func isContainer(t testing.TB, name string) bool {
	t.Helper()
	x, err := Inspect(name)
	if errors.Is(err, unix.ENOENT) {
		return true
	}
	must(t, err)
	defer func() { must(t, x.Close()) }()
	return x.Summary().State != StatePlain
}

func (a *account) String() string {
	var lengths []int
	for _, m := range a.may {
		lengths = append(lengths, len(m))
	}
	return fmt.Sprintf("one of %d bytes, and %d edits, growing %v, absent %v", lengths, len(a.edits), a.growing, a.absent)
}

func readLogical(s *Store, name string) ([]byte, error) {
	f, err := s.Open(context.Background(), name, Read)
	if err != nil {
		return nil, err
	}
	b := make([]byte, f.Size())
	_, err = f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, errors.Join(err, f.Release(false))
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// allFaults leaves no call out:
//
//	go test ./store -run Faults -allfaults
var allFaults = flag.Bool("allfaults", false, "let every single call fail once, not only those that most depends on")

// TestFaults lets each call of each kind fail once, over the same life. Some
// call must tell, and what a new Store finds must be right, old, or a whole
// prefix; never wrong bytes.
func TestFaults(t *testing.T) {
	weights := testWeights(t)
	text := []byte(strings.Repeat("step 12 loss 2.31 and nothing else\n", 4000))
	x := &faulty{nth: -1}
	dir := t.TempDir()
	h := live(t, dir, x, weights, text)
	if len(h.errs) > 0 {
		t.Fatalf("%q", h.errs)
	}
	h.checkLife(dir, false)
	counts := x.count
	t.Log(counts)
	for _, mode := range []struct {
		name       string
		err        error
		half, lose bool
	}{
		{"EIO", unix.EIO, false, false},
		{"ENOSPC", unix.ENOSPC, true, false},
		{"EIO that loses data", unix.EIO, false, true},
	} {
		for kind, calls := range counts {
			if mode.half && kind != "pwrite" && kind != "openat" && kind != "openat2" && kind != "renameat" ||
				mode.lose && kind != "fdatasync" && kind != "fsync" {
				continue
			}
			step := 1
			if !*allFaults && (kind == "pread" || kind == "preadDirect" || kind == "openat2" || mode.half) || testing.Short() || raceDetector {
				step = 5
			}
			for n := 0; n < calls; n += step {
				t.Run(fmt.Sprintf("%s/%s %d", mode.name, kind, n), func(t *testing.T) {
					dir := t.TempDir()
					before := openDescriptors(t)
					within(t, time.Minute, func() {
						x := &faulty{kind: kind, nth: n, err: mode.err, half: mode.half, lose: mode.lose}
						h := live(t, dir, x, weights, text)
						if x.fired && len(h.errs) == 0 && harmful(kind) {
							t.Errorf("nobody was told")
						}
						h.checkLife(dir, mode.lose)
						if t.Failed() {
							t.Logf("fired %v; errors %q", x.fired, h.errs)
						}
					})
					if after := openDescriptors(t); after > before {
						t.Errorf("%d descriptors were open, %d are", before, after)
					}
				})
			}
		}
	}
}

// harmful kinds of calls can't fail without somebody being told, except for
// those that the store can do without.
func harmful(kind string) bool {
	return kind == "pwrite" || kind == "truncate" || kind == "fdatasync" || kind == "fsync"
}

// replaced is a store with a file that has content; calls count from now on.
func replaced(t *testing.T, x *faulty, old []byte) (dir string, s *Store) {
	t.Helper()
	dir = t.TempDir()
	s, err := Open(dir, Options{Workers: 1, sys: x})
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	f, err := s.Create("d/f", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(old, 0)
	must(t, err)
	must(t, f.Release(true))
	s.background.Wait()
	x.count, x.dirty, x.armed = make(map[string]int), make(map[uint64][][2]int64), true
	return dir, s
}

// TestFailureKeepsTheOldFile: what could not be written, or not be made
// durable, must not take the place of what is there.
func TestFailureKeepsTheOldFile(t *testing.T) {
	weights := testWeights(t)
	text := []byte(strings.Repeat("step 12 loss 2.31 and nothing else\n", 60_000))
	for _, c := range []struct {
		name string
		x    *faulty
		data []byte
		sync bool
	}{
		{name: "container, write", x: &faulty{kind: "pwrite", nth: 3, err: unix.ENOSPC, half: true}, data: weights[1<<20 : 3<<20]},
		{name: "plain, write", x: &faulty{kind: "pwrite", nth: 2, err: unix.ENOSPC, half: true}, data: text},
		{name: "container, sync", x: &faulty{kind: "fsync", err: unix.EIO, lose: true}, data: weights[1<<20 : 3<<20], sync: true},
		{name: "plain, sync", x: &faulty{kind: "fsync", err: unix.EIO, lose: true}, data: text, sync: true},
		{name: "no sibling: ENOSPC", x: &faulty{kind: "openat", err: unix.ENOSPC}, data: weights[1<<20 : 3<<20]},
		{name: "no sibling: EMFILE", x: &faulty{kind: "openat", err: unix.EMFILE}, data: weights[1<<20 : 3<<20]},
		{name: "no note: ENOSPC", x: &faulty{kind: "openat2", nth: 3, err: unix.ENOSPC}, data: weights[1<<20 : 3<<20]},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := weights[:1<<20]
			dir, s := replaced(t, c.x, old)
			f, err := s.Open(context.Background(), "d/f", Truncate)
			if err == nil {
				// As the kernel has it: the client goes on after an error, or not,
				// and closes.
				for at := 0; at < len(c.data) && err == nil; at += 500_000 {
					_, err = f.WriteAt(c.data[at:min(at+500_000, len(c.data))], int64(at))
				}
				if c.sync && err == nil {
					err = f.Sync(true)
				}
				if e := f.Flush(); err == nil {
					err = e
				}
				if e := f.Release(true); err == nil {
					err = e
				}
			}
			_ = s.Close()
			s, openErr := Open(dir, Options{})
			must(t, openErr)
			defer func() { must(t, s.Close()) }()
			got, readErr := readLogical(s, "d/f")
			whole := err == nil && bytes.Equal(got, c.data)
			if readErr != nil || !whole && !bytes.Equal(got, old) {
				t.Errorf("it failed with %v, and the file has %d bytes: %v", err, len(got), readErr)
			}
			if !c.x.fired {
				t.Errorf("nothing failed: %v", c.x.count)
			}
		})
	}
}

// TestFailedSyncStaysFailed, also when a file is renamed: the pages that could
// not be written are gone.
func TestFailedSyncStaysFailed(t *testing.T) {
	weights := testWeights(t)
	x := &faulty{nth: -1, err: unix.EIO, lose: true}
	_, s := replaced(t, x, weights[:1<<20])
	defer func() { _ = s.Close() }()
	f, err := s.Create("d/tmp", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(weights[2<<20:3<<20], 0)
	must(t, err)
	x.mu.Lock()
	x.count, x.kind, x.nth = make(map[string]int), "fdatasync", 0
	x.mu.Unlock()
	for range 3 {
		if err := f.Sync(false); !errors.Is(err, unix.EIO) {
			t.Errorf("sync says %v", err)
		}
	}
	if err := s.Rename("d/tmp", "d/f", 0); err == nil {
		t.Error("it can be renamed over a file that is whole")
	}
	_ = f.Release(true)
	if got, err := readLogical(s, "d/f"); err != nil || !bytes.Equal(got, weights[:1<<20]) {
		t.Errorf("the old file has %d bytes, %v", len(got), err)
	}
}

// meeting brings a client that changes a name together with a sibling that is
// about to take it: the client's call comes right before the sibling's, if the
// store lets both come so far.
type meeting struct {
	client, sibling, changed chan struct{}
	once, twice              sync.Once
}

func newMeeting() *meeting {
	return &meeting{client: make(chan struct{}), sibling: make(chan struct{}), changed: make(chan struct{})}
}

// at is called before a change of the name from; what it returns, after.
func (m *meeting) at(from string) func() {
	after := func() {}
	if strings.HasPrefix(from, siblingPrefix) {
		m.twice.Do(func() {
			close(m.sibling)
			m.wait(m.changed)
		})
		return after
	}
	m.once.Do(func() {
		close(m.client)
		m.wait(m.sibling)
		after = func() { close(m.changed) }
	})
	return after
}

// wait is not for ever: the store may well keep one until the other is done.
func (m *meeting) wait(c chan struct{}) {
	select {
	case <-c:
	case <-time.After(300 * time.Millisecond):
	}
}

// TestNamesWhilePublishing: what a client does to a name at the moment when a
// sibling takes it happens before or after that, never in between.
func TestNamesWhilePublishing(t *testing.T) {
	weights := testWeights(t)
	old, now, other := weights[:1<<20], weights[1<<20:2<<20], weights[3<<20:4<<20]
	for _, c := range []struct {
		name string
		do   func(s *Store) error
		want map[string][]byte
	}{
		{"unlink", func(s *Store) error { return s.Unlink("f") }, map[string][]byte{"other": other}},
		{"rename", func(s *Store) error { return s.Rename("f", "g", 0) }, map[string][]byte{"g": now, "other": other}},
		{"rename over it", func(s *Store) error { return s.Rename("other", "f", 0) }, map[string][]byte{"f": other}},
		{"exchange", func(s *Store) error { return s.Rename("other", "f", unix.RENAME_EXCHANGE) },
			map[string][]byte{"f": other, "other": now}},
	} {
		for _, background := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/background %v", c.name, background), func(t *testing.T) {
				within(t, time.Minute, func() { nameWhilePublishing(t, c.do, c.want, old, now, other, background) })
			})
		}
	}
}

// nameWhilePublishing lets do meet the last close of a file that is written over
// an older one, or that is stored anew in the background.
func nameWhilePublishing(t *testing.T, do func(*Store) error, want map[string][]byte, old, now, other []byte, background bool) {
	x := &faulty{nth: -1}
	dir := t.TempDir()
	s, err := Open(dir, Options{Workers: 1, sys: x})
	must(t, err)
	if !background {
		must(t, os.WriteFile(filepath.Join(dir, "f"), old, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "other"), other, 0o600))
	f, err := s.Open(context.Background(), "f", Truncate)
	if background {
		f, err = s.Create("f", 0o600, Caller{})
	}
	must(t, err)
	for at := len(now); at > 0; { // from the end, so that it has to be stored anew
		n := min(at, 300_000)
		at -= n
		_, err = f.WriteAt(now[at:at+n], int64(at))
		must(t, err)
	}
	must(t, f.Flush())
	x.meet = newMeeting()
	done := make(chan error, 1)
	go func() { done <- do(s) }()
	x.meet.wait(x.meet.client)
	must(t, f.Release(true))
	must(t, <-done)
	s.background.Wait()
	must(t, s.Close())
	s, err = Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	for _, name := range []string{"f", "g", "other"} {
		got, err := readLogical(s, name)
		switch data, there := want[name]; {
		case !there && !errors.Is(err, unix.ENOENT):
			t.Errorf("%s is there, with %d bytes, %v", name, len(got), err)
		case there && (err != nil || !bytes.Equal(got, data)):
			t.Errorf("%s: %d bytes, or others, %v", name, len(got), err)
		}
	}
}

// TestOpenWhilePublishing: who opens a file at the moment when a sibling takes
// its name gets the one or the other, but never an inode that has no name any
// more to write to.
func TestOpenWhilePublishing(t *testing.T) {
	weights := testWeights(t)
	x := &faulty{nth: -1}
	dir := t.TempDir()
	s, err := Open(dir, Options{Workers: 1, sys: x})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "f"), weights[:1<<20], 0o600))
	want := bytes.Clone(weights[1<<20 : 2<<20])
	f, err := s.Open(context.Background(), "f", Truncate)
	must(t, err)
	_, err = f.WriteAt(want, 0)
	must(t, err)
	must(t, f.Flush())
	var once sync.Once
	x.opened = func(name string) {
		if name == "f" {
			once.Do(func() { must(t, f.Release(true)) })
		}
	}
	g, err := s.Open(context.Background(), "f", Write)
	must(t, err)
	got := make([]byte, 1000)
	if _, err := g.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:1000]) {
		t.Errorf("it reads something else, %v", err)
	}
	copy(want[500_000:], "an edit")
	_, err = g.WriteAt([]byte("an edit"), 500_000)
	must(t, err)
	must(t, g.Flush())
	must(t, g.Release(true))
	if got, err := readLogical(s, "f"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the edit is lost: %d bytes, %v", len(got), err)
	}
	must(t, s.Close())
}

// TestTruncateActsAtOnce: a size set by name needs no last close.
func TestTruncateActsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	f, err := s.Create("f", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(testWeights(t)[:1<<20], 0)
	must(t, err)
	must(t, f.Flush())
	must(t, s.Truncate(context.Background(), "f", f.Key(), 2<<20)) // before f's Release
	x, err := Inspect(filepath.Join(dir, "f"))
	must(t, err)
	defer func() { must(t, x.Close()) }()
	if n := x.Summary().Logical; n != 2<<20 {
		t.Errorf("it has %d bytes", n)
	}
	must(t, f.Release(true))
}
