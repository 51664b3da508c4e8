// Peers measures what others would do in Go with a file, in memory and cut into
// pieces as large as the frames of mithrilfs bench: klauspost's zstd at its fastest
// level, and memcpy, which no compressor can beat.
//
//	go run ./testdata/bench/peers [-time DURATION] klauspost|memcpy FILE
//
// It prints JSON with the keys of mithrilfs bench --json.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/mithrilfs/mithrilfs/codec"
)

const pieceSize = codec.FrameSize

// coder encodes and decodes pieces for one goroutine, into memory that it is given.
type coder struct {
	encode func(dst, src []byte) []byte
	decode func(dst, src []byte) ([]byte, error)
	out    []byte
}

type piece struct{ data, encoded []byte }

type result struct {
	Logical int64   `json:"logical_bytes"`
	Encoded int64   `json:"encoded_bytes"`
	Memory  int64   `json:"memory_bytes"`
	Threads []speed `json:"threads"`
}

type speed struct {
	Threads int     `json:"threads"`
	Encode  float64 `json:"encode_bytes_per_second"`
	Decode  float64 `json:"decode_bytes_per_second"`
}

func main() {
	log.SetFlags(0)
	least := flag.Duration("time", 500*time.Millisecond, "how long each measurement is repeated at least")
	flag.Parse()
	makers := map[string]func() coder{"klauspost": klauspost, "memcpy": memcpy}
	makeCoder := makers[flag.Arg(0)]
	if makeCoder == nil || flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	data, err := os.ReadFile(flag.Arg(1))
	if err != nil {
		log.Fatal(err)
	}
	var pieces []piece
	for at := 0; at < len(data); at += pieceSize {
		pieces = append(pieces, piece{
			data:    data[at:min(at+pieceSize, len(data))],
			encoded: make([]byte, 0, pieceSize+pieceSize/64),
		})
	}
	coders := make([]coder, runtime.GOMAXPROCS(0))
	for i := range coders {
		coders[i] = makeCoder()
	}
	r := result{Logical: int64(len(data))}
	before := watchMemory()
	threads := []int{1}
	if len(coders) > 1 {
		threads = append(threads, len(coders))
	}
	for _, n := range threads {
		r.Threads = append(r.Threads, speed{
			Threads: n,
			Encode:  rate(len(data), *least, func() { encodeAll(pieces, coders[:n]) }),
			Decode:  rate(len(data), *least, func() { decodeAll(pieces, coders[:n], false) }),
		})
	}
	r.Memory = max(status("VmHWM")-before, 0)
	decodeAll(pieces, coders, true)
	for _, p := range pieces {
		r.Encoded += int64(len(p.encoded))
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

// Without WithAllLitEntropyCompression this level stores weights as they are,
// since they have hardly any matches.
func klauspost() coder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		log.Fatal(err)
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		log.Fatal(err)
	}
	return coder{
		encode: func(dst, src []byte) []byte { return e.EncodeAll(src, dst) },
		decode: func(dst, src []byte) ([]byte, error) { return d.DecodeAll(src, dst) },
		out:    make([]byte, 0, pieceSize),
	}
}

func memcpy() coder {
	return coder{
		encode: func(dst, src []byte) []byte { return append(dst, src...) },
		decode: func(dst, src []byte) ([]byte, error) { return append(dst, src...), nil },
		out:    make([]byte, 0, pieceSize),
	}
}

func encodeAll(pieces []piece, coders []coder) {
	each(pieces, coders, func(c coder, p *piece) { p.encoded = c.encode(p.encoded[:0], p.data) })
}

func decodeAll(pieces []piece, coders []coder, compare bool) {
	each(pieces, coders, func(c coder, p *piece) {
		got, err := c.decode(c.out, p.encoded)
		if err != nil || compare && !bytes.Equal(got, p.data) {
			log.Fatalf("a piece did not come back: %v", err)
		}
	})
}

func each(pieces []piece, coders []coder, handle func(coder, *piece)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for _, c := range coders {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(pieces); i = int(next.Add(1)) - 1 {
				handle(c, &pieces[i])
			}
		})
	}
	workers.Wait()
}

// rate returns the fastest round's bytes a second. There are two rounds at least
// unless they take long.
func rate(n int, least time.Duration, round func()) float64 {
	var best time.Duration
	start := time.Now()
	for rounds := 0; rounds == 0 || time.Since(start) < least || rounds < 2 && time.Since(start) < time.Second; rounds++ {
		began := time.Now()
		round()
		if took := max(time.Since(began), 1); best == 0 || took < best {
			best = took
		}
	}
	return float64(n) / best.Seconds()
}

// watchMemory resets the peak of the resident memory and returns what is resident.
func watchMemory() int64 {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return status("VmRSS")
}

func status(field string) int64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			var kib int64
			_, _ = fmt.Sscan(string(rest), &kib)
			return kib << 10
		}
	}
	return 0
}
