package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

const (
	// benchHead is how many first bytes decide what a file is.
	benchHead = 1 << 20
	// benchSlow is how long a round must take to be enough.
	benchSlow = time.Second
)

// benchmark is what bench prints about a file as JSON.
type benchmark struct {
	Path    string      `json:"path"`
	Format  string      `json:"format"`
	Logical int64       `json:"logical_bytes"`
	Encoded int64       `json:"encoded_bytes"`
	Ratio   float64     `json:"ratio"`
	Entropy float64     `json:"entropy_ratio"`
	Memory  int64       `json:"memory_bytes"`
	Threads []benchRate `json:"threads"`
}

type benchRate struct {
	Threads int     `json:"threads"`
	Encode  float64 `json:"encode_bytes_per_second"`
	Decode  float64 `json:"decode_bytes_per_second"`
}

func (a *app) benchCommand() *cobra.Command {
	var asJSON bool
	limit, least := "1GiB", 500*time.Millisecond
	cmd := &cobra.Command{
		Use:   "bench [--json] [--limit SIZE] [--time DURATION] FILE...",
		Short: "Measure the codec on a file, in memory",
		Long: `bench reads a file's logical bytes into memory, cuts them into frames as a mount
would, and encodes and decodes all of them, on one thread and on as many as there
are processors. Each is repeated for half a second or more, and the fastest round
counts. What was decoded is compared with the file. Speeds are logical bytes a
second, 1 GB being 10^9 bytes; the ratio does not include a container's index.

The bound is the ratio that the order-0 entropy of each tensor's planes allows: a
code for single bytes can't do better with one table for each plane of a tensor,
even if tables cost nothing. Memory is the most that was resident beyond the
file's bytes, frames included, and is only true of the first file of a run.

--json prints an array of objects, one for each file, with the keys path, format,
logical_bytes, encoded_bytes, ratio, entropy_ratio, memory_bytes, and threads[]:
threads, encode_bytes_per_second, decode_bytes_per_second.`,
		Example: `  mithrilfs bench model.safetensors
  GOMAXPROCS=4 mithrilfs bench --json ckpt/*.safetensors`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			n, err := parseSize(limit)
			if err != nil || n == 0 {
				return usagef("--limit %q: give a size such as 1GiB", limit)
			}
			if least < 0 {
				return usagef("--time %v: give a duration such as 500ms", least)
			}
			return a.bench(paths, n, least, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&limit, "limit", limit, "use at most the first `SIZE` of each file")
	cmd.Flags().DurationVar(&least, "time", least, "repeat each measurement for at least this `DURATION`")
	return cmd
}

func (a *app) bench(paths []string, limit int64, least time.Duration, asJSON bool) error {
	list := []benchmark{}
	for _, path := range paths {
		b, err := benchFile(path, limit, least)
		if err != nil {
			a.warn(err)
			continue
		}
		list = append(list, b)
	}
	if asJSON {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		return nil
	}
	t := &table{right: []bool{true, true, true, true, true, true, true, false, false}}
	t.add("LOGICAL", "RATIO", "BOUND", "MEMORY", "THREADS", "ENCODE", "DECODE", "FORMAT", "PATH")
	for _, b := range list {
		for _, r := range b.Threads {
			t.add(human(b.Logical), ratioText(b.Ratio), ratioText(b.Entropy), human(b.Memory),
				fmt.Sprint(r.Threads), rateText(r.Encode), rateText(r.Decode), b.Format, printable(b.Path))
		}
	}
	t.print(a.out)
	return nil
}

func rateText(bytesPerSecond float64) string { return fmt.Sprintf("%.2f GB/s", bytesPerSecond/1e9) }

func benchFile(path string, limit int64, least time.Duration) (benchmark, error) {
	data, err := readLogical(path, limit)
	if err != nil {
		return benchmark{}, err
	}
	if len(data) == 0 {
		return benchmark{}, fmt.Errorf("%s: is empty: there is nothing to measure", path)
	}
	format, regions, pieces := split(data)
	b := benchmark{Path: path, Format: format, Logical: int64(len(data))}
	memory := watchMemory()
	workers := newBenchWorkers(runtime.GOMAXPROCS(0))
	giveRoom(pieces)
	threads := []int{1}
	if len(workers) > 1 {
		threads = append(threads, len(workers))
	}
	for _, n := range threads {
		b.Threads = append(b.Threads, benchRate{
			Threads: n,
			Encode:  rate(len(data), least, func() { encodeAll(pieces, workers[:n]) }),
			Decode:  rate(len(data), least, func() { decodeAll(pieces, workers[:n], false) }),
		})
	}
	b.Memory = memory.peak()
	decodeAll(pieces, workers, true)
	for i := range pieces {
		b.Encoded += int64(len(pieces[i].frame))
		if pieces[i].err != nil {
			return b, fmt.Errorf("%s: %w: this is a bug in mithrilfs, please report it with the file", path, pieces[i].err)
		}
	}
	b.Ratio = float64(b.Logical) / float64(b.Encoded)
	b.Entropy = float64(b.Logical) / entropyBound(data, regions, pieces)
	return b, nil
}

func readLogical(path string, limit int64) ([]byte, error) {
	l, err := openLogical(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	data := make([]byte, min(l.summary.Logical, limit))
	if _, err := io.ReadFull(io.NewSectionReader(l, 0, int64(len(data))), data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// piece is one frame on its way there and back.
type piece struct {
	data  []byte
	dtype codec.DType
	frame []byte
	plan  codec.Plan
	err   error
}

// split cuts data along its regions, as the store does: frames begin at
// multiples of codec.FrameSize from a region's first byte, and small regions of
// one type share a frame.
func split(data []byte) (format string, regions []layout.Region, pieces []piece) {
	l := layout.Detect(data[:min(len(data), benchHead)], whole{bytes.NewReader(data)})
	format = store.FormatPlain // as a mount would keep it
	if l == nil {
		l = layout.Bytes()
	} else {
		format = l.Format()
	}
	size := int64(len(data))
	for at := int64(0); at < size; at = regions[len(regions)-1].End {
		r := regionAt(l, at)
		r.Begin, r.End = at, min(r.End, size)
		if n := len(regions); n > 0 && format == layout.FormatNumbers && regions[n-1].DType == r.DType {
			regions[n-1].End = r.End // these are steps of the probe, not tensors
			continue
		}
		regions = append(regions, r)
	}
	for at := int64(0); at < size; {
		r := regionAt(l, at)
		end := min(r.End, at+codec.FrameSize, size)
		for end == r.End && end < size {
			next := regionAt(l, end)
			if next.DType != r.DType || next.End == math.MaxInt64 || next.End-at > codec.FrameSize || next.End > size {
				break
			}
			r, end = next, next.End
		}
		pieces = append(pieces, piece{data: data[at:end], dtype: r.DType})
		at = end
	}
	return format, regions, pieces
}

// regionAt asks the layout; what it can't tell is bytes.
func regionAt(l layout.Layout, off int64) layout.Region {
	r, err := l.Region(off)
	if err != nil || r.End <= off {
		return layout.Region{Begin: off, End: math.MaxInt64, DType: codec.Bytes}
	}
	return r
}

// whole is a layout.Source of which every byte has arrived. Its size stays
// unknown: with --limit there is more in the file.
type whole struct{ *bytes.Reader }

func (w whole) Arrived() int64 { return w.Reader.Size() }
func (w whole) Size() int64    { return -1 }

// rate repeats a round over n bytes for a time, and at least twice unless that
// takes long: the first round finds memory cold. It returns the speed of the
// fastest in bytes a second.
func rate(n int, least time.Duration, round func()) float64 {
	var best time.Duration
	start := time.Now()
	for rounds := 0; rounds == 0 || time.Since(start) < least || rounds < 2 && time.Since(start) < benchSlow; rounds++ {
		began := time.Now()
		round()
		if took := max(time.Since(began), 1); best == 0 || took < best {
			best = took
		}
	}
	return float64(n) / best.Seconds()
}

// benchWorker is what one goroutine keeps from round to round.
type benchWorker struct {
	encoder *codec.Encoder
	decoder *codec.Decoder
	out     []byte
}

func newBenchWorkers(n int) []*benchWorker {
	workers := make([]*benchWorker, n)
	for i := range workers {
		workers[i] = &benchWorker{codec.NewEncoder(), codec.NewDecoder(), make([]byte, codec.FrameSize)}
	}
	return workers
}

// giveRoom gives each piece memory for the longest frame, of which only what is
// written to becomes resident.
func giveRoom(pieces []piece) {
	n := 0
	for i := range pieces {
		n += codec.MaxFrameSize(len(pieces[i].data))
	}
	room := make([]byte, 0, n)
	for i := range pieces {
		n := codec.MaxFrameSize(len(pieces[i].data))
		pieces[i].frame, room = room[:0:n], room[n:n:cap(room)]
	}
}

// each lets the workers handle all pieces.
func each(pieces []piece, workers []*benchWorker, handle func(*benchWorker, *piece)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(pieces); i = int(next.Add(1)) - 1 {
				handle(w, &pieces[i])
			}
		})
	}
	group.Wait()
}

func encodeAll(pieces []piece, workers []*benchWorker) {
	each(pieces, workers, func(w *benchWorker, p *piece) {
		p.frame, p.plan = w.encoder.AppendFrame(p.frame[:0], p.data, p.dtype)
	})
}

var errDiffers = errors.New("the codec gave back other bytes")

func decodeAll(pieces []piece, workers []*benchWorker, compare bool) {
	each(pieces, workers, func(w *benchWorker, p *piece) {
		out := w.out[:len(p.data)]
		p.err = w.decoder.DecodeFrame(out, p.frame, p.plan)
		if compare && p.err == nil && !bytes.Equal(out, p.data) {
			p.err = errDiffers
		}
	})
}
