package fs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realWeights are 10 MB of trained bf16 weights.
func realWeights(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/checkpoints/small_model.bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// safetensorsFile is a file of bf16 tensors that hold the real weights.
func safetensorsFile(t testing.TB) []byte {
	t.Helper()
	data := realWeights(t)
	sizes := []int{384 * 2, 384 * 384 * 2, 1536 * 384 * 2, 768, 2, 1000 * 2}
	var entries []string
	at := 0
	for i := 0; at < len(data); i++ {
		n := min(sizes[i%len(sizes)], len(data)-at)
		entries = append(entries, fmt.Sprintf(`"layer.%d.weight":{"dtype":"BF16","shape":[%d],"data_offsets":[%d,%d]}`, i, n/2, at, at+n))
		at += n
	}
	header := []byte(`{"__metadata__":{"format":"pt"},` + strings.Join(entries, ",") + "}")
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(file, header...), data...)
}

// saveLikeSafetensors makes the system calls of safetensors 0.8.
func saveLikeSafetensors(t testing.TB, name string, file []byte) {
	t.Helper()
	temporary := filepath.Join(filepath.Dir(name), ".tmp"+filepath.Base(name))
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	must(t, f.Truncate(int64(len(file))))
	for _, n := range []int{8112, 80, 1 << 20, 300, 5 << 20, 1 << 30} {
		n = min(n, len(file))
		_, err := f.Write(file[:n])
		must(t, err)
		file = file[n:]
	}
	must(t, os.Rename(temporary, name))
	must(t, f.Close())
}

func checkFile(t testing.TB, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes, want %d, or others", name, len(got), len(want))
	}
}

// checkMapped reads through a mapping.
func checkMapped(t testing.TB, name string, want []byte) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	b, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(b)) }()
	if !bytes.Equal(b, want) {
		t.Fatalf("%s: the mapping differs", name)
	}
}

func backingSize(t testing.TB, m *testMount, name string) int64 {
	t.Helper()
	if m.backing == m.point {
		t.Fatal("the backing directory is hidden")
	}
	st, err := os.Stat(filepath.Join(m.backing, name))
	must(t, err)
	return st.Size()
}

// mountApart mounts a fresh directory elsewhere, so that a test sees both.
func mountApart(t testing.TB) *testMount {
	t.Helper()
	return startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}, nil)
}

func TestSaveAndLoad(t *testing.T) {
	file := safetensorsFile(t)
	for name, mount := range map[string]func(testing.TB) *testMount{"over itself": mountOver, "apart": mountApart} {
		t.Run(name, func(t *testing.T) {
			m := mount(t)
			saveLikeSafetensors(t, m.path("model.safetensors"), file)
			checkFile(t, m.path("model.safetensors"), file)
			checkMapped(t, m.path("model.safetensors"), file)
			m = m.remount(t)
			checkFile(t, m.path("model.safetensors"), file)
			checkMapped(t, m.path("model.safetensors"), file)
			m.unmount(t)
			b, err := os.ReadFile(filepath.Join(m.backing, "model.safetensors"))
			must(t, err)
			if ratio := float64(len(file)) / float64(len(b)); ratio < 1.49 {
				t.Errorf("ratio %.3f", ratio)
			}
		})
	}
}

// TestReadWhileWriting: a reader sees every byte written so far, and zeros in
// the declared tail.
func TestReadWhileWriting(t *testing.T) {
	m := mountOver(t)
	file := safetensorsFile(t)
	w, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	must(t, w.Truncate(int64(len(file))))
	r, err := os.Open(m.path("f"))
	must(t, err)
	want := make([]byte, len(file))
	for at := 0; at < len(file); {
		n := min(777_777, len(file)-at)
		_, err := w.Write(file[at : at+n])
		must(t, err)
		copy(want[at:], file[at:at+n])
		at += n
		for _, f := range []*os.File{r, w} {
			got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(file))))
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Fatalf("after %d bytes: the reader sees others", at)
			}
		}
	}
	must(t, w.Close())
	must(t, r.Close())
	checkFile(t, m.path("f"), file)
}

// TestSmallFilesStayPlain: what is not worth a container is readable without a
// mount, and so is what is not numbers.
func TestSmallFilesStayPlain(t *testing.T) {
	m := mountApart(t)
	text := bytes.Repeat([]byte(`{"loss": 2.31, "epoch": 1},`+"\n"), 100_000)
	for name, data := range map[string][]byte{"config.json": []byte("{}"), "log.jsonl": text, "empty": {}} {
		must(t, os.WriteFile(m.path(name), data, 0o644))
		checkFile(t, m.path(name), data)
		checkFile(t, filepath.Join(m.backing, name), data)
	}
}

// TestPartialWrites writes in every way but from beginning to end.
func TestPartialWrites(t *testing.T) {
	m := mountApart(t)
	weights := realWeights(t)[:3<<20]
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		name := fmt.Sprintf("f%d", seed)
		f, err := os.OpenFile(m.path(name), os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		want := bytes.Clone(weights)
		_, err = f.Write(want)
		must(t, err)
		for range 40 {
			switch off := r.Int64N(int64(len(want)) + 1000); r.IntN(8) {
			case 0:
				must(t, f.Truncate(off))
				want = append(want, make([]byte, max(0, off-int64(len(want))))...)[:off]
			case 1:
				must(t, f.Sync())
			case 2:
				must(t, f.Close())
				if r.IntN(2) == 0 {
					m = m.remount(t)
				}
				f, err = os.OpenFile(m.path(name), os.O_RDWR, 0)
				must(t, err)
			default:
				p := weights[off/2 : off/2+r.Int64N(int64(len(weights))/2-off/2+1)]
				p = p[:min(len(p), 200_000)]
				_, err := f.WriteAt(p, off)
				must(t, err)
				want = append(want, make([]byte, max(0, int(off)+len(p)-len(want)))...)
				copy(want[off:], p)
			}
		}
		checkFile(t, m.path(name), want)
		must(t, f.Close())
		checkFile(t, m.path(name), want)
	}
	m = m.remount(t)
	m.unmount(t)
}

// TestContainerInsideMount: a copied container is a file like any other.
func TestContainerInsideMount(t *testing.T) {
	m := mountApart(t)
	saveLikeSafetensors(t, m.path("model"), safetensorsFile(t))
	m = m.remount(t) // it is sealed now
	inner, err := os.ReadFile(filepath.Join(m.backing, "model"))
	must(t, err)
	for name, data := range map[string][]byte{"copy": inner, "cut": inner[:200], "short": inner[:60<<10]} {
		must(t, os.WriteFile(m.path(name), data, 0o600))
		checkFile(t, m.path(name), data)
		m = m.remount(t)
		checkFile(t, m.path(name), data)
		if backingSize(t, m, name) <= int64(len(data)) {
			t.Errorf("%s: stored plain, or taken for a container", name)
		}
	}
	// A plain file that is edited to begin like one.
	must(t, os.WriteFile(m.path("plain"), make([]byte, 1000), 0o600))
	f, err := os.OpenFile(m.path("plain"), os.O_RDWR, 0)
	must(t, err)
	if _, err := f.WriteAt(inner[:100], 0); err != nil && !isErrno(err, syscall.EOPNOTSUPP) {
		t.Error(err)
	}
	must(t, f.Close())
}

func isErrno(err error, e syscall.Errno) bool { return strings.HasSuffix(fmt.Sprint(err), e.Error()) }

// TestAttributes: what ls, du and cp -a see and set.
func TestAttributes(t *testing.T) {
	m := mountOver(t)
	file := safetensorsFile(t)
	name := m.path("f")
	old := time.Date(2020, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	must(t, err)
	_, err = f.Write(file)
	must(t, err)
	// cp -a sets the time before it closes the file.
	must(t, unix.Futimes(int(f.Fd()), []unix.Timeval{unix.NsecToTimeval(old.UnixNano()), unix.NsecToTimeval(old.UnixNano())}))
	must(t, f.Close())
	for range 2 {
		var st unix.Stat_t
		must(t, unix.Stat(name, &st))
		if st.Size != int64(len(file)) || st.Mode != unix.S_IFREG|0o640 || st.Nlink != 1 {
			t.Errorf("size %d mode %o links %d", st.Size, st.Mode, st.Nlink)
		}
		if blocks := st.Blocks * 512; blocks > st.Size*3/4 || blocks < st.Size/2 {
			t.Errorf("%d bytes of blocks for %d bytes", blocks, st.Size)
		}
		if got := time.Unix(st.Mtim.Unix()); !got.Equal(old) {
			t.Errorf("mtime %v, want %v", got, old)
		}
		must(t, os.Chmod(name, 0o640))
		m = m.remount(t)
	}
	must(t, os.Truncate(name, 12345))
	checkFile(t, name, file[:12345])
	must(t, os.Truncate(name, 0))
	checkFile(t, name, nil)
}

// TestOpenFilesAreSealedAtTheEnd: unmounted, or told to go, the daemon leaves
// whole files.
func TestOpenFilesAreSealedAtTheEnd(t *testing.T) {
	file := safetensorsFile(t)
	m := startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir()}, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.Write(file)
	must(t, err)
	must(t, m.cmd.Process.Signal(syscall.SIGTERM))
	m.wait(t)
	_ = f.Close() // there is nobody to answer any more
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
	checkFile(t, m.path("f"), file)
	r, err := InspectRemote(m.path("f"))
	must(t, err)
	if s := r.Summary(); s.State != "sealed" || s.Format != "safetensors" {
		t.Errorf("%+v", s)
	}
	must(t, r.Close())
}

// TestKilledDaemonKeepsWhatWasClosed.
func TestKilledDaemonKeepsWhatWasClosed(t *testing.T) {
	file := safetensorsFile(t)
	m := mountApart(t)
	saveLikeSafetensors(t, m.path("closed"), file)
	f, err := os.Create(m.path("open"))
	must(t, err)
	_, err = f.Write(file)
	must(t, err)
	must(t, m.cmd.Process.Kill())
	<-m.exited
	m.exited <- exit{}
	_ = f.Close()
	must(t, unix.Unmount(m.point, unix.MNT_DETACH))
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point}, nil)
	checkFile(t, m.path("closed"), file)
	got, err := os.ReadFile(m.path("open"))
	must(t, err)
	if !bytes.Equal(got, file[:len(got)]) {
		t.Error("the file that was being written is no prefix")
	}
}

func TestSecondUserCannotReadPrivateFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: it takes root to be two users")
	}
	dir, err := os.MkdirTemp("", "mithrilfs-test") // t.TempDir is for root only
	must(t, err)
	defer func() { must(t, os.RemoveAll(dir)) }()
	must(t, os.Chmod(dir, 0o777))
	m := startMount(t, daemonOrder{Dir: dir, AllowOther: true}, nil)
	defer m.unmount(t)
	secret := safetensorsFile(t)
	must(t, os.WriteFile(m.path("secret"), secret, 0o600))
	must(t, os.WriteFile(m.path("public"), secret, 0o644))
	if out, err := as(65534, "cat", m.path("secret")); err == nil || len(out) > 1000 {
		t.Errorf("another user read a 0600 file: %v", err)
	}
	out, err := as(65534, "sha256sum", m.path("public"))
	if want := fmt.Sprintf("%x", sha256.Sum256(secret)); err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("another user can't read a 0644 file: %v %s", err, out)
	}
	if out, err := as(65534, "sh", "-c", "umask 027; echo hi > "+m.path("mine")+"; mkdir "+m.path("dir")); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for name, mode := range map[string]uint32{"mine": 0o640, "dir": 0o750} {
		var st unix.Stat_t
		must(t, unix.Stat(m.path(name), &st))
		if st.Uid != 65534 || st.Gid != 65534 || st.Mode&0o7777 != mode {
			t.Errorf("%s: owner %d group %d mode %o", name, st.Uid, st.Gid, st.Mode)
		}
	}
}

// as runs a command as another user.
func as(uid uint32, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.CombinedOutput()
}

// TestReadOnly: nothing can be changed, and what is there can be read.
func TestReadOnly(t *testing.T) {
	m := mountApart(t)
	file := safetensorsFile(t)
	saveLikeSafetensors(t, m.path("f"), file)
	m.unmount(t)
	m = startMount(t, daemonOrder{Dir: m.backing, Point: m.point, ReadOnly: true}, nil)
	checkFile(t, m.path("f"), file)
	if err := os.WriteFile(m.path("g"), []byte("x"), 0o600); !isErrno(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(m.path("f")); !isErrno(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
}

// TestPrivateDirIsHidden: what the store keeps for itself is not for clients.
func TestPrivateDirIsHidden(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, ".mithrilfs/bases"), 0o700))
	m := startMount(t, daemonOrder{Dir: dir}, nil)
	entries, err := os.ReadDir(m.point)
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("%v", entries)
	}
	if _, err := os.Stat(m.path(".mithrilfs")); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(m.path(".mithrilfs"), 0o700); !isErrno(err, syscall.EPERM) {
		t.Errorf("%v", err)
	}
}
