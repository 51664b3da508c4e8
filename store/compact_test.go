package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// total is what files take in the backing directory.
func total(t testing.TB, s *Store, files map[string][]byte) (stored int64) {
	t.Helper()
	for name := range files {
		st, err := os.Stat(filepath.Join(s.Path(), name))
		must(t, err)
		stored += st.Size()
	}
	return stored
}

// TestCompact: a series becomes small, its newest member stays full, a second run
// finds nothing to do, and what was deleted is coded around.
func TestCompact(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	files := make(map[string][]byte)
	for i, data := range savesOf(t, 1, 6) {
		name := fmt.Sprintf("run/checkpoint-%d/model.safetensors", i*10)
		storeFile(t, s, name, data)
		files[name] = data
	}
	storeFile(t, s, "other/model.safetensors", savesOf(t, 9, 1)[0])
	before := total(t, s, files)
	var last SeriesReport
	report := func(r SeriesReport) {
		if r.Files > 1 {
			last = r
		}
	}
	must(t, s.Compact(context.Background(), CompactOptions{DryRun: true, Report: report}))
	if now := total(t, s, files); now != before || last.Planned == 0 || last.After >= before/2 {
		t.Errorf("after a dry run there are %d bytes, %d before: %+v", now, before, last)
	}
	estimated := last.After
	must(t, s.Compact(context.Background(), CompactOptions{Report: report}))
	expect(t, s, files)
	after := total(t, s, files)
	t.Logf("%d bytes, %d before, %d estimated, ratio %.2f", after, before, estimated, last.Ratio)
	if after != last.After || before != last.Before || after > before/2 || last.Files != 6 {
		t.Errorf("there are %d bytes, %d before: %+v", after, before, last)
	}
	if l := logOf(t, s, "run/checkpoint-50/model.safetensors"); len(l.Dependence.Bases) > 0 {
		t.Error("the newest is not full")
	}
	coded := s.Stats().Coded
	must(t, s.Compact(context.Background(), CompactOptions{}))
	if now := s.Stats().Coded; now != coded {
		t.Errorf("a second run codes %d more", now-coded)
	}
	for _, i := range []int{20, 50, 0} {
		name := fmt.Sprintf("run/checkpoint-%d/model.safetensors", i)
		must(t, s.Unlink(name))
		delete(files, name)
		must(t, s.Compact(context.Background(), CompactOptions{Paths: []string{"run"}}))
		expect(t, s, files)
		for pin, names := range pinsOf(t, s.Path()) {
			if names == 0 {
				t.Errorf("without checkpoint %d, pin %s keeps an inode", i, pin)
			}
		}
	}
	t.Log(s.Stats())
}

// TestCompactLater: what was saved without series can be compacted when nothing is
// mounted, and where nothing was saved stays as it was.
func TestCompactLater(t *testing.T) {
	dir := t.TempDir()
	for _, saves := range []int{0, 1} {
		s, err := Open(dir, Options{})
		must(t, err)
		for _, data := range savesOf(t, 1, saves) {
			storeFile(t, s, "model.safetensors", data)
		}
		must(t, s.Close())
		if used := UsedAsBacking(dir); used != (saves > 0) {
			t.Errorf("after %d saves the directory counts as used: %v", saves, used)
		}
	}
}

// storeRun stores the first n checkpoints of a run and returns them by name.
func storeRun(t testing.TB, s *Store, n int) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for i, data := range savesOf(t, 1, n) {
		name := fmt.Sprintf("checkpoint-%d.safetensors", i)
		storeFile(t, s, name, data)
		files[name] = data
	}
	return files
}

// TestCompactByItself begins when clients are quiet, and ends with the store.
func TestCompactByItself(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Series: SeriesOptions{Enabled: true, Quiet: 20 * time.Millisecond}})
	must(t, err)
	files := storeRun(t, s, 3)
	eventually(t, func() bool { return s.Stats().Coded >= 2 })
	expect(t, s, files)
	must(t, s.Close())
}

// TestCompactEnds at once when nobody wants it any more.
func TestCompactEnds(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	files := storeRun(t, s, 6)
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	err = s.Compact(ctx, CompactOptions{Report: func(r SeriesReport) {
		if r.Coded > 0 {
			cancel(cause)
		}
	}})
	if !errors.Is(err, cause) {
		t.Errorf("it says %v", err)
	}
	expect(t, s, files)
	if n := s.Stats().Coded; n != 1 {
		t.Errorf("%d were coded", n)
	}
	done := make(chan error)
	go func() { done <- s.Compact(context.Background(), CompactOptions{}) }()
	s.Hurry()
	if err := <-done; err != nil && !errors.Is(err, errClosing) {
		t.Error(err)
	}
	must(t, s.Close())
	checkSeries(t, s.Path(), files)
}

// TestPacer: work takes its share of the time, and much less while clients save.
func TestPacer(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	const work = 10 * time.Millisecond
	nap := func(p *pacer) time.Duration {
		must(t, p.wait())
		time.Sleep(work)
		began := time.Now()
		must(t, p.wait())
		return time.Since(began)
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, c := range []struct {
		cpu     float64
		saving  bool
		hurry   bool
		workers int
		least   time.Duration
		most    time.Duration // generous: the machine may be busy
	}{
		{cpu: 1, workers: 1, most: work},
		{cpu: 0.5, workers: 1, least: work, most: 20 * work},
		{cpu: 1.5, workers: 2, least: work / 3, most: 10 * work},
		{cpu: 1, saving: true, workers: 1, least: 9 * work, most: 100 * work},
		{cpu: 1, saving: true, hurry: true, workers: 1, most: work},
	} {
		s.written.Store(0)
		if c.saving {
			s.written.Store(time.Now().UnixNano())
		}
		p := newPacer(ctx, s, c.cpu)
		p.hurry = c.hurry
		if got := nap(p); got < c.least || got > c.most || p.workers != c.workers {
			t.Errorf("%+v: it waits for %v, with %d workers", c, got, p.workers)
		}
	}
	p := newPacer(ctx, s, 0.001)
	must(t, p.wait())
	time.Sleep(work)
	cancel()
	if err := p.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end it says %v", err)
	}
}

// TestWhoSaves: a client that writes much is saving, one that keeps a log is not.
func TestWhoSaves(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	storeFile(t, s, "log", make([]byte, savingLeast-1))
	if s.saving() {
		t.Error("a few lines of text are taken for a checkpoint")
	}
	storeFile(t, s, "checkpoint", make([]byte, 4*savingLeast))
	if !s.saving() {
		t.Error("nobody is said to be saving")
	}
}

// TestNoGain: checkpoints that do not become smaller stay full, and are not tried
// again.
func TestNoGain(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	saves := [][]byte{savesOf(t, 1, 1)[0], savesOf(t, 5, 1)[0]}
	storeFile(t, s, "a", saves[0])
	storeFile(t, s, "b", saves[1])
	m, base := memberOf(t, s, "a"), memberOf(t, s, "b")
	st, err := os.Stat(filepath.Join(s.Path(), "a"))
	must(t, err)
	_, err = s.keeper.recoding().recode(m, []member{base}, alike(logOf(t, s, "a"), logOf(t, s, "b")), st.Size()*19/20)
	if !errors.Is(err, errNoGain) {
		t.Errorf("unrelated weights: %v", err)
	}
	expect(t, s, map[string][]byte{"a": saves[0], "b": saves[1]})
	if l := logOf(t, s, "a"); len(l.Dependence.Bases) != 0 {
		t.Error("it was coded anew")
	}
	s.keeper.tidy()
	if pins := pinsOf(t, s.Path()); len(pins) > 0 {
		t.Errorf("%v are pinned", pins)
	}
	leftovers(t, s.Path(), nil)
}

// TestOrderComesFirst: who asks for a run does not wait for one that the store
// does by itself.
func TestOrderComesFirst(t *testing.T) {
	s, err := Open(t.TempDir(), Options{Series: SeriesOptions{Enabled: true, Quiet: time.Millisecond, CPU: 0.0001}})
	must(t, err)
	files := storeRun(t, s, 6)
	eventually(t, func() bool { return s.pins.count.Load() > 0 }) // it has begun
	must(t, s.Compact(context.Background(), CompactOptions{}))
	if n := s.Stats().Coded; n < 5 {
		t.Errorf("%d are coded", n)
	}
	expect(t, s, files)
	must(t, s.Close())
}
