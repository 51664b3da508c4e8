package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// TestRemoteSeesWhatInspectSees: asked through the mount, a file looks the same
// as in its backing directory.
func TestRemoteSeesWhatInspectSees(t *testing.T) {
	m := mountApart(t)
	saveLikeSafetensors(t, m.path("model"), safetensorsFile(t))
	must(t, os.WriteFile(m.path("config.json"), []byte("{}"), 0o600))
	m = m.remount(t)
	for _, name := range []string{"model", "config.json"} {
		r, err := InspectRemote(m.path(name))
		must(t, err)
		local, err := store.Inspect(filepath.Join(m.backing, name))
		must(t, err)
		a, b := r.Summary(), local.Summary()
		a.Path, b.Path = "", ""
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%+v through the mount, %+v in the backing directory", a, b)
		}
		frames := allFrames(t, r)
		if want := local.Frames(0, 1<<20); fmt.Sprint(frames) != fmt.Sprint(want) {
			t.Errorf("%s: %d frames, want %d, or others", name, len(frames), len(want))
		}
		var tensors []store.TensorReport
		for {
			page, err := r.Tensors(len(tensors), 1<<20)
			must(t, err)
			if len(page) == 0 {
				break
			}
			tensors = append(tensors, page...)
		}
		if want := local.Tensors(0, 1<<20); fmt.Sprint(tensors) != fmt.Sprint(want) {
			t.Errorf("%s: %d tensors, want %d, or others", name, len(tensors), len(want))
		}
		for i := range frames {
			must(t, r.Check(i))
		}
		if err := r.Check(len(frames)); !errors.Is(err, unix.EINVAL) {
			t.Errorf("a frame that is not there: %v", err)
		}
		must(t, r.Close())
		must(t, local.Close())
	}
}

func allFrames(t *testing.T, r *Remote) []store.FrameReport {
	t.Helper()
	var frames []store.FrameReport
	for {
		page, err := r.Frames(len(frames), 1<<20)
		must(t, err)
		if len(page) == 0 {
			return frames
		}
		frames = append(frames, page...)
	}
}

func TestUnknownIoctl(t *testing.T) {
	m := mountOver(t)
	must(t, os.WriteFile(m.path("f"), []byte("x"), 0o600))
	for _, name := range []string{m.path("f"), m.point} {
		f, err := os.Open(name)
		must(t, err)
		var page [pageSize]byte
		for _, request := range []uint32{ioctlNumber(99), 0x5401, ioctlNumber(0)} {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&page[0])))
			if errno != syscall.ENOTTY {
				t.Errorf("%s: request %x: %v", name, request, errno)
			}
		}
		must(t, f.Close())
	}
	if _, err := InspectRemote(os.Args[0]); !errors.Is(err, ErrNotMounted) {
		t.Errorf("a file elsewhere: %v", err)
	}
}

// TestDamageThroughTheMount: damaged bytes are EIO, the rest reads, the log and
// the checks name file, tensor and frame.
func TestDamageThroughTheMount(t *testing.T) {
	m := mountApart(t)
	file := safetensorsFile(t)
	saveLikeSafetensors(t, m.path("model"), file)
	saveLikeSafetensors(t, m.path("headless"), file)
	m.unmount(t)
	x, err := store.Inspect(filepath.Join(m.backing, "model"))
	must(t, err)
	frame := x.Frames(5, 1)[0]
	must(t, x.Close())
	flip(t, filepath.Join(m.backing, "model"), frame.Position+100)
	flip(t, filepath.Join(m.backing, "headless"), 100)
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)

	f, err := os.Open(m.path("model"))
	must(t, err)
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, frame.Offset); !isErrno(err, syscall.EIO) {
		t.Errorf("in the damaged frame: %v", err)
	}
	behind := (frame.Offset + frame.Logical + 4095) &^ 4095 // the kernel reads whole pages
	if _, err := f.ReadAt(one, behind); err != nil || one[0] != file[behind] {
		t.Errorf("behind the damaged frame: %v", err)
	}
	must(t, f.Close())
	m.says(t, fmt.Sprintf("model: tensor %s: damaged container: frame %d (logical bytes %d to %d)", frame.Tensor, frame.Number, frame.Offset, frame.Offset+frame.Logical))
	r, err := InspectRemote(m.path("model"))
	must(t, err)
	for i := range allFrames(t, r) {
		if err := r.Check(i); (err != nil) != (i == 5) {
			t.Errorf("check of frame %d: %v", i, err)
		}
	}
	must(t, r.Close())

	if _, err := os.ReadFile(m.path("headless")); !isErrno(err, syscall.EIO) {
		t.Errorf("a damaged header: %v", err)
	}
	r, err = InspectRemote(m.path("headless"))
	must(t, err)
	if s := r.Summary(); s.State != store.StateDamaged || !strings.Contains(s.Problem, "damaged container: header at byte 0: its checksum does not match") {
		t.Errorf("%+v", s)
	}
	// It can be written anew, and removed.
	must(t, os.WriteFile(m.path("headless"), file, 0o600))
	checkFile(t, m.path("headless"), file)
}

func flip(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	must(t, err)
	must(t, f.Close())
}
