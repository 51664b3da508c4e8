package direct

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// random are n bytes of which no two aligned runs are the same.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// fileOf is a file of data, on the disk.
func fileOf(t *testing.T, data []byte, mode os.FileMode) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, data, 0o600))
	must(t, os.Chmod(name, mode))
	f, err := os.Open(name)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	must(t, f.Sync())
	return f
}

// opened is f for direct I/O.
func opened(t *testing.T, f *os.File) *os.File {
	t.Helper()
	d, err := Open(int(f.Fd()))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("the filesystem of %s has no direct I/O: %v", f.Name(), err)
	}
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func take(t *testing.T) *Buffer {
	t.Helper()
	b := Take()
	if b == nil {
		t.Fatal("no buffer")
	}
	t.Cleanup(b.Give)
	return b
}

func TestUpAndDown(t *testing.T) {
	for _, c := range []struct{ off, down, up int64 }{
		{0, 0, 0}, {1, 0, Align}, {Align - 1, 0, Align}, {Align, Align, Align}, {Align + 1, Align, 2 * Align},
		{1<<40 - 1, 1<<40 - Align, 1 << 40},
	} {
		if down, up := Down(c.off), Up(c.off); down != c.down || up != c.up {
			t.Errorf("%d is between %d and %d, not %d and %d", c.off, c.down, c.up, down, up)
		}
	}
}

// TestRead: any length can be read from an aligned place, and at the end of the
// file what there is. The file may have lost its name, and let nobody write.
func TestRead(t *testing.T) {
	const size = 2*BufferSize + 3*Align + 123
	data := random(size)
	for _, c := range []struct {
		name     string
		mode     os.FileMode
		unlinked bool
	}{
		{name: "a file", mode: 0o600},
		{name: "for reading only", mode: 0o400},
		{name: "unlinked", mode: 0o600, unlinked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fileOf(t, data, c.mode)
			if c.unlinked {
				must(t, os.Remove(f.Name()))
			}
			d, b := opened(t, f), take(t)
			for _, off := range []int64{0, Align, BufferSize, size - 123, Up(size), Up(size) + Align} {
				for _, need := range []int{1, 100, Align - 1, Align, Align + 1, BufferSize - 1, BufferSize} {
					clear(b.Bytes())
					n, err := Read(d, b, off, need)
					must(t, err)
					want := data[min(off, size):min(off+Up(int64(need)), size)]
					if !bytes.Equal(b.Bytes()[:n], want) {
						t.Fatalf("%d bytes at %d: it reads %d, and should %d", need, off, n, len(want))
					}
				}
			}
		})
	}
}

// TestOpenedForReading: who asks for reading gets no more, and no page of what he
// reads stays with the kernel.
func TestOpenedForReading(t *testing.T) {
	data := random(BufferSize)
	f := fileOf(t, data, 0o600)
	d, b := opened(t, f), take(t)
	drop(t, f)
	_, err := Read(d, b, 0, BufferSize)
	must(t, err)
	if n := cachedPages(t, f, BufferSize); n > 0 {
		t.Errorf("it reads %d pages into the page cache", n)
	}
	if n, err := d.WriteAt(make([]byte, 1), 0); !errors.Is(err, unix.EBADF) || n != 0 {
		t.Errorf("it writes %d bytes, %v", n, err)
	}
}

// TestOpenFails: what can't be opened for direct I/O gives an error, and leaves
// no descriptor open.
func TestOpenFails(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	must(t, err)
	defer func() { _ = dir.Close() }()
	stat, err := os.Open("/proc/self/stat")
	must(t, err)
	defer func() { _ = stat.Close() }()
	before := descriptors(t)
	for _, c := range []struct {
		name string
		fd   int
	}{{"nothing", 1 << 20}, {"a directory", int(dir.Fd())}, {"what no disk has", int(stat.Fd())}} {
		if f, err := Open(c.fd); err == nil {
			t.Errorf("%s is opened", c.name)
			_ = f.Close()
		} else if f != nil {
			t.Errorf("%s: %v, and a file", c.name, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors were open, %d are", before, after)
	}
}

// TestFits: alignment that Align is a multiple of is met; zeros mean none will do.
func TestFits(t *testing.T) {
	for _, c := range []struct {
		off, mem uint32
		want     bool
	}{{512, 4, true}, {512, 512, true}, {4096, 4096, true}, {4096, 0, true}, {0, 0, false}, {8192, 512, false}, {512, 8192, false}} {
		if got := fits(&unix.Statx_t{Dio_offset_align: c.off, Dio_mem_align: c.mem}); got != c.want {
			t.Errorf("offsets of %d, memory of %d: %v", c.off, c.mem, got)
		}
	}
}

// TestAfterClose: a file that is closed is not read, whoever has its number now.
func TestAfterClose(t *testing.T) {
	d, b := opened(t, fileOf(t, random(Align), 0o600)), take(t)
	must(t, d.Close())
	if n, err := Read(d, b, 0, Align); err == nil || n != 0 {
		t.Errorf("it reads %d bytes, %v", n, err)
	}
}

// TestCached tells apart what is in memory, what is not, and what is not on the
// disk yet.
func TestCached(t *testing.T) {
	page := os.Getpagesize()
	size := 16 * page
	f := fileOf(t, random(size), 0o600)
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: uint64(size)}, &st, 0); err != nil {
		if !Cached(int(f.Fd()), 0, int64(size)) {
			t.Error("it can't be told, and that is taken for no")
		}
		t.Skipf("the kernel does not tell what it has: %v", err)
	}
	cached := func(off, n int) bool { return Cached(int(f.Fd()), int64(off), int64(n)) }
	drop(t, f)
	for _, c := range [][2]int{{0, size}, {0, 1}, {page - 1, 2}, {size - 1, 1}} {
		if cached(c[0], c[1]) {
			t.Errorf("%d bytes at %d are said to be in memory", c[1], c[0])
		}
	}
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)) // one page, and no more
	_, err := f.ReadAt(make([]byte, 1), int64(3*page))
	must(t, err)
	if n := cachedPages(t, f, size); n != 1 {
		t.Skipf("the kernel has read %d pages for one", n)
	}
	for _, c := range []struct {
		off, n int
		want   bool
	}{{3 * page, page, true}, {3*page + 1, page - 1, true}, {4*page - 1, 1, true}, {3 * page, page + 1, false},
		{3*page - 1, 2, false}, {4*page - 1, 2, false}, {0, size, false}} {
		if got := cached(c.off, c.n); got != c.want {
			t.Errorf("of %d pages the fourth is in memory: %d bytes at %d: %v", size/page, c.n, c.off, got)
		}
	}
	// What is written is in memory, and a part that is not on the disk is enough.
	w, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
	must(t, err)
	defer func() { _ = w.Close() }()
	_, err = w.WriteAt(random(page), int64(8*page))
	must(t, err)
	if !cached(8*page, page) {
		t.Error("what was just written is said not to be in memory")
	}
	must(t, unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: uint64(size)}, &st, 0))
	if st.Dirty > 0 && !cached(0, size) {
		t.Error("a page is not on the disk yet, and that is not told")
	}
	drop(t, f)
	if cached(8*page, page) {
		t.Error("what was written is on the disk, and said to be in memory")
	}
}

// drop has f synced, and its pages forgotten.
func drop(t *testing.T, f *os.File) {
	t.Helper()
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	st, err := f.Stat()
	must(t, err)
	if n := cachedPages(t, f, int(st.Size())); n > 0 {
		t.Skipf("the kernel keeps %d pages", n)
	}
}

// cachedPages is how many pages of the first n bytes the kernel has in memory.
func cachedPages(t *testing.T, f *os.File, n int) uint64 {
	t.Helper()
	var st unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: uint64(n)}, &st, 0); err != nil {
		t.Skipf("the kernel does not tell what it has: %v", err)
	}
	return st.Cache
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}
