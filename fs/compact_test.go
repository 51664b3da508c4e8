package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mithrilfs/mithrilfs/store"
)

// seriesLength is how many bytes of weights each checkpoint of a series has.
const seriesLength = 600 << 10

// seriesOf are n checkpoints of one run, safetensors files: from one to the next
// every third weight moves to the next number of its type.
func seriesOf(weights []byte, n int) [][]byte {
	const length = seriesLength
	header := fmt.Sprintf(`{"w":{"dtype":"BF16","shape":[%d,128],"data_offsets":[0,%d]}}`, length/256, length)
	one := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	rnd := rand.New(rand.NewPCG(uint64(weights[0]), 2))
	list := [][]byte{append(one, weights[:length]...)}
	for range n - 1 {
		next := bytes.Clone(list[len(list)-1])
		for w := next[len(next)-length:]; len(w) > 0; w = w[2:] {
			if rnd.IntN(3) == 0 {
				binary.LittleEndian.PutUint16(w, binary.LittleEndian.Uint16(w)+1)
			}
		}
		list = append(list, next)
	}
	return list
}

// TestCompactThroughMount: a client asks the daemon, follows what it does, and
// other clients see no difference, whether they have a file open or not.
func TestCompactThroughMount(t *testing.T) {
	m := mountApart(t)
	files := make(map[string][]byte)
	var open *os.File
	for i, data := range seriesOf(realWeights(t), 4) {
		name := m.path("run", fmt.Sprintf("checkpoint-%d", i), "model.safetensors")
		must(t, os.MkdirAll(filepath.Dir(name), 0o700))
		must(t, os.WriteFile(name, data, 0o600))
		files[name] = data
		if i == 0 {
			f, err := os.Open(name)
			must(t, err)
			open = f
		}
	}
	settle(t, m)
	before := make(map[string]syscall.Stat_t)
	for name := range files {
		var st syscall.Stat_t
		must(t, syscall.Stat(name, &st))
		before[name] = st
	}
	var last store.SeriesReport
	reports := 0
	must(t, CompactRemote(context.Background(), m.path("run"), true, func(r store.SeriesReport) { last = r }))
	if last.Files != 4 || last.Planned == 0 || last.Coded != 0 {
		t.Errorf("a dry run says %+v", last)
	}
	must(t, CompactRemote(context.Background(), m.path("run"), false, func(r store.SeriesReport) { last, reports = r, reports+1 }))
	if last.Coded < 3 || last.After > last.Before/2 || reports == 0 {
		t.Errorf("after %d reports: %+v", reports, last)
	}
	for name, data := range files {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s reads differently, %v", name, err)
		}
		var st syscall.Stat_t
		must(t, syscall.Stat(name, &st))
		was := before[name]
		if st.Ino != was.Ino || st.Nlink != was.Nlink || st.Size != was.Size || st.Mtim != was.Mtim || st.Ctim != was.Ctim {
			t.Errorf("%s is %+v, was %+v", name, st, was)
		}
		if i, err := InspectRemote(name); err != nil || len(i.Summary().Bases) == 0 && filepath.Base(filepath.Dir(name)) != "checkpoint-3" {
			t.Errorf("%s: %+v, %v", name, i.Summary(), err)
		} else {
			must(t, i.Close())
		}
	}
	b := make([]byte, seriesLength)
	if n, err := open.ReadAt(b, 0); err != nil || !bytes.Equal(b, files[open.Name()][:n]) {
		t.Errorf("who has it open reads something else, %v", err)
	}
	must(t, open.Close())
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if err := CompactRemote(ctx, m.point, false, func(store.SeriesReport) {}); err != nil && !errors.Is(err, cause) {
		t.Error(err)
	}
	if err := CompactRemote(context.Background(), t.TempDir(), false, nil); !errors.Is(err, ErrNotMounted) {
		t.Errorf("elsewhere: %v", err)
	}
	must(t, os.RemoveAll(m.path("run")))
	eventually(t, func() bool {
		pins, err := os.ReadDir(filepath.Join(m.backing, ".mithrilfs/bases"))
		return err == nil && len(pins) == 0
	})
}
