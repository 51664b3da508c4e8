package store

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFailedSealIsTold: nobody waits for the last close to succeed, so its
// failure is counted, and told to whoever opens the file next.
func TestFailedSealIsTold(t *testing.T) {
	var log bytes.Buffer
	x := &faulty{err: unix.EIO, count: make(map[string]int)}
	s, err := Open(t.TempDir(), Options{sys: x, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	f, err := s.Create("model", 0o600, Caller{})
	must(t, err)
	_, err = f.WriteAt(testWeights(t), 0)
	must(t, err)
	must(t, f.Flush())
	x.armed, x.kind, x.nth = true, "pwrite", 0 // the index
	if err := f.Release(true); err == nil || !x.fired {
		t.Fatalf("the seal did not fail: %v", err)
	}
	if st := s.Stats(); st.SealFailures != 1 || st.Sealed != 0 {
		t.Errorf("counted %v", st)
	}
	f, err = s.Open(context.Background(), "model", Read)
	must(t, err)
	if !strings.Contains(log.String(), "last close of this file failed") || !strings.Contains(log.String(), "input/output error") {
		t.Errorf("the log says\n%s", log.String())
	}
	in, err := f.Inspect()
	must(t, err)
	if p := in.Summary().Problem; !strings.Contains(p, "last close failed") {
		t.Errorf("inspection says %q", p)
	}
	must(t, in.Close())
	must(t, f.Release(false))
	f, err = s.Open(context.Background(), "model", Write) // writing again mends it
	must(t, err)
	_, err = f.WriteAt([]byte{1}, 0)
	must(t, err)
	must(t, f.Release(true))
	if s.failures.of(f.key) != nil || s.Stats().Sealed != 1 {
		t.Error("the failure stays after a seal that succeeded")
	}
	must(t, s.Close())
}
