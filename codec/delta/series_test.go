//go:build linux

package delta

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
	"golang.org/x/sys/unix"
)

// TestSeries measures how small the checkpoints of a series become, given the
// ones before them:
//
//	go test ./codec/delta -run TestSeries$ -v -series DIR
//
// DIR holds step-N.safetensors, as testdata/series/make.py writes them.
var (
	seriesDir   = flag.String("series", "", "a directory of checkpoints to measure")
	seriesPeers = flag.Bool("series-peers", true, "measure zstd too")
	seriesFrame = flag.Int("series-frame", FrameSize, "bytes in a frame")
	seriesEvery = flag.Int("series-every", 1, "measure one frame of so many")
	seriesBases = flag.Int("series-bases", 3, "the most bases of a frame")
	seriesDepth = flag.Int("series-depth", 12, "the most frames between a read and a full one")
	seriesBack  = flag.Bool("series-back", false, "code each checkpoint given the ones after it")
)

// A checkpoint is a safetensors file.
type checkpoint struct {
	name   string
	file   []byte
	pieces []piece
}

// A piece is a part of a checkpoint that makes one frame.
type piece struct {
	from, to int
	dtype    codec.DType
	row      int
}

var tensorTypes = map[string]codec.DType{"BF16": codec.BF16, "F16": codec.F16, "F32": codec.F32, "F64": codec.F64, "I64": codec.I64}

// readCheckpoint cuts the tensors into frames; small neighbours share one.
func readCheckpoint(path string) (*checkpoint, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 || binary.LittleEndian.Uint64(b) > uint64(len(b)-8) {
		return nil, fmt.Errorf("%s is cut short", path)
	}
	start := 8 + int(binary.LittleEndian.Uint64(b))
	var header map[string]json.RawMessage
	if err := json.Unmarshal(b[8:start], &header); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &checkpoint{name: filepath.Base(path), file: b}
	var tensors []piece
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		var t struct {
			Dtype   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
		p := piece{from: start + t.Offsets[0], to: start + t.Offsets[1], dtype: tensorTypes[t.Dtype]}
		if len(t.Shape) > 1 {
			p.row = t.Shape[len(t.Shape)-1]
		}
		tensors = append(tensors, p)
	}
	sort.Slice(tensors, func(i, j int) bool { return tensors[i].from < tensors[j].from })
	for _, t := range tensors {
		if t.to-t.from < *seriesFrame {
			if n := len(c.pieces); n > 0 {
				if last := &c.pieces[n-1]; last.dtype == t.dtype && last.to == t.from && t.to-last.from <= *seriesFrame {
					last.to = t.to
					last.row = 0
					continue
				}
			}
		}
		for from := t.from; from < t.to; from += *seriesFrame {
			c.pieces = append(c.pieces, piece{from, min(from+*seriesFrame, t.to), t.dtype, t.row})
		}
	}
	return c, nil
}

func (c *checkpoint) elements(p piece) Elements { return Elements{c.file[p.from:p.to], p.dtype} }

// A measured pair is one checkpoint given those before it.
type measuredPair struct {
	raw, full, delta, xor, patch int
	larger                       int // frames
	encode, decode               time.Duration
}

func TestSeries(t *testing.T) {
	if *seriesDir == "" {
		t.Skip("no -series")
	}
	paths, err := filepath.Glob(filepath.Join(*seriesDir, "step-*.safetensors"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("no series in %s", *seriesDir)
	}
	slices.Sort(paths)
	if *seriesBack {
		slices.Reverse(paths)
	}
	var steps []*checkpoint
	var ratios, gains []float64
	for _, path := range paths {
		c, err := readCheckpoint(path)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, c)
		if len(steps) > 4 {
			steps = steps[1:]
		}
		if len(steps) < 2 {
			continue
		}
		bases := steps[:len(steps)-1]
		slices.Reverse(bases)
		m := measurePair(t, c, bases[:min(len(bases), *seriesBases)])
		slices.Reverse(bases)
		ratio := float64(m.raw) / float64(m.delta)
		ratios = append(ratios, ratio)
		gains = append(gains, float64(m.xor)/float64(m.delta))
		mb := float64(m.raw) / 1e6
		t.Logf("%s  full %.3f  xor+zstd-1 %.2f  patch-from %.2f  delta %.2f (%.2f times smaller than xor)  encode %.0f  decode %.0f MB/s  %d of %d frames stay full",
			c.name, float64(m.raw)/float64(m.full), float64(m.raw)/float64(max(m.xor, 1)), float64(m.raw)/float64(max(m.patch, 1)), ratio,
			gains[len(gains)-1], mb/m.encode.Seconds(), mb/m.decode.Seconds(), m.larger, len(c.pieces))
	}
	slices.Sort(ratios)
	slices.Sort(gains)
	t.Logf("median: delta %.2f, %.2f times smaller than xor+zstd-1", ratios[len(ratios)/2], gains[len(gains)/2])
}

// TestSeriesDepth measures how long reads at the end of a chain take: each
// checkpoint is coded given the ones after it, the last one is at hand. It takes
// at most -series-depth of them.
func TestSeriesDepth(t *testing.T) {
	if *seriesDir == "" {
		t.Skip("no -series")
	}
	paths, err := filepath.Glob(filepath.Join(*seriesDir, "step-*.safetensors"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("no series in %s", *seriesDir)
	}
	slices.Sort(paths)
	slices.Reverse(paths)
	var steps []*checkpoint
	for _, path := range paths[:min(len(paths), *seriesDepth+1)] {
		c, err := readCheckpoint(path)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, c)
	}
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	var worst, all time.Duration
	size := 0
	for i, p := range steps[0].pieces {
		took := readChain(t, steps, i)
		worst, all = max(worst, took), all+took
		size += p.to - p.from
	}
	t.Logf("depth %d: %.1f ms a frame, at most %.1f; %.1f MB/s a core",
		len(steps)-1, float64(all.Microseconds())/1e3/float64(len(steps[0].pieces)), float64(worst.Microseconds())/1e3, float64(size)/1e6/all.Seconds())
}

// readChain returns how long it takes to decode piece i of the last of steps, when
// only that of the first is at hand.
func readChain(t *testing.T, steps []*checkpoint, i int) time.Duration {
	t.Helper()
	e, d := NewEncoder(), NewDecoder()
	var frames [][]byte
	var pieces []Elements // of the steps so far, the nearest first
	for _, c := range steps {
		src := c.elements(c.pieces[i])
		if len(pieces) > 0 {
			frame, ok := e.AppendFrame(nil, src, c.pieces[i].row, pieces[:min(len(pieces), *seriesBases)], noLimit)
			if !ok {
				t.Fatal("no frame")
			}
			frames = append(frames, frame)
		}
		pieces = append([]Elements{src}, pieces...)
	}
	at := pieces[len(pieces)-1:]
	start := threadTime()
	for _, frame := range frames {
		next := Elements{make([]byte, len(at[0].Data)), at[0].Type}
		if err := d.DecodeFrame(next.Data, frame, at[:min(len(at), maxBases)]); err != nil {
			t.Fatal(err)
		}
		at = append([]Elements{next}, at...)
	}
	took := threadTime() - start
	if !bytes.Equal(at[0].Data, pieces[0].Data) {
		t.Fatal("other bytes")
	}
	return took
}

func measurePair(t *testing.T, c *checkpoint, bases []*checkpoint) (m measuredPair) {
	t.Helper()
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	full, e, d := codec.NewEncoder(), NewEncoder(), NewDecoder()
	back := make([]byte, *seriesFrame)
	var frame []byte
	for i, p := range c.pieces {
		if i%*seriesEvery != 0 {
			continue
		}
		src := c.elements(p)
		m.raw += len(src.Data)
		frame, _ = full.AppendFrame(frame[:0], src.Data, p.dtype)
		limit := len(frame)
		m.full += limit
		var from []Elements
		for _, b := range bases {
			from = append(from, b.elements(p))
		}
		start := threadTime()
		out, ok := e.AppendFrame(frame[:0], src, p.row, from, limit)
		m.encode += threadTime() - start
		if !ok {
			m.larger++
			m.delta += limit
			continue
		}
		m.delta += len(out)
		start = threadTime()
		err := d.DecodeFrame(back[:len(src.Data)], out, from)
		m.decode += threadTime() - start
		if err != nil || !bytes.Equal(back[:len(src.Data)], src.Data) {
			t.Fatalf("%s: %v of %v: %v", c.name, p, len(out), err)
		}
		frame = out
	}
	m.xor, m.patch = peers(t, c, bases[0])
	return m
}

// threadTime returns the time that the thread has spent running.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // a clock that Linux has
	}
	return time.Duration(ts.Nano())
}

// peers returns the sizes of the byte planes of the exclusive or of two
// checkpoints, each compressed by zstd -1, and of zstd --patch-from.
func peers(t *testing.T, c, base *checkpoint) (xor, patch int) {
	t.Helper()
	if !*seriesPeers {
		return 0, 0
	}
	w := c.pieces[0].dtype.Size()
	planes := make([][]byte, w)
	n := min(len(c.file), len(base.file))
	start := c.pieces[0].from
	for i := start; i < n; i++ {
		planes[(i-start)%w] = append(planes[(i-start)%w], c.file[i]^base.file[i])
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for i, p := range planes {
		xor += zstdSize(t, "-1", write("plane"+strconv.Itoa(i), p))
	}
	patch = zstdSize(t, "-3", "--long=27", "--patch-from="+write("base", base.file), write("file", c.file))
	return xor, patch
}

func zstdSize(t *testing.T, args ...string) int {
	t.Helper()
	out, err := exec.Command("zstd", append([]string{"-q", "-c"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return len(out)
}
