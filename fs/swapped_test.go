package fs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mithrilfs/mithrilfs/store"
)

// TestFramesSwappedBetweenFiles: a frame that is whole, of the same length, at
// the same place, but another file's, is EIO and named in the log; the rest of
// both files reads.
func TestFramesSwappedBetweenFiles(t *testing.T) {
	m := mountApart(t)
	weights := realWeights(t)
	names := []string{"epoch-1", "epoch-2"}
	files := [][]byte{weights[:2<<20], bytes.Clone(weights[:2<<20])}
	for i := 0; i < len(files[1]); i += 2 {
		files[1][i] ^= 0x10 // in the mantissa, which takes as much room whatever it is
	}
	for i, name := range names {
		must(t, os.WriteFile(m.path(name), files[i], 0o600))
	}
	m.unmount(t)
	frame := swapFrames(t, filepath.Join(m.backing, names[0]), filepath.Join(m.backing, names[1]), 1)
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
	for i, name := range names {
		f, err := os.Open(m.path(name))
		must(t, err)
		one := make([]byte, 1)
		if _, err := f.ReadAt(one, frame.Offset+frame.Logical/2); !isErrno(err, syscall.EIO) {
			t.Errorf("%s: in the other file's frame: %v", name, err)
		}
		for _, off := range []int64{0, 1 << 20, int64(len(files[i]) - 1)} {
			if _, err := f.ReadAt(one, off); err != nil || one[0] != files[i][off] {
				t.Errorf("%s: byte %d: %v", name, off, err)
			}
		}
		must(t, f.Close())
		m.says(t, fmt.Sprintf("%s: damaged container: frame %d (logical bytes %d to %d)", name, frame.Number, frame.Offset, frame.Offset+frame.Logical))
	}
}

// swapFrames gives each of two containers the other's i-th frame, record and
// all, and returns the first one's.
func swapFrames(t *testing.T, a, b string, i int) store.FrameReport {
	t.Helper()
	var frames [2][]store.FrameReport // the i-th, and the one behind it
	var data [2][]byte
	for k, name := range []string{a, b} {
		x, err := store.Inspect(name)
		must(t, err)
		frames[k] = x.Frames(i, 2)
		must(t, x.Close())
		data[k], err = os.ReadFile(name)
		must(t, err)
	}
	begin, end := frames[0][0].Position, frames[0][1].Position
	if frames[1][0].Position != begin || frames[1][1].Position != end {
		t.Fatalf("the frames are not at one place: %+v", frames)
	}
	if bytes.Equal(data[0][begin:end], data[1][begin:end]) {
		t.Fatal("the frames are equal")
	}
	piece := bytes.Clone(data[0][begin:end])
	copy(data[0][begin:end], data[1][begin:end])
	copy(data[1][begin:end], piece)
	must(t, os.WriteFile(a, data[0], 0o600))
	must(t, os.WriteFile(b, data[1], 0o600))
	return frames[0][0]
}
