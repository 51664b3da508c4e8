package fs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func inode(t testing.TB, name string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(name, &st))
	return st.Ino
}

// leftovers lists names that only the store should know, in a whole tree.
func leftovers(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), ".mithrilfs-new") {
			found = append(found, name)
		}
		return err
	}))
	return found
}

// TestReplaceInPlace: O_TRUNC over a checkpoint keeps the old one until the new
// one is whole, and clients notice nothing: one inode, one name.
func TestReplaceInPlace(t *testing.T) {
	m := mountApart(t)
	first := safetensorsFile(t)
	second := bytes.Clone(first[:6<<20])
	saveLikeSafetensors(t, m.path("model"), first)
	must(t, os.Chmod(m.path("model"), 0o641))
	must(t, unix.Setxattr(m.path("model"), "user.origin", []byte("here"), 0))
	number := inode(t, m.path("model"))
	dirTime := mtime(t, m.point)
	r, err := os.Open(m.path("model"))
	must(t, err)

	f, err := os.Create(m.path("model"))
	must(t, err)
	if b, err := os.ReadFile(m.path("model")); err != nil || len(b) != 0 {
		t.Errorf("emptied, it has %d bytes, %v", len(b), err)
	}
	_, err = f.Write(second)
	must(t, err)
	checkFile(t, m.path("model"), second)
	if n := backingSize(t, m, "model"); n < 6<<20 {
		t.Errorf("the old file has gone: %d bytes under its name", n)
	}
	entries, err := os.ReadDir(m.point)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("clients see %v", entries)
	}
	must(t, f.Close())
	eventually(t, func() bool { return backingSize(t, m, "model") < 6<<20 })
	checkFile(t, m.path("model"), second)
	for name, got := range map[string]uint64{"stat": inode(t, m.path("model")), "readdir": direntNumber(t, m.point, "model")} {
		if got != number {
			t.Errorf("the inode number is %d by %s, it was %d", got, name, number)
		}
	}
	if got := mtime(t, m.point); !got.Equal(dirTime) {
		t.Errorf("the directory's time changed from %v to %v", dirTime, got)
	}
	var st unix.Stat_t
	must(t, unix.Stat(m.path("model"), &st))
	value := make([]byte, 10)
	n, err := unix.Getxattr(m.path("model"), "user.origin", value)
	if st.Mode&0o7777 != 0o641 || err != nil || string(value[:n]) != "here" {
		t.Errorf("mode %o, attribute %q %v", st.Mode, value, err)
	}
	got := make([]byte, 100)
	if _, err := r.ReadAt(got, 0); err != nil || !bytes.Equal(got, second[:100]) {
		t.Errorf("who had it open reads %v", err)
	}
	must(t, r.Close())
	// A new file may get the number of the replaced inode, and must not be it.
	for range 20 {
		name := filepath.Join(m.point, "other")
		must(t, os.WriteFile(name, []byte("x"), 0o600))
		listed := direntNumber(t, m.point, "other") // before anybody asks for its attributes
		if inode(t, name) == number || listed != inode(t, name) || direntNumber(t, m.point, "model") != number {
			t.Fatal("two files have one number, or one has two")
		}
		must(t, os.Remove(name))
	}
	m.unmount(t)
	if l := leftovers(t, m.backing); len(l) > 0 {
		t.Errorf("%v", l)
	}
}

func direntNumber(t testing.TB, dir, name string) uint64 {
	t.Helper()
	d, err := os.Open(dir)
	must(t, err)
	defer func() { must(t, d.Close()) }()
	buf := make([]byte, 1<<16)
	n, err := unix.ReadDirent(int(d.Fd()), buf)
	must(t, err)
	for buf = buf[:n]; len(buf) > 0; {
		reclen := int(buf[16]) | int(buf[17])<<8
		entry := buf[:reclen]
		if got, _, _ := bytes.Cut(entry[19:], []byte{0}); string(got) == name {
			var number uint64
			for i := 7; i >= 0; i-- {
				number = number<<8 | uint64(entry[i])
			}
			return number
		}
		buf = buf[reclen:]
	}
	t.Fatalf("no %s in %s", name, dir)
	return 0
}

func mtime(t testing.TB, name string) time.Time {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(name, &st))
	return time.Unix(st.Mtim.Unix())
}

// eventually waits for what the daemon does after close(2) has returned.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it does not happen")
}

// TestReplacementDiesWithDaemon: the old file is there, and nothing else.
func TestReplacementDiesWithDaemon(t *testing.T) {
	m := mountApart(t)
	must(t, os.MkdirAll(m.path("a/b"), 0o700))
	old := safetensorsFile(t)
	saveLikeSafetensors(t, m.path("a/b/model"), old)
	f, err := os.Create(m.path("a/b/model"))
	must(t, err)
	_, err = f.Write(old[:5<<20])
	must(t, err)
	must(t, m.cmd.Process.Kill())
	e := <-m.exited
	m.exited <- e
	_ = f.Close()
	must(t, unix.Unmount(m.point, unix.MNT_DETACH))
	if l := leftovers(t, m.backing); len(l) != 2 { // the sibling and its note
		t.Fatalf("%v", l)
	}
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
	checkFile(t, m.path("a/b/model"), old)
	if l := leftovers(t, m.backing); len(l) != 0 {
		t.Errorf("%v", l)
	}
	m.says(t, "removed unfinished replacements of a daemon that died")
}

// TestReplacementAndNames: what happens to the name while a replacement is
// under way.
func TestReplacementAndNames(t *testing.T) {
	file := safetensorsFile(t)[:2<<20]
	for _, c := range []struct {
		name string
		do   func(m *testMount, f *os.File) error
		want map[string][]byte
	}{
		{"unlink", func(m *testMount, _ *os.File) error { return os.Remove(m.path("f")) }, map[string][]byte{}},
		{"rename", func(m *testMount, _ *os.File) error { return os.Rename(m.path("f"), m.path("g")) }, map[string][]byte{"g": file}},
		{"link", func(m *testMount, _ *os.File) error { return os.Link(m.path("f"), m.path("g")) }, map[string][]byte{"f": file, "g": file}},
		{"replaced by rename", func(m *testMount, _ *os.File) error { return os.Rename(m.path("other"), m.path("f")) }, map[string][]byte{"f": []byte("other")}},
		{"fsync", func(_ *testMount, f *os.File) error { return f.Sync() }, map[string][]byte{"f": file}},
		{"truncated again", func(m *testMount, _ *os.File) error { return os.Truncate(m.path("f"), 0) }, map[string][]byte{"f": file[:0]}},
		{"chmod", func(m *testMount, _ *os.File) error { return os.Chmod(m.path("f"), 0o640) }, map[string][]byte{"f": file}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mountApart(t)
			must(t, os.WriteFile(m.path("f"), bytes.Repeat([]byte("old"), 1000), 0o600))
			must(t, os.WriteFile(m.path("other"), []byte("other"), 0o600))
			f, err := os.Create(m.path("f"))
			must(t, err)
			_, err = f.Write(file)
			must(t, err)
			must(t, c.do(m, f))
			must(t, f.Close())
			for range 2 {
				for _, name := range []string{"f", "g"} {
					got, err := os.ReadFile(m.path(name))
					want, there := c.want[name]
					if there != (err == nil) || there && !bytes.Equal(got, want) {
						t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
					}
				}
				m = m.remount(t)
			}
			if l := leftovers(t, m.backing); len(l) > 0 {
				t.Errorf("%v", l)
			}
		})
	}
}
