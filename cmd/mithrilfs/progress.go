package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progressInterval is how often the line changes.
const progressInterval = 100 * time.Millisecond

// progress is a line on a terminal that tells how far a command has come.
// Elsewhere it writes nothing. All methods are safe for concurrent use.
type progress struct {
	w     io.Writer // nil: no terminal
	width int

	mu      sync.Mutex
	total   int64 // bytes; 0: unknown
	done    int64
	started time.Time
	shown   time.Time // when the line was last written; zero: there is none
}

func newProgress(w io.Writer, total int64) *progress {
	p := &progress{total: total, started: time.Now(), width: 80}
	if !terminal(w) {
		return p
	}
	p.w = w
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// add counts n bytes of the file name.
func (p *progress) add(name string, n int64) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := time.Now()
	p.show(now, func() string { return p.line(name, now) })
}

// tell shows a line of the caller's own.
func (p *progress) tell(line string) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.show(time.Now(), func() string { return line })
}

// show writes a line, unless the last one is too new. The caller holds mu.
func (p *progress) show(now time.Time, text func() string) {
	if now.Sub(p.shown) < progressInterval {
		return
	}
	p.shown = now
	line := []rune(text())
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", string(line[:min(len(line), p.width-1)]))
}

func (p *progress) line(name string, now time.Time) string {
	rate := int64(float64(p.done) / max(now.Sub(p.started).Seconds(), 1e-3))
	if p.total == 0 {
		return fmt.Sprintf("%s  %s/s  %s", human(p.done), human(rate), printable(name))
	}
	percent := 100 * min(float64(p.done)/float64(p.total), 1)
	return fmt.Sprintf("%3.0f %%  %s of %s  %s/s  %s", percent, human(p.done), human(p.total), human(rate), printable(name))
}

// clear takes the line away, before something else is written.
func (p *progress) clear() {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shown.IsZero() {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
		p.shown = time.Time{}
	}
}
