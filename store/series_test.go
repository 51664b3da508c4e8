package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// run makes checkpoints like those of a fine-tuning: real weights of MiniLM, each
// of which drifts as AdamW moves it, by about lr a step in a direction that
// changes slowly, kept in fp32 and saved in bf16. Real gradients are not that
// regular; a series of real checkpoints is in testdata/series.
type run struct {
	rnd      *rand.Rand
	master   []float32
	momentum []float32
}

const (
	learningRate = 2e-5
	stepsApart   = 10
)

func newRun(t testing.TB, seed uint64, weights int) *run {
	t.Helper()
	b := testWeights(t)
	r := &run{rnd: rand.New(rand.NewPCG(seed, 8)), master: make([]float32, weights), momentum: make([]float32, weights)}
	at := int(seed%16) * 4096
	for i := range r.master {
		r.master[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[at+2*i:])) << 16)
		r.momentum[i] = float32(r.rnd.NormFloat64())
	}
	return r
}

// step moves the weights to the next checkpoint.
func (r *run) step() {
	for range stepsApart / 5 {
		for i := range r.master {
			r.momentum[i] = 0.9*r.momentum[i] + 0.43*float32(r.rnd.NormFloat64())
			r.master[i] -= 5 * learningRate * r.momentum[i]
		}
	}
}

// save is the checkpoint, a safetensors file.
func (r *run) save() []byte {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header, at := make(map[string]entry), 0
	for i := range 4 {
		n := len(r.master) / 4 / 64
		header[fmt.Sprintf("layer.%d.weight", i)] = entry{"BF16", []int{n, 64}, [2]int{at, at + n*128}}
		at += n * 128
	}
	h, _ := json.Marshal(header) // of such a map it never fails
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...)
	for _, w := range r.master[:at/2] {
		bits := math.Float32bits(w)
		b = binary.LittleEndian.AppendUint16(b, uint16((bits+0x7fff+bits>>16&1)>>16))
	}
	return b
}

// savesOf returns the first n checkpoints of a run.
func savesOf(t testing.TB, seed uint64, n int) [][]byte {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.runs == nil {
		made.runs, made.saves = make(map[uint64]*run), make(map[uint64][][]byte)
	}
	r := made.runs[seed]
	if r == nil {
		r = newRun(t, seed, seriesWeights)
		made.runs[seed] = r
	}
	for len(made.saves[seed]) < n {
		made.saves[seed] = append(made.saves[seed], r.save())
		r.step()
	}
	return made.saves[seed][:n]
}

// made are the runs of all tests so far.
var made struct {
	sync.Mutex
	runs  map[uint64]*run
	saves map[uint64][][]byte
}

// seriesWeights is how many weights the checkpoints of most tests have: 384 KB,
// two frames.
const seriesWeights = 192 << 10

// storeFile writes data as the file name.
func storeFile(t testing.TB, s *Store, name string, data []byte) {
	t.Helper()
	if dir := filepath.Dir(name); dir != "." {
		must(t, os.MkdirAll(filepath.Join(s.Path(), dir), 0o700))
	}
	f, err := s.Create(name, 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(data, 0)
	must(t, err)
	must(t, f.Release(true))
}

// memberOf finds the file name as a census would.
func memberOf(t testing.TB, s *Store, name string) member {
	t.Helper()
	st, err := s.root.stat(name)
	must(t, err)
	l := logOf(t, s, name)
	return member{name, keyOf(&st), l.Generation()}
}

func logOf(t testing.TB, s *Store, name string) container.Log {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Path(), name), os.O_RDONLY|unix.O_NOATIME, 0)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	st, err := f.Stat()
	must(t, err)
	r, err := container.Open(f, st.Size(), container.NewCache(1<<20))
	must(t, err)
	defer r.Close()
	return r.Log()
}

// alike is the dependence of a container on others of its very layout.
func alike(m container.Log, bases ...container.Log) container.Dependence {
	var d container.Dependence
	begin := m.Tensors[0].Begin
	for i := range bases {
		d.Bases = append(d.Bases, container.Base{Generation: bases[i].Generation(), Size: bases[i].Size})
		d.Segments = append(d.Segments, container.Segment{Begin: begin, End: m.Size, Base: i, Offset: begin, DType: codec.BF16, BaseDType: codec.BF16})
	}
	return d
}

// toCode is what codes name against others, or to stand alone.
func toCode(t testing.TB, s *Store, name string, bases ...string) func() error {
	t.Helper()
	var others []member
	var logs []container.Log
	for _, b := range bases {
		others = append(others, memberOf(t, s, b))
		logs = append(logs, logOf(t, s, b))
	}
	m, depend := memberOf(t, s, name), alike(logOf(t, s, name), logs...)
	return func() error {
		_, err := s.keeper.recoding().recode(m, others, depend, math.MaxInt64)
		return err
	}
}

func recode(t testing.TB, s *Store, name string, bases ...string) error {
	t.Helper()
	return toCode(t, s, name, bases...)()
}

// expect compares files with what they must hold.
func expect(t testing.TB, s *Store, want map[string][]byte) {
	t.Helper()
	for name, data := range want {
		got, err := readLogical(s, name)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, or others than it should have, %v", name, len(got), err)
		}
	}
}

// pinsOf lists the pins in the backing directory, and how many names their inodes
// have besides.
func pinsOf(t testing.TB, dir string) map[string]uint64 {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, basesDir))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		t.Fatal(err)
	}
	pins := make(map[string]uint64)
	for _, e := range entries {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, basesDir, e.Name()), &st))
		pins[e.Name()] = st.Nlink - 1
	}
	return pins
}

// eventually waits for what happens in the background.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never happens")
		}
	}
}
