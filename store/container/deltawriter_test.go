package container

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
)

// TestDeltaWriterKeepsTheOrder: pieces that take longer are not overtaken, and
// what is encoded ahead is bounded.
func TestDeltaWriterKeepsTheOrder(t *testing.T) {
	data := weights(400_000, 1)
	m := &memory{}
	w := CreateDelta(m, generation(1), Dependence{})
	var ran, done, ended atomic.Int32
	w.Workers = 3
	w.Run = func(work func()) {
		ran.Add(1)
		work()
		ended.Add(1)
	}
	r := rand.New(rand.NewPCG(1, 1))
	appended := int32(0)
	for off := 0; off < len(data); {
		n := min(2*(1+r.IntN(1<<r.IntN(15))), len(data)-off)
		appended++
		must(t, w.Append(Piece{Offset: int64(off), DType: codec.BF16, Data: data[off : off+n], Done: func() { done.Add(1) }}))
		if behind := appended - done.Load(); behind > 6+1+3 {
			t.Fatalf("%d pieces are on their way", behind)
		}
		off += n
	}
	must(t, w.Seal("numbers", []Tensor{{Name: "w", DType: "BF16", Shape: []uint64{200_000}, End: 400_000}}, 400_100))
	if ran.Load() != 3 || ended.Load() != 3 || done.Load() != appended {
		t.Errorf("%d workers began and %d ended, %d of %d pieces are done", ran.Load(), ended.Load(), done.Load(), appended)
	}
	got := open(t, m.bytes())
	checkContents(t, got, append(data, make([]byte, 100)...))
	log := got.Log()
	if !got.State().Sealed || len(log.Generations) != 1 || log.Generation() != generation(1) || log.Format != "numbers" || log.Tensors[0].Name != "w" {
		t.Errorf("%+v, %v, %q, %+v", got.State(), log.Generations, log.Format, log.Tensors)
	}
	if replayed := replayAll(t, m.bytes()); fmt.Sprint(replayed.Extents) != fmt.Sprint(log.Extents) || replayed.Size != log.Size {
		t.Error("index and replay differ")
	}
	if err := w.Append(Piece{Offset: 400_100, Data: []byte{1}}); !errors.Is(err, errClosed) {
		t.Errorf("Append after Seal: %v", err)
	}
	if err := w.Seal("bytes", nil, 400_100); !errors.Is(err, errClosed) {
		t.Errorf("a second Seal: %v", err)
	}
	w.Close()
}

// TestDeltaWriterChoosesTheSmaller: what bases do not help is a full frame.
func TestDeltaWriterChoosesTheSmaller(t *testing.T) {
	near := steps(2, 4000, codec.BF16, 1)
	f := newFamily(1 << 20)
	base := &member{tensors: []tensor{{codec.BF16, near[1]}, {codec.BF16, weights(8000, 5)}}}
	m := &member{tensors: []tensor{{codec.BF16, near[0]}, {codec.BF16, weights(8000, 6)}}}
	f.add(t, generation(1), base, nil, nil)
	f.add(t, generation(0), m, []Generation{generation(1)}, []*member{base})
	r := f.reader(t, generation(0))
	defer r.Close()
	checkContents(t, r, f.logical[generation(0)])
	x := r.Log().Extents
	if x[0].Frame.Coding != CodingDelta || x[0].Frame.Bases != 1 || x[1].Frame.Coding != CodingFull || x[1].Frame.Bases != 0 {
		t.Errorf("%+v", x)
	}
}

// TestBadPieces are refused, and nothing is sealed after that.
func TestBadPieces(t *testing.T) {
	data := weights(1000, 1)
	d := Dependence{[]Base{{generation(1), 1000}}, []Segment{{100, 600, 0, 500, codec.BF16, codec.BF16}}}
	elements := func(n int, d codec.DType) []delta.Elements { return []delta.Elements{{Data: data[:n], Type: d}} }
	for name, p := range map[string]Piece{
		"empty":                  {Offset: 100},
		"before the end":         {Offset: 49, Data: data[:10]},
		"no place in the base":   {Offset: 90, Data: data[:20], DType: codec.BF16, Bases: elements(20, codec.BF16)},
		"another length":         {Offset: 100, Data: data[:20], DType: codec.BF16, Bases: elements(18, codec.BF16)},
		"another type":           {Offset: 100, Data: data[:20], DType: codec.F16, Bases: elements(20, codec.BF16)},
		"another type of a base": {Offset: 100, Data: data[:20], DType: codec.BF16, Bases: elements(20, codec.F16)},
		"too many bases":         {Offset: 100, Data: data[:20], DType: codec.BF16, Bases: append(elements(20, codec.BF16), elements(20, codec.BF16)...)},
		"past all offsets":       {Offset: 1<<63 - 5, Data: data[:20]},
	} {
		m := &memory{}
		w := CreateDelta(m, generation(0), d)
		must(t, w.Append(Piece{Data: data[:50]}))
		done := false
		p.Done = func() { done = true }
		err := w.Append(p)
		if err == nil || !done {
			t.Errorf("%s: %v, done %v", name, err, done)
		}
		if e := w.Seal("bytes", nil, 1000); !errors.Is(e, err) {
			t.Errorf("%s: Seal: %v", name, e)
		}
		if s, err := Summarize(m, int64(len(m.b))); err != nil || s.Sealed {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	w := CreateDelta(&memory{}, generation(0), d)
	must(t, w.Append(Piece{Data: data[:50]}))
	if err := w.Seal("bytes", nil, 49); err == nil || !strings.Contains(err.Error(), "after pieces up to 50") {
		t.Errorf("a size within the pieces: %v", err)
	}
}

// TestDeltaWriterFails: wherever the storage ends, its error reaches the caller,
// all pieces are done with, and nothing is sealed.
func TestDeltaWriterFails(t *testing.T) {
	f := chainOf(t, 1, 1, 10000, 4<<10, codec.BF16, 1<<20)
	dependence := f.reader(t, generation(0)).Dependence()
	write := func(m *memory) (sealed error) {
		w := CreateDelta(m, generation(0), dependence)
		var appended, done atomic.Int32
		var err error
		for off := 0; off < 20000 && err == nil; off += 4000 {
			appended.Add(1)
			p := Piece{Offset: int64(100 + off), DType: codec.BF16, Data: f.logical[generation(0)][100+off : 4100+off]}
			p.Bases = []delta.Elements{{Data: f.logical[generation(1)][101+off : 4101+off], Type: codec.BF16}}
			p.Done = func() { done.Add(1) }
			err = w.Append(p)
		}
		sealed = w.Seal("bytes", nil, 21000)
		if done.Load() != appended.Load() {
			t.Errorf("%d of %d pieces are done", done.Load(), appended.Load())
		}
		if err != nil && !errors.Is(sealed, err) {
			t.Errorf("Append: %v, Seal: %v", err, sealed)
		}
		return sealed
	}
	whole := &memory{}
	must(t, write(whole))
	size := int64(len(whole.b))
	for room := int64(1); room < size; room += size / 37 {
		m := &memory{room: room}
		if err := write(m); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: %v", room, size, err)
		}
		if s, err := Summarize(m, int64(len(m.b))); s.Sealed || room >= HeaderSize && err != nil {
			t.Errorf("room for %d of %d bytes: %+v, %v", room, size, s, err)
		}
	}
}

// TestDeltaWriterGivenUp leaves no goroutine behind.
func TestDeltaWriterGivenUp(t *testing.T) {
	ended := make(chan struct{}, 2)
	w := CreateDelta(&memory{}, generation(1), Dependence{})
	w.Workers = 2
	w.Run = func(work func()) {
		work()
		ended <- struct{}{}
	}
	must(t, w.Append(Piece{Data: []byte("given up")}))
	w.Close()
	for range 2 {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a worker goes on")
		}
	}
	if err := w.Append(Piece{Offset: 8, Data: []byte("more")}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	CreateDelta(&memory{}, generation(1), Dependence{}).Close()
}
