package fs

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// To play another part than the tests do, or to play one again:
//
//	go test ./fs -run Differential -seed 42 -ops 3000
//	go test ./fs -run Differential -timeout 0 -seed 1000 -ops 1000000
//	go test ./fs -run Differential -replay operations.json
var (
	diffSeed   = flag.Uint64("seed", 1, "first seed of the differential test")
	diffOps    = flag.Int("ops", 0, "how many operations the differential test plays; 0: as many as fit")
	diffReplay = flag.String("replay", "", "a file of operations, as the differential test prints them, to play instead")
	diffShrink = flag.Duration("shrink", time.Minute, "how long the differential test looks for fewer operations that fail")
)

// sessionOps is how many operations one seed makes at most: each has a fresh
// mount, so that what fails is found again from the seed alone.
const sessionOps = 4000

// TestDifferential plays the same operations at random on a mount and on ext4.
// Each must bring the same outcome, and both trees must be the same in the end
// and in between. How a mount may differ is in attributes, in seekExtent and in
// knownDifferences.
func TestDifferential(t *testing.T) {
	needFUSE(t)
	needExt4(t)
	c := makeCorpora(t)
	if *diffReplay != "" {
		b, err := os.ReadFile(*diffReplay)
		must(t, err)
		diffFails(t, c, parseOps(t, b))
		return
	}
	total := *diffOps
	if total == 0 {
		total = 20_000
		if testing.Short() || raceDetector {
			total = 1500
		}
	}
	each := min(sessionOps, max(total/5, 500))
	if *diffOps != 0 {
		each = sessionOps
	}
	for seed := *diffSeed; total > 0; seed++ {
		n := min(each, total)
		total -= n
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			x := newSession(t, c)
			failure := x.playSeed(seed, n)
			x.end()
			if failure == "" {
				return
			}
			t.Errorf("seed %d, operation %d, %+v: %s\nAgain: go test ./fs -run Differential -seed %d -ops %d\nThe daemon's log ends:\n%s",
				seed, len(x.played), x.played[len(x.played)-1], failure, seed, len(x.played), tail(x.logs.String()))
			diffFails(t, c, x.played)
		})
	}
}

// needExt4 skips where there is nothing to compare with.
func needExt4(t *testing.T) {
	var st unix.Statfs_t
	must(t, unix.Statfs(t.TempDir(), &st))
	if st.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("SKIPPED: temporary files are not on ext4, so there is nothing to compare with: set TMPDIR")
	}
}

func parseOps(t *testing.T, b []byte) []op {
	var ops []op
	for line := range strings.Lines(string(b)) {
		var o op
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "{") {
			continue
		}
		must(t, json.Unmarshal([]byte(line), &o))
		ops = append(ops, o)
	}
	return ops
}

// diffFails plays operations, and if they fail finds fewer of them that fail,
// as far as it gets in the time there is, and prints those.
func diffFails(t *testing.T, c corpora, ops []op) {
	deadline := time.Now().Add(*diffShrink)
	ops, failure, logged := diffPlay(t, c, ops)
	if failure == "" {
		t.Log("played again, these operations did not fail")
		return
	}
	for size := (len(ops) + 1) / 2; size > 0; {
		before := len(ops)
		for begin := 0; begin < len(ops) && time.Now().Before(deadline); {
			fewer := slices.Concat(ops[:begin], ops[min(begin+size, len(ops)):])
			shorter, f, l := diffPlay(t, c, fewer)
			if f == "" || len(shorter) >= len(ops) || shorter[len(shorter)-1].Op != ops[len(ops)-1].Op {
				begin += size
				continue
			}
			ops, failure, logged = shorter, f, l
		}
		if size > 1 || len(ops) == before {
			size /= 2
		}
	}
	var list strings.Builder
	e := json.NewEncoder(&list)
	e.SetEscapeHTML(false)
	for _, o := range ops {
		must(t, e.Encode(o))
	}
	t.Errorf("%s\nafter these operations (play them with -replay):\n%sThe daemon's log ends:\n%s", failure, &list, tail(logged))
}

// tail is the end of a daemon's log, without what says little.
func tail(log string) string {
	var kept []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "xattr") && !strings.Contains(line, "msg=mounted") {
			kept = append(kept, strings.ReplaceAll(line, strings.Repeat("n", 255), longest))
		}
	}
	return strings.Join(kept[max(0, len(kept)-12):], "")
}

// diffPlay plays ops on a fresh mount up to the first that fails.
func diffPlay(t *testing.T, c corpora, ops []op) (played []op, failure, log string) {
	x := newSession(t, c)
	failure = x.playList(ops)
	x.end()
	return x.played, failure, x.logs.String()
}

// session is a mount and a directory of ext4 in which the same is done.
type session struct {
	t           *testing.T
	corpora     corpora
	ext4, mount *side
	daemon      *testMount
	logs        lockedBuffer // of all its daemons
	hung        atomic.Bool
	ended       sync.Once
	began       time.Time
	slack       time.Duration // how far apart the two sides' times of one change may be
	played      []op
	numbers     map[extInode]uint64 // the mount's, since it was mounted
	// loose are ext4's inodes whose modification times can't be compared until
	// they are set again, and mapped those that mappings can store into: see
	// loosen.
	loose  map[uint64]bool
	mapped [diffMaps]uint64
}

func newSession(t *testing.T, c corpora) *session {
	dir, err := os.MkdirTemp(t.TempDir(), "session")
	must(t, err)
	x := &session{t: t, corpora: c, slack: slackOps, began: time.Now().Add(-time.Second), loose: make(map[uint64]bool)}
	for _, name := range []string{"ext4", "backing", "mount"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	x.ext4, x.mount = newSide(filepath.Join(dir, "ext4")), newSide(filepath.Join(dir, "mount"))
	x.ext4.ext4 = true
	// Modes are as they are asked for.
	old := unix.Umask(0)
	t.Cleanup(func() { unix.Umask(old) })
	d := x.start()
	t.Cleanup(x.end)
	if d != "" {
		t.Fatal(d)
	}
	return x
}

func (x *session) sides() [2]*side { return [2]*side{x.ext4, x.mount} }

// start starts a daemon.
func (x *session) start() string {
	x.numbers = nil
	m, line := launch(x.t, daemonOrder{Dir: filepath.Join(filepath.Dir(x.mount.root), "backing"), Point: x.mount.root}, nil)
	x.daemon = m
	if line != readyLine {
		return fmt.Sprintf("mounting: %q", line)
	}
	return ""
}

// end takes everything away.
func (x *session) end() { x.ended.Do(x.takeAway) }

func (x *session) takeAway() {
	for _, s := range x.sides() {
		s.closeAll()
	}
	x.daemon.stop(x.t)
	_, _ = x.logs.Write([]byte(x.daemon.log.String()))
	_ = os.RemoveAll(filepath.Dir(x.ext4.root))
}

// remount unmounts and mounts again, with nothing open on either side.
func (x *session) remount() string {
	for _, s := range x.sides() {
		s.closeAll()
	}
	if err := unmountSoon(x.mount.root); err != nil {
		return fmt.Sprintf("unmounting: %v", err)
	}
	select {
	case e := <-x.daemon.exited:
		x.daemon.exited <- exit{}
		if e.err != nil {
			return fmt.Sprintf("the daemon ended with %v", e.err)
		}
	case <-time.After(30 * time.Second):
		return "the daemon does not end"
	}
	_, _ = x.logs.Write([]byte(x.daemon.log.String()))
	clear(x.mapped[:])
	return x.start()
}

// playSeed plays the n operations of a seed and returns how the sides differ.
func (x *session) playSeed(seed uint64, n int) string {
	g := newGenerator(seed, x.corpora)
	for range n {
		o := g.next(x.ext4)
		if d := x.step(&o); d != "" {
			return d
		}
	}
	return x.finish()
}

func (x *session) playList(ops []op) string {
	for i := range ops {
		if d := x.step(&ops[i]); d != "" {
			return d
		}
	}
	return x.finish()
}

// finish compares everything once more, before and after a remount.
func (x *session) finish() string {
	for _, last := range []op{{Op: "check"}, {Op: "remount"}} {
		if len(x.played) > 1 && x.played[len(x.played)-1].Op == last.Op {
			continue
		}
		if d := x.step(&last); d != "" {
			return d
		}
	}
	return ""
}

// answerTime is how long an operation may take. A daemon that does not answer is
// told to print where it hangs and die, which ends the operation.
const answerTime = 30 * time.Second

// step plays one operation on both sides and compares.
func (x *session) step(o *op) string {
	x.played = append(x.played, *o)
	watch := time.AfterFunc(answerTime, func() {
		x.hung.Store(true)
		_ = x.daemon.cmd.Process.Signal(syscall.SIGQUIT)
	})
	defer watch.Stop()
	d := x.compareStep(o)
	if x.hung.Load() {
		return fmt.Sprintf("the daemon did not answer for %v; then: %s", answerTime, d)
	}
	return d
}

func (x *session) compareStep(o *op) string {
	switch o.Op {
	case "remount":
		if d := x.remount(); d != "" {
			return d
		}
		return x.compareTrees()
	case "check":
		return x.compareTrees()
	}
	x.loosen(o)
	want, got := x.ext4.do(x.corpora, o), x.mount.do(x.corpora, o)
	if d := want.differs(got); d != "" && !excused(o, want, got) {
		return d
	}
	if d := x.compareSlot(o.Slot); d != "" {
		return fmt.Sprintf("slot %d: %s", o.Slot, d)
	}
	return x.compareName(o.Path)
}

// loosen keeps account of files whose modification times may differ. A store
// into a mapping changes the file's time at once on ext4, and on a mount when
// the kernel writes the page back, which may be after the time was set. Once it
// is set while no such mapping exists, it counts again.
func (x *session) loosen(o *op) {
	var st unix.Stat_t
	switch o.Op {
	case "munmap":
		x.mapped[o.Map] = 0
	case "mmap":
		x.mapped[o.Map] = 0
		if unix.Fstat(x.ext4.slots[o.Slot], &st) == nil && strings.Contains(o.Flags, "SHARED|READ|WRITE") {
			x.mapped[o.Map] = st.Ino
			x.loose[st.Ino] = true
		}
	case "utimens":
		_ = unix.Lstat(x.ext4.path(o.Path), &st)
	case "futimens":
		_ = unix.Fstat(x.ext4.slots[o.Slot], &st)
	}
	if strings.HasSuffix(o.Op, "utimens") && o.Off2 >= 0 && !slices.Contains(x.mapped[:], st.Ino) {
		delete(x.loose, st.Ino)
	}
}

// compareSlot compares what fstat says of an open file.
func (x *session) compareSlot(slot int) string {
	var e [2]entry
	for i, s := range x.sides() {
		fd := s.slots[slot]
		if fd < 0 {
			return ""
		}
		if err := unix.Fstat(fd, &e[i].stat); err != nil {
			return fmt.Sprintf("fstat: %v", err)
		}
	}
	var root unix.Stat_t
	if unix.Stat(x.ext4.root, &root) == nil && root.Ino == e[0].stat.Ino {
		return "" // opened through a link: see attributes
	}
	return compareStat(&e[0], &e[1])
}

// compareName compares what lstat says of a name.
func (x *session) compareName(rel string) string {
	if rel == "" {
		return ""
	}
	var e [2]entry
	var err [2]error
	for i, s := range x.sides() {
		err[i] = unix.Lstat(s.path(rel), &e[i].stat)
	}
	if err[0] != err[1] {
		return fmt.Sprintf("lstat %q: %v on ext4, %v on the mount", rel, err[0], err[1])
	}
	if d := compareStat(&e[0], &e[1]); d != "" {
		return fmt.Sprintf("lstat %q: %s", rel, d)
	}
	return ""
}

func compareStat(want, got *entry) string {
	for _, a := range attributes {
		if a.differs != "" {
			continue
		}
		if w, g := a.of(want), a.of(got); w != g {
			return fmt.Sprintf("%s: %v on ext4, %v on the mount", a.name, w, g)
		}
	}
	return ""
}

// knownDifferences are outcomes that may differ, each with the reason.
var knownDifferences = []struct {
	op          string
	ext4, mount error
	reason      string
}{}

func excused(o *op, want, got outcome) bool {
	for _, k := range knownDifferences {
		if k.op == o.Op && errors.Is(want.err, k.ext4) && errors.Is(got.err, k.mount) {
			return true
		}
	}
	return false
}
