package fs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// rotator is the Trainer's function that removes old checkpoints.
type rotator struct {
	in   io.Writer
	out  *bufio.Reader
	errs *lockedBuffer
}

func startRotator(t *testing.T, keep int) *rotator {
	t.Helper()
	r := &rotator{errs: &lockedBuffer{}}
	cmd := exec.Command(python(t), "-B", "../testdata/clients/rotate_checkpoints.py", fmt.Sprint(keep))
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	r.in, r.out = in, bufio.NewReader(out)
	cmd.Stderr = r.errs
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if line, err := r.out.ReadString('\n'); err != nil {
		_ = cmd.Wait()
		if strings.Contains(r.errs.String(), "ModuleNotFoundError") {
			missing(t, "python", r.errs.String())
		}
		t.Fatalf("%q %v\n%s", line, err, r.errs)
	}
	return r
}

// rotate removes old checkpoints of dir and returns what is left.
func (r *rotator) rotate(t *testing.T, dir string) []string {
	t.Helper()
	_, err := fmt.Fprintln(r.in, dir)
	must(t, err)
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, r.errs)
	}
	var left []string
	must(t, json.Unmarshal(line, &left))
	return left
}

const rotatedSize = 400_000 // bytes of each weight file

// saveCheckpoint makes a directory with files that are saved in several ways.
func saveCheckpoint(t *testing.T, dir string, weights []byte) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o700))
	saveLikeSafetensors(t, filepath.Join(dir, "model.safetensors"), weights)
	f, err := os.Create(filepath.Join(dir, "optimizer.pt"))
	must(t, err)
	for at := len(weights); at > 0; { // from the end: it will be stored anew
		n := min(at, 150_000)
		at -= n
		_, err := f.WriteAt(weights[at:at+n], int64(at))
		must(t, err)
	}
	must(t, f.Close())
	must(t, os.WriteFile(filepath.Join(dir, "trainer_state.json"), []byte(`{"global_step": 1}`), 0o600))
}

// editCheckpoints writes to files of the checkpoints in root, which changes no
// directory, until done. Some are replaced, some are left mostly dead and are
// stored anew.
func editCheckpoints(root string, weights []byte, r *rand.Rand, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		default:
		}
		files, err := filepath.Glob(filepath.Join(root, "checkpoint-*", "[mo]*"))
		if err != nil || len(files) == 0 {
			continue
		}
		err = editFile(files[r.IntN(len(files))], weights, r)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

func editFile(name string, weights []byte, r *rand.Rand) error {
	times, flags := 6, os.O_RDWR
	if r.IntN(2) == 0 {
		times, flags = 1, os.O_RDWR|os.O_TRUNC
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return err
	}
	for range times {
		at := r.IntN(4 << 20)
		if _, err := f.WriteAt(weights[at:at+rotatedSize], 0); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// changeDirectory makes and removes a file, as programs do that log.
func changeDirectory(dir string, done <-chan struct{}) error {
	name := filepath.Join(dir, "log")
	for {
		select {
		case <-done:
			return nil
		default:
		}
		if err := errors.Join(os.WriteFile(name, []byte("step"), 0o600), os.Remove(name)); err != nil {
			return err
		}
	}
}

// TestRotation: the Trainer, which removes the checkpoint whose directory is
// oldest, removes the one that it removes on ext4, whatever is sealed, replaced
// and stored anew in them meanwhile, and wholly.
func TestRotation(t *testing.T) {
	const keep = 3
	steps := []int{900, 100, 200, 50, 300, 150, 400, 250} // by name, others would go
	if testing.Short() || raceDetector {
		steps = steps[:5]
	}
	rotator := startRotator(t, keep)
	m := mountApart(t)
	weights := realWeights(t)
	roots := map[string]string{"ext4": t.TempDir(), "the mount": m.path("run")}
	must(t, os.Mkdir(m.path("run"), 0o700))
	must(t, os.Mkdir(m.path("logs"), 0o700))
	done := make(chan struct{})
	var all sync.WaitGroup
	background := func(what string, do func() error) {
		all.Go(func() {
			if err := do(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	for i, root := range []string{m.path("run"), m.path("run"), roots["ext4"]} {
		r := rand.New(rand.NewPCG(uint64(i), 5))
		background("editing", func() error { return editCheckpoints(root, weights, r, done) })
	}
	background("logging", func() error { return changeDirectory(m.path("logs"), done) })
	var want []string
	saved := make(map[string]time.Time) // when each directory was changed last
	for _, step := range steps {
		name := fmt.Sprintf("checkpoint-%d", step)
		for _, root := range roots {
			saveCheckpoint(t, filepath.Join(root, name), weights[:rotatedSize])
			saved[filepath.Join(root, name)] = mtime(t, filepath.Join(root, name))
		}
		time.Sleep(450 * time.Millisecond) // times within a second are not believed
		want = append(want, name)
		want = want[max(0, len(want)-keep):]
		for where, root := range roots {
			if got := rotator.rotate(t, root); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("on %s, after %s: %v are left, want %v", where, name, got, want)
			}
			for _, kept := range want {
				dir := filepath.Join(root, kept)
				if now := mtime(t, dir); !now.Equal(saved[dir]) {
					t.Errorf("on %s, the time of %s has become %v, it was %v", where, kept, now, saved[dir])
				}
			}
		}
	}
	close(done)
	all.Wait()
	if !strings.Contains(m.log.String(), "stored anew") {
		t.Error("nothing was stored anew meanwhile")
	}
	settle(t, m)
	for _, name := range want {
		if _, err := os.Stat(m.path("run", name, "trainer_state.json")); err != nil {
			t.Error(err)
		}
	}
}

// TestRotationOfSeries: the Trainer removes the same checkpoints, wholly, while
// those of the run are coded against each other, and the others stay what they
// were.
func TestRotationOfSeries(t *testing.T) {
	const keep = 3
	rotator := startRotator(t, keep)
	m := startMount(t, daemonOrder{Dir: t.TempDir(), Point: t.TempDir(), Series: true}, nil)
	root := m.path("run")
	must(t, os.Mkdir(root, 0o700))
	steps := []int{900, 100, 200, 50, 300, 150} // by name, others would go
	if testing.Short() || raceDetector {
		steps = steps[:5]
	}
	saves := seriesOf(realWeights(t), len(steps))
	var want []string
	saved := make(map[string]time.Time)
	for i, step := range steps {
		name := fmt.Sprintf("checkpoint-%d", step)
		dir := filepath.Join(root, name)
		must(t, os.Mkdir(dir, 0o700))
		saveLikeSafetensors(t, filepath.Join(dir, "model.safetensors"), saves[i])
		saved[name] = mtime(t, dir)
		coded := strings.Count(m.log.String(), "coded anew")
		if i > 0 {
			eventually(t, func() bool { return strings.Count(m.log.String(), "coded anew") > coded })
		}
		time.Sleep(300 * time.Millisecond) // times within a second are not believed
		want = append(want, name)
		want = want[max(0, len(want)-keep):]
		if got := rotator.rotate(t, root); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("after %s: %v are left, want %v", name, got, want)
		}
		for _, kept := range want {
			if now := mtime(t, filepath.Join(root, kept)); !now.Equal(saved[kept]) {
				t.Errorf("the time of %s has become %v, it was %v", kept, now, saved[kept])
			}
		}
	}
	for i, step := range steps {
		name := fmt.Sprintf("checkpoint-%d", step)
		if slices.Contains(want, name) {
			eventuallyFile(t, filepath.Join(root, name, "model.safetensors"), saves[i])
		}
	}
	must(t, os.RemoveAll(root))
	eventually(t, func() bool {
		pins, err := os.ReadDir(filepath.Join(m.backing, ".mithrilfs/bases"))
		return err == nil && len(pins) == 0
	})
}
