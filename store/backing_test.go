package store

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReservedRoomIsGivenBack: a container that is being written has room ahead
// of it; once it is sealed it takes what it needs.
func TestReservedRoomIsGivenBack(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{Workers: 2})
	must(t, err)
	f, err := s.Create("f", 0o600, Caller{})
	must(t, err)
	data := floats(1, 1<<20)
	for i := range 20 { // 26 MB, of which the last 16 had their room reserved
		_, err := f.WriteAt(data, int64(i*len(data)))
		must(t, err)
	}
	must(t, f.Flush())
	path := filepath.Join(dir, "f")
	if size, taken := usage(t, path); taken < size+4<<20 {
		t.Skipf("%d bytes take %d: the filesystem has nothing to reserve", size, taken)
	}
	must(t, f.Release(true))
	if size, taken := usage(t, path); taken > size+64<<10 {
		t.Errorf("%d bytes take %d", size, taken)
	}
	must(t, s.Close())
}

// usage is how long a backing file is, and what it takes on the disk.
func usage(t *testing.T, path string) (size, taken int64) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	return st.Size, st.Blocks * 512
}
