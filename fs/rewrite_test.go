package fs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

func stateOf(t testing.TB, m *testMount, name string) store.Summary {
	t.Helper()
	x, err := store.Inspect(filepath.Join(m.backing, name))
	must(t, err)
	defer func() { must(t, x.Close()) }()
	return x.Summary()
}

// TestStoredAnewAtLastClose: a file that has become something else is stored as
// what it is by then, and clients see no change but in st_blocks.
func TestStoredAnewAtLastClose(t *testing.T) {
	weights := realWeights(t)[:4<<20]
	model := safetensorsFile(t)
	text := bytes.Repeat([]byte("step 12 loss 2.31\n"), 200_000)
	for _, c := range []struct {
		name   string
		write  func(t *testing.T, f *os.File) []byte
		format string
	}{
		{"out of order", func(t *testing.T, f *os.File) []byte {
			for at := len(model) - len(model)%(1<<20); at >= 0; at -= 1 << 20 {
				_, err := f.WriteAt(model[at:min(at+1<<20, len(model))], int64(at))
				must(t, err)
			}
			return model
		}, "safetensors"},
		{"grown from a small plain file", func(t *testing.T, f *os.File) []byte {
			_, err := f.Write(weights[:1000])
			must(t, err)
			must(t, f.Sync())
			_, err = f.Write(weights[1000:])
			must(t, err)
			return weights
		}, "numbers"},
		{"numbers become text", func(t *testing.T, f *os.File) []byte {
			_, err := f.Write(weights[:2<<20])
			must(t, err)
			must(t, f.Sync())
			_, err = f.WriteAt(text, 0)
			must(t, err)
			return text
		}, "plain"},
		{"mostly dead bytes", func(t *testing.T, f *os.File) []byte {
			for range 5 {
				_, err := f.WriteAt(weights, 0)
				must(t, err)
			}
			return weights
		}, "numbers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mountApart(t)
			f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0o640)
			must(t, err)
			want := c.write(t, f)
			when := time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC)
			must(t, os.Chtimes(m.path("f"), when, when))
			number, dirTime := inode(t, m.path("f")), mtime(t, m.point)
			r, err := os.Open(m.path("f"))
			must(t, err)
			must(t, f.Close())
			eventually(t, func() bool { return strings.Contains(m.log.String(), "stored anew") })
			checkFile(t, m.path("f"), want)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("who had it open reads %d bytes, %v", len(got), err)
			}
			must(t, r.Close())
			if inode(t, m.path("f")) != number || !mtime(t, m.path("f")).Equal(when) || !mtime(t, m.point).Equal(dirTime) {
				t.Error("inode, time or the directory's time changed")
			}
			s := stateOf(t, m, "f")
			if s.Format != c.format || s.Format != "plain" && s.Ratio < 1.4 {
				t.Errorf("%+v", s)
			}
			m = m.remount(t)
			checkFile(t, m.path("f"), want)
			if l := leftovers(t, m.backing); len(l) > 0 {
				t.Errorf("%v", l)
			}
		})
	}
}

// TestEndlessOverwritesGoPlain: a mapping that is stored to for ever does not
// fill the disk.
func TestEndlessOverwritesGoPlain(t *testing.T) {
	m := mountApart(t)
	want := bytes.Clone(realWeights(t)[:8<<20])
	must(t, os.WriteFile(m.path("f"), want, 0o600))
	f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
	must(t, err)
	b, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	largest := int64(0)
	for round := range 12 {
		for i := range b {
			b[i] ^= byte(round + 1)
			want[i] ^= byte(round + 1)
		}
		must(t, unix.Msync(b, unix.MS_SYNC))
		largest = max(largest, backingSize(t, m, "f"))
	}
	if largest > 120<<20 {
		t.Errorf("the backing file grew to %d MiB", largest>>20)
	}
	must(t, unix.Munmap(b))
	must(t, f.Close())
	checkFile(t, m.path("f"), want)
	m = m.remount(t)
	checkFile(t, m.path("f"), want)
	if size := backingSize(t, m, "f"); size > 10<<20 {
		t.Errorf("%d MiB are left", size>>20)
	}
}

// TestStoreAfterClose: what is stored to a mapping after close(2) is kept.
func TestStoreAfterClose(t *testing.T) {
	m := mountApart(t)
	want := bytes.Clone(realWeights(t)[:2<<20])
	must(t, os.WriteFile(m.path("f"), want, 0o600))
	f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
	must(t, err)
	b, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	must(t, f.Close())
	copy(b[100_000:], "kept")
	copy(want[100_000:], "kept")
	must(t, unix.Munmap(b))
	checkFile(t, m.path("f"), want)
	m = m.remount(t)
	checkFile(t, m.path("f"), want)
}
