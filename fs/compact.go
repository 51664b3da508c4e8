package fs

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mithrilfs/mithrilfs/store"
)

// A client asks a mount to code checkpoints against each other now, by ioctls on
// a directory or a file, which say what is meant, and asks again and again what
// has become of it. One who asks no more has gone, and the work ends.

// The requests, as in control.go. Only root and whoever runs the daemon may.
var (
	requestCompact    = ioctlNumber(6) // begins; argument 1: only tell what would be done
	requestCompacting = ioctlNumber(7) // a compactAnswer; argument: the Seq of the last one
	requestCompactEnd = ioctlNumber(8) // ends it
)

// compactLease is how long a client may be silent.
const compactLease = 5 * time.Second

// compactAnswer is what happened since the last one. More may follow at once while
// it has reports.
type compactAnswer struct {
	Seq     uint64               `json:"seq"`
	Reports []store.SeriesReport `json:"reports"`
	Over    bool                 `json:"over"`
	Problem string               `json:"problem"` // why it ended early
}

// compactions is the one that goes on in a mount, or went on last.
type compactions struct {
	mu  sync.Mutex // guards what follows
	job *compactJob
}

type compactJob struct {
	cancel context.CancelFunc
	lease  *time.Timer

	mu      sync.Mutex // guards what follows
	seq     uint64
	changed map[string]seriesNews // by series
	over    bool
	err     error
}

// seriesNews is the last report of a series.
type seriesNews struct {
	seq    uint64
	report store.SeriesReport
}

// begin starts a job, unless there is one already.
func (x *compactions) begin(s *store.Store, rel string, dry bool) syscall.Errno {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.job != nil && !x.job.ended() {
		return syscall.EBUSY
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &compactJob{cancel: cancel, lease: time.AfterFunc(compactLease, cancel), changed: make(map[string]seriesNews)}
	x.job = j
	o := store.CompactOptions{DryRun: dry, Report: j.report}
	if rel != "" {
		o.Paths = []string{rel}
	}
	go func() {
		err := s.Compact(ctx, o)
		j.lease.Stop()
		j.mu.Lock()
		defer j.mu.Unlock()
		j.over, j.err = true, err
	}()
	return 0
}

func (j *compactJob) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.over
}

// report takes the news of one series.
func (j *compactJob) report(r store.SeriesReport) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	j.changed[r.ID] = seriesNews{j.seq, r}
}

// since returns up to n reports that are newer than seq, the oldest first.
func (j *compactJob) since(seq uint64, n int) compactAnswer {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := compactAnswer{Seq: seq}
	for len(a.Reports) < n {
		var next *seriesNews
		for _, c := range j.changed {
			if c.seq > a.Seq && (next == nil || c.seq < next.seq) {
				next = &c
			}
		}
		if next == nil {
			a.Over = j.over
			if j.err != nil {
				a.Problem = j.err.Error()
			}
			break
		}
		a.Seq = next.seq
		a.Reports = append(a.Reports, next.report)
	}
	return a
}

// control answers the requests. rel is what is meant.
func (x *compactions) control(s *store.Store, rel string, request uint32, in, out []byte) syscall.Errno {
	if len(in) < pageHeader || len(out) < pageSize {
		return syscall.EINVAL
	}
	arg := binary.LittleEndian.Uint64(in)
	if request == requestCompact {
		if e := x.begin(s, rel, arg == 1); e != 0 {
			return e
		}
		return answer(out, compactAnswer{})
	}
	x.mu.Lock()
	j := x.job
	x.mu.Unlock()
	if j == nil {
		return syscall.ENOENT
	}
	if request == requestCompactEnd {
		j.cancel()
		return answer(out, compactAnswer{})
	}
	j.lease.Reset(compactLease)
	for n := 64; ; n /= 2 {
		e := answer(out, j.since(arg, n))
		if e != syscall.E2BIG || n == 1 {
			return e
		}
	}
}

// mayCompact says whether the caller of a request is who runs the daemon, or root.
func mayCompact(c store.Caller) bool { return c.UID == 0 || int(c.UID) == os.Geteuid() }

// compactPoll is how often a client asks.
const compactPoll = 200 * time.Millisecond

// CompactRemote lets the daemon of a live mount code the checkpoints at path, and
// those of their series, as store.Store.Compact does. The error is ErrNotMounted
// for a path elsewhere. When ctx ends it is given up, with the cause of that.
func CompactRemote(ctx context.Context, path string, dry bool, report func(store.SeriesReport)) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var arg uint64
	if dry {
		arg = 1
	}
	var a compactAnswer
	if err := ask(f, requestCompact, arg, "", &a); err != nil {
		return &os.PathError{Op: "compact", Path: path, Err: err}
	}
	for {
		err := ask(f, requestCompacting, a.Seq, "", &a)
		if err != nil {
			return &os.PathError{Op: "compact", Path: path, Err: err}
		}
		for _, r := range a.Reports {
			report(r)
		}
		switch {
		case a.Over && a.Problem != "":
			return &os.PathError{Op: "compact", Path: path, Err: remoteError(a.Problem)}
		case a.Over:
			return nil
		}
		if len(a.Reports) > 0 && ctx.Err() == nil {
			a.Reports = nil // not to be filled in once more
			continue
		}
		select {
		case <-ctx.Done():
			_ = ask(f, requestCompactEnd, 0, "", &a) // it ends by itself, too
			return context.Cause(ctx)
		case <-time.After(compactPoll):
		}
	}
}

// remoteError is what a daemon says.
type remoteError string

func (e remoteError) Error() string { return string(e) }
