package codec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// stockDecoder is a zstd decoder that knows nothing of this package.
func stockDecoder(t testing.TB) *zstd.Decoder {
	t.Helper()
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return z
}

func TestFrameRoundTrip(t *testing.T) {
	stock := stockDecoder(t)
	e, z := NewEncoder(), NewDecoder()
	forAll(t, func(t *testing.T, d DType, src []byte) {
		kept := bytes.Clone(src)
		prefix := []byte("prefix")
		out, plan := e.AppendFrame(prefix, src, d)
		if !bytes.Equal(src, kept) {
			t.Fatalf("%d bytes: AppendFrame changed src", len(src))
		}
		if plan != 0 && plan.Width() != d.Size() {
			t.Fatalf("plan is %v", plan)
		}
		frame, ok := bytes.CutPrefix(out, prefix)
		if !ok {
			t.Fatalf("%d bytes: AppendFrame changed dst", len(src))
		}
		if len(frame) > MaxFrameSize(len(src)) {
			t.Fatalf("%d bytes: frame of %d bytes, the bound is %d", len(src), len(frame), MaxFrameSize(len(src)))
		}

		got := bytes.Repeat([]byte{0xa5}, len(src))
		if err := z.DecodeFrame(got, frame, plan); err != nil {
			t.Fatalf("%d bytes: %v", len(src), err)
		}
		if !bytes.Equal(got, src) {
			t.Fatalf("%d bytes: DecodeFrame gives other bytes", len(src))
		}

		content, err := stock.DecodeAll(frame, nil)
		if err != nil {
			t.Fatalf("%d bytes: stock decoder: %v", len(src), err)
		}
		if !bytes.Equal(content, planned(plan, src)) {
			t.Fatalf("%d bytes: stock decoder gives other than the planned content", len(src))
		}
	})
}

// TestZstdProgram decodes all frames of a DType, one after the other, by the
// reference implementation.
func TestZstdProgram(t *testing.T) {
	program, err := exec.LookPath("zstd")
	if err != nil {
		t.Skip("no zstd program: the reference decoder is not compared")
	}
	e := NewEncoder()
	for _, d := range allDTypes {
		t.Run(d.String(), func(t *testing.T) {
			var frames, want []byte
			for _, k := range kinds {
				for _, n := range lengths() {
					src := k.make(d, n)
					var plan Plan
					frames, plan = e.AppendFrame(frames, src, d)
					want = append(want, planned(plan, src)...)
				}
				stream, err := Compress(nil, k.make(d, FrameSize+1000), d)
				if err != nil {
					t.Fatal(err)
				}
				frames = append(frames, stream...)
				src := k.make(d, FrameSize+1000)
				plan := Plan(stream[18])
				want = append(want, planned(plan, src[:FrameSize])...)
				want = append(want, planned(plan, src[FrameSize:])...)
			}
			name := filepath.Join(t.TempDir(), "frames.zst")
			if err := os.WriteFile(name, frames, 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			cmd := exec.Command(program, "-d", "-c", "-q", name)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("zstd -d: %v: %s", err, stderr.Bytes())
			}
			if !bytes.Equal(stdout.Bytes(), want) {
				t.Fatal("zstd -d gives other than the planned content")
			}
		})
	}
}

// TestOwnDecoder proves that frames of planes need no general decoder, which is
// slower.
func TestOwnDecoder(t *testing.T) {
	e := NewEncoder()
	forAll(t, func(t *testing.T, d DType, src []byte) {
		frame, _ := e.AppendFrame(nil, src, d)
		info, err := scanFrame(frame, len(src))
		if err != nil {
			t.Fatal(err)
		}
		if d != Bytes && !info.simple {
			t.Fatalf("%d bytes: the frame needs a general decoder", len(src))
		}
	})
}

// TestForeignFrames decodes what other encoders make of planned content.
func TestForeignFrames(t *testing.T) {
	options := map[string][]zstd.EOption{
		"default":        nil,
		"fastest":        {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true)},
		"best":           {zstd.WithEncoderLevel(zstd.SpeedBestCompression)},
		"single segment": {zstd.WithSingleSegment(true), zstd.WithEncoderCRC(false)},
		"small window":   {zstd.WithWindowSize(1 << 10), zstd.WithEncoderCRC(false)},
	}
	for name, opts := range options {
		t.Run(name, func(t *testing.T) {
			z, err := zstd.NewWriter(nil, append(opts, zstd.WithZeroFrames(true))...)
			if err != nil {
				t.Fatal(err)
			}
			dec := NewDecoder()
			for _, d := range allDTypes {
				for _, k := range kinds {
					// Content sizes below 256 may be left out without SingleSegment.
					for _, n := range []int{300, 5000, 70001} {
						src := k.make(d, n)
						frame := z.EncodeAll(planned(d.Plan(), src), nil)
						got := make([]byte, n)
						if err := dec.DecodeFrame(got, frame, d.Plan()); err != nil {
							t.Fatalf("%v, %s, %d bytes: %v", d, k.name, n, err)
						}
						if !bytes.Equal(got, src) {
							t.Fatalf("%v, %s, %d bytes: other bytes", d, k.name, n)
						}
					}
				}
			}
		})
	}
}

// TestBorrowedPlanes decodes raw blocks that do not keep to the planes.
func TestBorrowedPlanes(t *testing.T) {
	for _, d := range []DType{Bytes, BF16, F32, F64} {
		src := randomBytes(1003, 3)
		content := planned(d.Plan(), src)
		for _, step := range []int{1, 7, 125, 126, 250, 251, 400, 501, 502, 600, 1003} {
			frame := appendFrameHeader(nil, len(content))
			for off := 0; off < len(content); off += step {
				end := min(off+step, len(content))
				frame = appendRaw(frame, content[off:end], end == len(content))
			}
			got := make([]byte, len(src))
			if err := NewDecoder().DecodeFrame(got, frame, d.Plan()); err != nil {
				t.Fatalf("%v, blocks of %d: %v", d, step, err)
			}
			if !bytes.Equal(got, src) {
				t.Fatalf("%v, blocks of %d: other bytes", d, step)
			}
		}
	}
}

// TestEveryPlan round trips every valid plan by split and merge, and refuses
// the others.
func TestEveryPlan(t *testing.T) {
	z := NewDecoder()
	for v := range 256 {
		p := Plan(v)
		frame := appendFrameHeader(nil, 203)
		src := randomBytes(203, uint64(v))
		got := make([]byte, len(src))
		if !p.Valid() {
			frame = appendRaw(frame, src, true)
			if err := z.DecodeFrame(got, frame, p); !errors.Is(err, ErrPlan) {
				t.Errorf("%v: error is %v", p, err)
			}
			continue
		}
		content := make([]byte, len(src))
		p.split(content, src)
		if !bytes.Equal(content, planned(p, src)) {
			t.Fatalf("%v: split gives other than the planned content", p)
		}
		if err := z.DecodeFrame(got, appendRaw(frame, content, true), p); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		if !bytes.Equal(got, src) {
			t.Fatalf("%v: other bytes", p)
		}
	}
}

// smallFrames returns frames that between them have every shape of block.
func smallFrames() (frames [][]byte, logical [][]byte, plans []Plan) {
	e := NewEncoder()
	for _, d := range allDTypes {
		for _, k := range kinds {
			for _, n := range []int{0, 5, 200, 1100} {
				src := k.make(d, n)
				frame, plan := e.AppendFrame(nil, src, d)
				frames, logical, plans = append(frames, frame), append(logical, src), append(plans, plan)
			}
		}
	}
	src := weights(BF16, 2100) // four streams
	frame, plan := e.AppendFrame(nil, src, BF16)
	return append(frames, frame), append(logical, src), append(plans, plan)
}

func TestDamagedFrames(t *testing.T) {
	frames, logical, plans := smallFrames()
	z := NewDecoder()
	wantCorrupt := func(t *testing.T, what string, err error) {
		t.Helper()
		var ce *CorruptError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &ce) {
			t.Fatalf("%s: error is %v", what, err)
		}
	}
	for i, frame := range frames {
		got := make([]byte, len(logical[i]))
		for n := range frame {
			if len(frame) > 1000 && n%7 != 0 && n < len(frame)-10 {
				continue // the middle of a long frame is all alike
			}
			wantCorrupt(t, "cut short", z.DecodeFrame(got, frame[:n], plans[i]))
		}
		wantCorrupt(t, "trailing byte", z.DecodeFrame(got, append(bytes.Clone(frame), 0), plans[i]))
		wantCorrupt(t, "two frames", z.DecodeFrame(got, append(bytes.Clone(frame), frame...), plans[i]))
		wantCorrupt(t, "dst too long", z.DecodeFrame(make([]byte, len(got)+1), frame, plans[i]))
		if len(got) > 0 {
			wantCorrupt(t, "dst too short", z.DecodeFrame(got[1:], frame, plans[i]))
		}

		// A changed byte is an error or gives wrong content, which is the
		// caller's to notice; it never writes beyond dst.
		guarded := make([]byte, len(got)+64)
		damaged := bytes.Clone(frame)
		for n := range damaged {
			if len(frame) > 1000 && n%5 != 0 && n > 200 {
				continue
			}
			for _, x := range []byte{0x01, 0x10, 0x80, 0xff} {
				damaged[n] ^= x
				dst := guarded[: len(got) : len(got)+32]
				if err := z.DecodeFrame(dst, damaged, plans[i]); err != nil {
					wantCorrupt(t, "changed byte", err)
				}
				damaged[n] ^= x
			}
		}
		if !bytes.Equal(guarded[len(got):], make([]byte, 64)) {
			t.Fatal("DecodeFrame wrote beyond dst")
		}
		// The decoder still works afterwards.
		if err := z.DecodeFrame(got, frame, plans[i]); err != nil || !bytes.Equal(got, logical[i]) {
			t.Fatalf("after damaged frames: %v", err)
		}
	}
}

func TestWrongPlan(t *testing.T) {
	src := weights(BF16, 1000)
	frame, _ := NewEncoder().AppendFrame(nil, src, BF16)
	got := make([]byte, len(src))
	if err := NewDecoder().DecodeFrame(got, frame, F32.Plan()); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, src) {
		t.Error("a wrong plan gives the right bytes")
	}
}

// TestHugeClaims has headers claim much more than dst or the frame holds.
func TestHugeClaims(t *testing.T) {
	z := NewDecoder()
	dst := make([]byte, 100)
	header := func(h zstd.Header) []byte {
		b, err := h.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	frames := map[string][]byte{
		"content":   appendRaw(header(zstd.Header{SingleSegment: true, HasFCS: true, FrameContentSize: 1 << 62}), dst, true),
		"window":    appendRaw(header(zstd.Header{WindowSize: 1 << 31, HasFCS: true, FrameContentSize: 1 << 40}), dst, true),
		"rle":       append(appendBlockHeader(appendFrameHeader(nil, 100), blockRLE, maxBlock, true), 1),
		"no blocks": appendFrameHeader(nil, 100),
		"empty":     {},
		"skippable": {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0},
		"reserved":  append(appendBlockHeader(appendFrameHeader(nil, 100), 3, 100, true), dst...),
		"too large": append(appendBlockHeader(appendFrameHeader(nil, 100), blockRaw, maxBlock+1, true), make([]byte, maxBlock+1)...),
		"too few":   appendRaw(appendFrameHeader(nil, 100), dst[:99], true),
		"no size":   appendRaw(header(zstd.Header{WindowSize: 1 << 10}), dst, true),
		"dict":      appendRaw(header(zstd.Header{SingleSegment: true, HasFCS: true, FrameContentSize: 100, DictionaryID: 7}), dst, true),
	}
	for name, frame := range frames {
		if err := z.DecodeFrame(dst, frame, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if err := z.DecodeFrame(make([]byte, MaxContent+1), nil, 0); !errors.Is(err, ErrCorrupt) {
		t.Errorf("dst beyond MaxContent: error is %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("AppendFrame accepts more than MaxContent")
		}
	}()
	NewEncoder().AppendFrame(nil, make([]byte, MaxContent+1), Bytes)
}

// TestLargeFrames goes beyond the scratch memory that is kept.
func TestLargeFrames(t *testing.T) {
	n := 5<<20 + 3
	if testing.Short() {
		n = 1<<20 + 3
	}
	e, z := NewEncoder(), NewDecoder()
	for _, d := range []DType{Bytes, BF16, F64} {
		for _, k := range kinds[:4] {
			src := k.make(d, n)
			frame, plan := e.AppendFrame(nil, src, d)
			if len(frame) > MaxFrameSize(n) {
				t.Fatalf("%v, %s: frame of %d bytes, the bound is %d", d, k.name, len(frame), MaxFrameSize(n))
			}
			got := make([]byte, n)
			if err := z.DecodeFrame(got, frame, plan); err != nil {
				t.Fatalf("%v, %s: %v", d, k.name, err)
			}
			if !bytes.Equal(got, src) {
				t.Fatalf("%v, %s: other bytes", d, k.name)
			}
			if cap(e.content) > maxScratch || cap(e.other) > maxScratch || cap(z.content) > maxScratch {
				t.Fatalf("%v, %s: too much scratch memory kept", d, k.name)
			}
		}
	}
}

// entropy returns the order-0 entropy of b in bits per byte.
func entropy(b []byte) float64 {
	var count [256]float64
	for _, x := range b {
		count[x]++
	}
	h := 0.0
	for _, c := range count {
		if c > 0 {
			h -= c * math.Log2(c/float64(len(b)))
		}
	}
	return h / float64(len(b))
}

// idealSize is what an ideal order-0 coder makes of the planes of src that hold
// exponents, all others kept as they are.
func idealSize(d DType, src []byte) (bytes float64) {
	content := planned(d.Plan(), src)
	w := d.Size()
	n := len(src) / w
	for k := range w {
		bits := 8.0
		if k == w-1 || k == 0 && d == F64 {
			bits = entropy(content[k*n : (k+1)*n])
		}
		bytes += bits / 8 * float64(n)
	}
	return bytes
}

// TestRatio holds frames of normally distributed weights against an ideal
// coder. Codes of whole bits, of at most 11, lose 0.4 to 0.6 % on bf16,
// depending on the standard deviation.
func TestRatio(t *testing.T) {
	e := NewEncoder()
	for _, c := range []struct {
		d              DType
		mean, greatest float64
	}{
		{BF16, 1.005, 1.0065},
		{F16, 1.005, 1.0065},
		{F32, 1.0035, 1.0045},
		{F64, 1.003, 1.004},
	} {
		sum, greatest := 0.0, 0.0
		deviations := []float64{0.010, 0.0125, 0.015, 0.0175, 0.0225}
		for _, x := range deviations {
			r := rand.New(rand.NewPCG(1, 2))
			var src []byte
			for len(src) < FrameSize {
				src = appendValue(src, c.d, normal(r)*x)
			}
			frame, _ := e.AppendFrame(nil, src, c.d)
			loss := float64(len(frame)) / idealSize(c.d, src)
			t.Logf("%v, deviation %.4f: ratio %.4f, %.2f %% longer than ideal",
				c.d, x, FrameSize/float64(len(frame)), 100*(loss-1))
			sum += loss
			greatest = max(greatest, loss)
		}
		if mean := sum / float64(len(deviations)); mean > c.mean || greatest > c.greatest {
			t.Errorf("%v: %.4f of an ideal coder's length, at worst %.4f; at most %.4f and %.4f expected",
				c.d, mean, greatest, c.mean, c.greatest)
		}
	}
}

// TestGains codes data whose gain simple heuristics miss.
func TestGains(t *testing.T) {
	half := append(randomBytes(64<<10, 1), make([]byte, 64<<10)...)
	for _, c := range []struct {
		name string
		d    DType
		src  []byte
		max  float64 // of the length
	}{
		{"flat", F8, flat(F8, 256<<10), 0.915}, // log2(150)/8 = 0.904; codes of 7 and 8 bits
		{"flat bytes", Bytes, flat(F8, 100000), 0.915},
		{"half random", F8, half, 0.75},
		{"7 bits", F8, sevenBits(128 << 10), 0.88}, // 7/8 = 0.875
		{"RLE planes", I64, smallInts(I64, 256<<10), 0.11},
		{"zeros", F32, make([]byte, 256<<10), 0.001},
	} {
		frame, _ := NewEncoder().AppendFrame(nil, c.src, c.d)
		if got := float64(len(frame)) / float64(len(c.src)); got > c.max {
			t.Errorf("%s: coded to %.4f, at most %.4f expected", c.name, got, c.max)
		}
	}
}

func sevenBits(n int) []byte {
	b := randomBytes(n, 9)
	for i := range b {
		b[i] = b[i]&0xfe | 1
	}
	return b
}

// TestNoAllocations holds the promise that encoders and decoders allocate
// nothing once they are warm.
func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED: the race detector allocates")
	}
	for _, d := range allDTypes {
		for _, k := range kinds {
			for _, n := range []int{1000, FrameSize} {
				src := k.make(d, n)
				e, z := NewEncoder(), NewDecoder()
				var frame []byte
				var plan Plan
				got := make([]byte, len(src))
				noAllocations(t, fmt.Sprintf("%v, %s: encode", d, k.name), func() {
					frame, plan = e.AppendFrame(frame[:0], src, d)
				})
				noAllocations(t, fmt.Sprintf("%v, %s: decode", d, k.name), func() {
					if err := z.DecodeFrame(got, frame, plan); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	src := repeat([]byte("it was the epoch of belief, "), FrameSize)
	frame, got, dec := z.EncodeAll(src, nil), make([]byte, FrameSize), NewDecoder()
	noAllocations(t, "decode a foreign frame", func() {
		if err := dec.DecodeFrame(got, frame, 0); err != nil {
			t.Fatal(err)
		}
	})
	src = weights(BF16, 3*FrameSize)
	var stream, back []byte
	noAllocations(t, "streams", func() {
		if stream, err = Compress(stream[:0], src, BF16); err == nil {
			back, err = Decompress(back[:0], stream, BF16, len(src))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// noAllocations runs f once, so that it is warm, and then again. A pool may lose
// what it holds to the garbage collector in between.
func noAllocations(t *testing.T, what string, f func()) {
	t.Helper()
	f()
	if n := testing.AllocsPerRun(5, f); n >= 1 {
		t.Errorf("%s: %.1f allocations", what, n)
	}
}

// TestKeptMemory holds the promise that encoders and decoders keep a few MiB at
// most.
func TestKeptMemory(t *testing.T) {
	src := repeat([]byte("it was the worst of times, "), FrameSize)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	e, z := NewEncoder(), NewDecoder()
	for _, d := range allDTypes {
		for _, n := range []int{FrameSize, 1000} {
			frame, plan := e.AppendFrame(nil, src[:n], d)
			if err := z.DecodeFrame(make([]byte, n), frame, plan); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	kept := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d KiB kept", kept>>10)
	if kept > 4<<20 {
		t.Errorf("%d KiB kept", kept>>10)
	}
	runtime.KeepAlive(e)
	runtime.KeepAlive(z)
}

// TestIndependent runs encoders, decoders and the functions in parallel.
func TestIndependent(t *testing.T) {
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			e, z := NewEncoder(), NewDecoder()
			for _, d := range allDTypes {
				src := kinds[g].make(d, 40000+g)
				frame, plan := e.AppendFrame(nil, src, d)
				got := make([]byte, len(src))
				if err := z.DecodeFrame(got, frame, plan); err != nil || !bytes.Equal(got, src) {
					t.Errorf("%v: %v", d, err)
				}
				stream, err := Compress(nil, src, d)
				if err != nil {
					t.Error(err)
				}
				if out, err := Decompress(nil, stream, d, len(src)); err != nil || !bytes.Equal(out, src) {
					t.Errorf("%v: %v", d, err)
				}
			}
		})
	}
	wg.Wait()
	// Those that called Done may take a moment to end.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines stay", runtime.NumGoroutine()-before)
}

func benchFrames(b *testing.B, f func(b *testing.B, d DType, src []byte)) {
	for _, d := range allDTypes {
		src := weights(d, FrameSize)
		if d == Bytes {
			src = repeat([]byte(fmt.Sprint(allDTypes, kinds)), FrameSize)
		}
		b.Run(d.String(), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			f(b, d, src)
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	benchFrames(b, func(b *testing.B, d DType, src []byte) {
		e := NewEncoder()
		frame, _ := e.AppendFrame(nil, src, d)
		for b.Loop() {
			frame, _ = e.AppendFrame(frame[:0], src, d)
		}
		b.ReportMetric(float64(len(src))/float64(len(frame)), "ratio")
	})
}

func BenchmarkDecode(b *testing.B) {
	benchFrames(b, func(b *testing.B, d DType, src []byte) {
		frame, plan := NewEncoder().AppendFrame(nil, src, d)
		z := NewDecoder()
		got := make([]byte, len(src))
		if err := z.DecodeFrame(got, frame, plan); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := z.DecodeFrame(got, frame, plan); err != nil {
				b.Fatal(err)
			}
		}
		if !bytes.Equal(got, src) {
			b.Fatal("other bytes")
		}
	})
}

// BenchmarkIncompressible encodes more than a cache holds, and copies it for
// comparison.
func BenchmarkIncompressible(b *testing.B) {
	src := randomBytes(64<<20, 1)
	e := NewEncoder()
	dst := make([]byte, MaxFrameSize(FrameSize))
	frames := func(b *testing.B, f func(src []byte)) {
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			for i := 0; i < len(src); i += FrameSize {
				f(src[i : i+FrameSize])
			}
		}
	}
	for _, d := range []DType{Bytes, BF16, F32} {
		b.Run(d.String(), func(b *testing.B) {
			frames(b, func(src []byte) { dst, _ = e.AppendFrame(dst[:0], src, d) })
		})
	}
	b.Run("memcpy", func(b *testing.B) {
		frames(b, func(src []byte) { copy(dst[:len(src)], src) })
	})
}

// BenchmarkParallel has an encoder or decoder for each processor.
func BenchmarkParallel(b *testing.B) {
	for _, d := range []DType{BF16, F16, F32} {
		src := weights(d, FrameSize)
		b.Run("encode/"+d.String(), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.RunParallel(func(pb *testing.PB) {
				e := NewEncoder()
				var frame []byte
				for pb.Next() {
					frame, _ = e.AppendFrame(frame[:0], src, d)
				}
			})
		})
		b.Run("decode/"+d.String(), func(b *testing.B) {
			frame, plan := NewEncoder().AppendFrame(nil, src, d)
			b.SetBytes(int64(len(src)))
			b.RunParallel(func(pb *testing.PB) {
				z := NewDecoder()
				got := make([]byte, len(src))
				for pb.Next() {
					if err := z.DecodeFrame(got, frame, plan); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
