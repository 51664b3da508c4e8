package fs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/internal/testweights"
	"github.com/mithrilfs/mithrilfs/store"
)

// With these, times are checked too, which takes a machine that does little
// else:
//
//	go test ./fs -run LargeFile -v -timeout 0 -largefile 8192
//	go test ./fs -run Appends -v -timeout 0 -appends 10000
//	go test ./fs -run CreateAndUnlink -v -timeout 0 -unlinks 10000
var (
	largeFile = flag.Int64("largefile", 0, "MiB of the file that one byte is changed in; 0: a few, and no time is checked")
	appends   = flag.Int("appends", 0, "how often to append and fsync; 0: a few times, and no time is checked")
	unlinks   = flag.Int("unlinks", 0, "how often to make and unlink files; 0: a few times")
)

// writeWeights writes so many MiB.
func writeWeights(t testing.TB, name string, mib int64) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	block := make([]byte, testweights.Block)
	for i := range mib {
		testweights.Fill(block, 0, uint64(i))
		_, err := f.Write(block)
		must(t, err)
	}
	must(t, f.Close())
}

// waitSealed waits for what happens after the last close.
func waitSealed(t testing.TB, m *testMount, name string) store.Summary {
	t.Helper()
	var s store.Summary
	eventually(t, func() bool {
		s = stateOf(t, m, name)
		return s.State == store.StateSealed
	})
	return s
}

// endsWithTable says whether a backing file ends like a sealed container: to
// find out more about an unsealed one takes reading all of its records.
func endsWithTable(t testing.TB, name string) bool {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	st, err := f.Stat()
	must(t, err)
	var magic [4]byte
	_, err = f.ReadAt(magic[:], st.Size()-4)
	must(t, err)
	return binary.LittleEndian.Uint32(magic[:]) == 0x8f92eab1 // a seek table's last bytes
}

// written is how many bytes the daemon has given the kernel to write to a disk.
func (m *testMount) written(t testing.TB) int64 {
	t.Helper()
	return m.counter(t, "io", "write_bytes: %d")
}

// counter reads a number about the daemon from a file of its own in /proc.
func (m *testMount) counter(t testing.TB, file, format string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", m.cmd.Process.Pid, file))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		var n int64
		if k, _ := fmt.Sscanf(line, format, &n); k == 1 {
			return n
		}
	}
	t.Fatalf("no %q in %s", format, file)
	return 0
}

// allocated is how many bytes du counts for a backing file.
func allocated(t testing.TB, m *testMount, name string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(m.backing, name), &st))
	return st.Blocks * 512
}

// TestByteInALargeFile: to change one byte of a sealed file costs milliseconds
// and megabytes, however large the file is.
func TestByteInALargeFile(t *testing.T) {
	mib := *largeFile
	if mib == 0 {
		mib = 256
		if testing.Short() || raceDetector {
			mib = 32
		}
	}
	m := mountApart(t)
	begin := time.Now()
	writeWeights(t, m.path("f"), mib)
	t.Logf("%d MiB written in %v", mib, time.Since(begin))
	waitSealed(t, m, "f")
	block := func(i int64) []byte {
		b := make([]byte, testweights.Block)
		testweights.Fill(b, 0, uint64(i))
		return b
	}
	for round, sync := range []bool{false, true, true} {
		unix.Sync()
		before, size, du := m.written(t), backingSize(t, m, "f"), allocated(t, m, "f")
		at := mib<<20/2 + int64(round)*5<<20 + 12_345
		begin := time.Now()
		f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{'!'}, at)
		must(t, err)
		if sync {
			must(t, f.Sync())
		}
		must(t, f.Close())
		took := time.Since(begin)
		eventually(t, func() bool { return endsWithTable(t, filepath.Join(m.backing, "f")) })
		sealed := time.Since(begin)
		waitSealed(t, m, "f")
		unix.Sync()
		grown := max(backingSize(t, m, "f")-size, allocated(t, m, "f")-du)
		wrote := m.written(t) - before
		t.Logf("fsync %v: %v until close(2) returned, %v until it was sealed; the backing grew by %d KiB, %d KiB were written",
			sync, took, sealed, grown>>10, wrote>>10)
		if grown > 8<<20 || wrote > 8<<20 {
			t.Errorf("one byte cost %d bytes of the backing, and %d that were written", grown, wrote)
		}
		if took > 100*time.Millisecond && *largeFile > 0 {
			t.Errorf("one byte took %v", took)
		}
		want := block(at >> 20)
		want[at&(1<<20-1)] = '!'
		checkAt(t, m.path("f"), at>>20<<20, want)
		checkAt(t, m.path("f"), 0, block(0))
	}
}

// checkAt compares what a file has at off.
func checkAt(t testing.TB, name string, off int64, want []byte) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes at %d differ, %v", name, len(want), off, err)
	}
}

// cost is what has been used up by some moment.
type cost struct {
	wall, cpu      time.Duration // cpu: the daemon's
	written, grown int64
}

func (c cost) since(before cost) cost {
	return cost{c.wall - before.wall, c.cpu - before.cpu, c.written - before.written, c.grown - before.grown}
}

// cpu is the processor time that the daemon has used.
func (m *testMount) cpu(t testing.TB) time.Duration {
	t.Helper()
	var total time.Duration
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", m.cmd.Process.Pid))
	must(t, err)
	for _, name := range threads {
		var ns int64
		if b, err := os.ReadFile(name); err == nil { // a thread may end
			_, err = fmt.Sscan(string(b), &ns)
			must(t, err)
		}
		total += time.Duration(ns)
	}
	return total
}

// TestAppendsCostAlike: one fsynced append costs as much as any before it.
func TestAppendsCostAlike(t *testing.T) {
	n := *appends
	if n == 0 {
		n = 600
		if testing.Short() || raceDetector {
			n = 100
		}
	}
	m := mountApart(t)
	const piece = 4 << 10
	data := realWeights(t)
	must(t, os.WriteFile(m.path("f"), data[:1<<20], 0o600))
	waitSealed(t, m, "f")
	f, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	begin := time.Now()
	now := func() cost { return cost{time.Since(begin), m.cpu(t), m.written(t), backingSize(t, m, "f")} }
	want := bytes.Clone(data[:1<<20])
	marks := []cost{now()}
	for i := range n {
		at := i * piece % (len(data) - piece)
		_, err := f.Write(data[at : at+piece])
		must(t, err)
		must(t, f.Sync())
		want = append(want, data[at:at+piece]...)
		if i == n/2-1 || i == n-1 {
			marks = append(marks, now())
		}
	}
	must(t, f.Close())
	first, second := marks[1].since(marks[0]), marks[2].since(marks[1])
	t.Logf("first half %+v, second half %+v", first, second)
	if ratio := float64(second.written) / float64(first.written); ratio > 1.3 {
		t.Errorf("the second half wrote %.2f times as much", ratio)
	}
	if ratio := float64(second.grown) / float64(first.grown); ratio > 1.3 {
		t.Errorf("the file grew %.2f times as much in the second half", ratio)
	}
	if limit := int64(n) * (piece + 512); second.grown+first.grown > limit {
		t.Errorf("%d appends let the file grow by %d bytes, more than %d", n, second.grown+first.grown, limit)
	}
	if ratio := float64(second.cpu) / float64(first.cpu); ratio > 1.3 && *appends > 0 {
		t.Errorf("the second half took %.2f times the processor's time", ratio)
	}
	s := waitSealed(t, m, "f")
	if s.Frames > n+4 {
		t.Errorf("%d appends are %d frames", n, s.Frames)
	}
	checkFile(t, m.path("f"), want)
	m = m.remount(t)
	checkFile(t, m.path("f"), want)
}

// TestCreateAndUnlink: files that come and go leave nothing behind, in the
// backing directory or in the daemon, and are never taken for one another,
// though the backing filesystem gives their inodes to the next one at once.
func TestCreateAndUnlink(t *testing.T) {
	rounds := *unlinks
	if rounds == 0 {
		rounds = 600
		if testing.Short() || raceDetector {
			rounds = 150
		}
	}
	m := mountApart(t)
	weights := realWeights(t)
	u := &unlinker{m: m, weights: weights}
	warm := rounds / 3
	var descriptors, memory int64
	for i := range rounds {
		if i == warm {
			settle(t, m)
			descriptors, memory = m.descriptors(t), m.counter(t, "status", "VmRSS: %d kB")
		}
		u.round(t, i)
	}
	u.end(t)
	settle(t, m)
	if got := strangers(t, m.backing); len(got) > 0 {
		t.Errorf("%d entries are left: %q", len(got), got[:min(len(got), 5)])
	}
	if pending, err := os.ReadDir(filepath.Join(m.backing, ".mithrilfs/pending")); len(pending) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%d notes are left, %v", len(pending), err)
	}
	left, after := m.descriptors(t), m.counter(t, "status", "VmRSS: %d kB")
	t.Logf("after %d rounds the daemon had %d descriptors and %d KiB, after %d it has %d and %d", warm, descriptors, memory, rounds, left, after)
	if left > descriptors {
		t.Errorf("the daemon had %d descriptors, it has %d", descriptors, left)
	}
	if after > memory+48<<10 {
		t.Errorf("the daemon had %d KiB, it has %d", memory, after)
	}
}

// descriptors is how many the daemon has open.
func (m *testMount) descriptors(t testing.TB) int64 {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid))
	must(t, err)
	return int64(len(entries))
}

// unlinker makes files and unlinks them, each while the one before it is open
// and has no name any more.
type unlinker struct {
	m       *testMount
	weights []byte
	ghost   *os.File // unlinked, and open
	number  uint64   // its inode number
	content []byte
}

func (u *unlinker) round(t *testing.T, i int) {
	name := u.m.path(fmt.Sprintf("f%d", i%5))
	size := []int{10, 5000, 70_001, 300_000}[i%4]
	data := u.weights[i*2%1_000_000:][:size]
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if i%3 == 0 { // and some are replaced
		must(t, os.WriteFile(name, data[:size/2], 0o600))
		flags = os.O_RDWR | os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0o600)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	number := inode(t, name)
	if u.ghost != nil && number == u.number {
		t.Fatalf("round %d: a new file has the number %d of one that is open", i, number)
	}
	if d := direntNumber(t, u.m.point, filepath.Base(name)); d != number {
		t.Fatalf("round %d: readdir says %d, stat %d", i, d, number)
	}
	u.end(t)
	must(t, os.Remove(name))
	u.ghost, u.number, u.content = f, number, data
}

// end checks what was unlinked before, and closes it.
func (u *unlinker) end(t *testing.T) {
	t.Helper()
	if u.ghost == nil {
		return
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(u.ghost.Fd()), &st))
	got := make([]byte, len(u.content)+1)
	n, err := u.ghost.ReadAt(got, 0)
	if st.Ino != u.number || !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], u.content) {
		t.Fatalf("an unlinked file had the number %d and %d bytes, it has %d and %d, %v", u.number, len(u.content), st.Ino, n, err)
	}
	must(t, u.ghost.Close())
	u.ghost = nil
}
