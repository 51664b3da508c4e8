package fs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisks are filesystems that are soon full.
var smallDisks = map[string]func(testing.TB) *testDisk{
	"ext4":  func(t testing.TB) *testDisk { return newDisk(t, 24) },
	"tmpfs": func(t testing.TB) *testDisk { return newTmpfs(t, "16m") },
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// tooLarge are files that none of smallDisks can hold.
func tooLarge(t testing.TB) map[string][]byte {
	weights := realWeights(t)
	return map[string][]byte{
		"noise":   noise(40 << 20),
		"weights": bytes.Repeat(weights, 5),
	}
}

// saveAll writes like any program, and says which call failed.
func saveAll(name string, flags int, data []byte, sync bool) (call string, err error) {
	f, err := os.OpenFile(name, flags|os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "open", err
	}
	for len(data) > 0 && err == nil {
		n := min(len(data), 1<<20)
		_, err = f.Write(data[:n])
		data = data[n:]
	}
	call = "write"
	if err == nil && sync {
		call, err = "fsync", f.Sync()
	}
	if e := f.Close(); err == nil {
		call, err = "close", e
	}
	return call, err
}

// TestFullDisk: a full disk is an error that the saving program gets; the old
// file survives; and what is unlinked makes room.
func TestFullDisk(t *testing.T) {
	for kind, data := range tooLarge(t) {
		for disk, make := range smallDisks {
			for _, sync := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/sync %v", disk, kind, sync), func(t *testing.T) { fillDisk(t, make(t), data, sync) })
			}
		}
	}
}

func fillDisk(t *testing.T, disk *testDisk, data []byte, sync bool) {
	m := startMount(t, daemonOrder{Dir: disk.backing(t), Point: t.TempDir()}, nil)
	must(t, os.MkdirAll(m.path("run/last"), 0o700))
	old := safetensorsFile(t)[:4<<20]
	model, other := m.path("run/last/model"), m.path("run/last/other")
	must(t, os.WriteFile(model, old, 0o600))
	must(t, os.WriteFile(other, old[:100_000], 0o600))
	settle(t, m)
	free := disk.free(t)
	full := func(how, name string, flags int) {
		call, err := saveAll(name, flags, data, sync)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %s says %v", how, call, err)
		}
		checkFile(t, other, old[:100_000])
	}
	full("a new file", m.path("run/last/new"), os.O_EXCL)
	checkFile(t, model, old)
	// What is there of it is a prefix, and goes away.
	eventuallyBegins(t, m.path("run/last/new"), data)
	must(t, os.Remove(m.path("run/last/new")))
	room(t, disk, m, free)
	// Written over the old one, twice: the first failure must not make the second
	// one worse.
	for range 2 {
		full("written over an old one", model, os.O_TRUNC)
		eventuallyFile(t, model, old)
		room(t, disk, m, free)
	}
	// The disk is full to the last byte when the program begins to write over it.
	fill := fillUp(t, disk)
	call, err := saveAll(model, os.O_TRUNC, data, sync)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("on a disk that was full before: %s says %v", call, err)
	}
	eventuallyFile(t, model, old)
	must(t, os.Remove(fill))
	room(t, disk, m, free)
	// Something smaller fits.
	small := realWeights(t)[1<<20 : 4<<20]
	call, err = saveAll(model, os.O_TRUNC, small, true)
	if err != nil {
		t.Fatalf("there is room now: %s says %v", call, err)
	}
	for range 2 {
		checkFile(t, model, small)
		checkFile(t, other, old[:100_000])
		m = m.remount(t)
	}
	if l := leftovers(t, m.backing); len(l) > 0 {
		t.Errorf("%v", l)
	}
}

// TestFullDiskEdit: an edit that does not fit is an error, and what was there
// before it still is.
func TestFullDiskEdit(t *testing.T) {
	for name, make := range smallDisks {
		t.Run(name, func(t *testing.T) {
			disk := make(t)
			m := startMount(t, daemonOrder{Dir: disk.backing(t), Point: t.TempDir()}, nil)
			must(t, os.WriteFile(m.path("f"), realWeights(t)[:6<<20], 0o600))
			settle(t, m)
			fill := fillUp(t, disk)
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			edit := noise(3 << 20)
			_, err = f.WriteAt(edit, 1<<20)
			if err == nil {
				err = f.Sync()
			}
			if e := f.Close(); err == nil {
				err = e
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("nothing says that the disk is full: %v", err)
			}
			want := &image{base: realWeights(t)[:6<<20], log: []change{{data: edit, off: 1 << 20}}}
			for i := range 2 {
				got, err := readThrough(m.path("f"))
				if err != nil && i > 0 {
					t.Errorf("it can't be read: %v", err)
				}
				if why := want.explain(got, 0, false, false); err == nil && why != "" {
					t.Error(why)
				}
				settle(t, m) // or the daemon would end with the error of the last close
				m = m.remount(t)
			}
			must(t, os.Remove(fill))
			must(t, os.WriteFile(m.path("f"), realWeights(t)[:1<<20], 0o600))
			checkFile(t, m.path("f"), realWeights(t)[:1<<20])
		})
	}
}

// settle waits until what the daemon does after close(2) is done.
func settle(t testing.TB, m *testMount) {
	t.Helper()
	eventually(t, func() bool { return len(leftovers(t, m.backing)) == 0 })
	time.Sleep(50 * time.Millisecond)
}

// room waits until as much is free as before, about.
func room(t testing.TB, disk *testDisk, m *testMount, before int64) {
	t.Helper()
	for range 200 {
		unix.Sync() // ext4 counts what it has not given back yet
		if disk.free(t) > before-512<<10 && len(leftovers(t, m.backing)) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d bytes are free, %d were; leftovers %v", disk.free(t), before, leftovers(t, m.backing))
}

// eventuallyBegins waits until name can be read, and compares it with the first
// bytes of want. A file whose close failed answers reads of what was lost with
// the error until it is released, which comes after close(2).
func eventuallyBegins(t testing.TB, name string, want []byte) []byte {
	t.Helper()
	var got []byte
	var err error
	for range 100 {
		if got, err = os.ReadFile(name); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil || !bytes.HasPrefix(want, got) {
		t.Errorf("%s has %d bytes that are not the first of %d, %v", name, len(got), len(want), err)
	}
	return got
}

func eventuallyFile(t testing.TB, name string, want []byte) {
	t.Helper()
	var got []byte
	var err error
	for range 100 {
		if got, err = os.ReadFile(name); err == nil && bytes.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s has %d bytes, want the %d it had: %v", name, len(got), len(want), err)
}

// fillUp leaves no block free, outside of the mount.
func fillUp(t testing.TB, disk *testDisk) string {
	t.Helper()
	name := filepath.Join(disk.dir, "fill")
	f, err := os.Create(name)
	must(t, err)
	for n := 1 << 20; n >= 512; {
		if _, err := f.Write(make([]byte, n)); err != nil {
			n /= 2
		}
	}
	_ = f.Sync()
	_ = f.Close()
	return name
}

// TestBackingTurnsReadOnly: what ext4 does after an error of the disk.
func TestBackingTurnsReadOnly(t *testing.T) {
	disk := newTmpfs(t, "64m")
	m := startMount(t, daemonOrder{Dir: disk.backing(t), Point: t.TempDir()}, nil)
	old := safetensorsFile(t)[:4<<20]
	must(t, os.WriteFile(m.path("f"), old, 0o600))
	must(t, os.WriteFile(m.path("g"), old, 0o600))
	settle(t, m)
	// The daemon has it open for reading only, so that it can turn.
	r, err := os.Open(m.path("f"))
	must(t, err)
	must(t, unix.Mount("", disk.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for what, do := range map[string]func() error{
		"create":   func() error { return os.WriteFile(m.path("new"), old, 0o600) },
		"write":    func() error { return os.WriteFile(m.path("f"), old, 0o600) },
		"rename":   func() error { return os.Rename(m.path("f"), m.path("g")) },
		"unlink":   func() error { return os.Remove(m.path("f")) },
		"truncate": func() error { return os.Truncate(m.path("f"), 10) },
		"mkdir":    func() error { return os.Mkdir(m.path("dir"), 0o700) },
		"chmod":    func() error { return os.Chmod(m.path("f"), 0o644) },
		"link":     func() error { return os.Link(m.path("f"), m.path("h")) },
	} {
		if err := do(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
	checkFile(t, m.path("f"), old)
	checkFile(t, m.path("g"), old)
	must(t, r.Close())
	must(t, unix.Mount("", disk.dir, "", unix.MS_REMOUNT, "size=64m"))
	must(t, os.WriteFile(m.path("f"), old[:1<<20], 0o600))
	checkFile(t, m.path("f"), old[:1<<20])
}

// TestBackingStaysReadOnly: a directory on a read-only filesystem can be
// mounted for reading.
func TestBackingStaysReadOnly(t *testing.T) {
	disk := newTmpfs(t, "64m")
	o := daemonOrder{Dir: disk.backing(t), Point: t.TempDir()}
	m := startMount(t, o, nil)
	old := safetensorsFile(t)[:4<<20]
	must(t, os.WriteFile(m.path("f"), old, 0o600))
	// One file is left half written over.
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.Write(old[:2<<20])
	must(t, err)
	must(t, m.cmd.Process.Kill())
	m.died(t)
	_ = f.Close()
	must(t, unix.Mount("", disk.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	o.ReadOnly = true
	m = startMount(t, o, nil)
	checkFile(t, m.path("f"), old)
	entries, err := os.ReadDir(m.point)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("%v", entries)
	}
	m.unmount(t)
}

// TestTooManyOpenFiles: a daemon that may not open more files says so, loses
// nothing, and goes on once some are closed.
func TestTooManyOpenFiles(t *testing.T) {
	m := startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}, func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-c", `ulimit -n 48; exec "$0"`, cmd.Path}
		cmd.Path = "/bin/sh"
	})
	old := safetensorsFile(t)[:1<<20]
	must(t, os.WriteFile(m.path("model"), old, 0o600))
	must(t, os.Mkdir(m.path("dir"), 0o700))
	settle(t, m)
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		var f *os.File
		if f, err = os.Create(m.path(fmt.Sprintf("f%d", i))); err == nil {
			open = append(open, f)
			_, err = f.Write(old[:70_000+i])
		}
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("after %d files: %v", len(open), err)
	}
	// Nothing but that happens to other files either.
	for what, do := range map[string]func() error{
		"read":     func() error { _, err := os.ReadFile(m.path("model")); return err },
		"replace":  func() error { return os.WriteFile(m.path("model"), old[:100_000], 0o600) },
		"truncate": func() error { return os.Truncate(m.path("model"), 1000) },
		"create":   func() error { return os.WriteFile(m.path("dir/new"), old, 0o600) },
	} {
		if err := do(); err != nil && !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, f := range open {
		if err := f.Close(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	n := len(open)
	open = nil
	settle(t, m)
	for i := range n - 1 { // the last one's write failed, perhaps
		checkFile(t, m.path(fmt.Sprintf("f%d", i)), old[:70_000+i])
	}
	must(t, os.WriteFile(m.path("dir/later"), old, 0o600))
	checkFile(t, m.path("dir/later"), old)
	for range 100 {
		if _, err := os.ReadFile(m.path("model")); err != nil {
			t.Fatal(err)
		}
	}
	m = m.remount(t)
	if l := leftovers(t, m.backing); len(l) > 0 {
		t.Errorf("%v", l)
	}
}

// TestReplaceFailsWhole: what can't be saved beside the old file for want of
// descriptors or space must not cost the old one.
func TestReplaceFailsWhole(t *testing.T) {
	m := startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}, func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-c", `ulimit -n 48; exec "$0"`, cmd.Path}
		cmd.Path = "/bin/sh"
	})
	old := safetensorsFile(t)[:1<<20]
	must(t, os.Mkdir(m.path("dir"), 0o700))
	must(t, os.WriteFile(m.path("dir/model"), old, 0o600))
	must(t, os.WriteFile(m.path("dir/holder"), old, 0o600))
	settle(t, m)
	var open []*os.File
	for i := range 60 {
		f, err := os.Create(m.path(fmt.Sprintf("f%d", i)))
		if err != nil {
			break
		}
		open = append(open, f)
	}
	// With one descriptor after the other given back, each step of the
	// replacement is once the first that fails.
	for i := 0; len(open) > 0 && i < 12; i++ {
		f, err := os.OpenFile(m.path("dir/model"), os.O_RDWR|os.O_TRUNC, 0)
		if err == nil {
			_ = f.Close()
			break
		}
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v", err)
		}
		_ = open[0].Close()
		open = open[1:]
		time.Sleep(20 * time.Millisecond)
		if got, err := os.ReadFile(m.path("dir/model")); err == nil && !bytes.Equal(got, old) {
			t.Fatalf("with %d descriptors given back, the old file has %d bytes", i+1, len(got))
		}
	}
	for _, f := range open {
		_ = f.Close()
	}
}
