package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
)

const (
	// shutdownGrace is how long open files keep a mount alive after SIGTERM.
	shutdownGrace = 10 * time.Second
	// The collector works harder from memoryLimit on, which does not count the
	// cache, and in any case after half of what is in use came on top.
	memoryLimit  = 128 << 20
	defaultCache = 64 << 20 // of store.Options
	gcPercent    = 50
)

// mountRequest is what the command line of mount asks for.
type mountRequest struct {
	dir, point string // absolute; point is "" for dir itself
	foreground bool
	readOnly   bool
	options    []string // of -o, as given
	log        string   // absolute, or ""
	verbose    bool
	ready      int // a descriptor to tell readiness to, or -1
}

func (a *app) mountCommand() *cobra.Command {
	m := &mountRequest{}
	cmd := &cobra.Command{
		Use:   "mount [--foreground] [--read-only] [-o OPTIONS] DIR [MOUNTPOINT]",
		Short: "Mount a directory",
		Long: `mount makes the files of the backing directory DIR available at MOUNTPOINT, or over
DIR itself. Files that are there already are served as they are; new files that hold
tensors are stored compressed. It returns when the mount can be used, and leaves a
process in the background that serves it until it is unmounted. On SIGTERM, SIGINT
or SIGHUP that process waits up to 10 seconds for open files, seals them, unmounts
and exits. On SIGUSR1 it logs what it has counted.

When nothing has been saved for some seconds, checkpoints of one run are stored as their
differences from the next ones, in the background and at lowest priority; --series=off
leaves them as they are.

In the foreground the log goes to standard error, in the background nowhere, unless
--log names a file, which is appended to.

` + optionHelp,
		Example: `  mithrilfs mount ckpt                    # over ckpt itself
  mithrilfs mount /data/packed /mnt/ckpt
  mithrilfs mount -o allow_other,cache=256MiB --log /var/log/mithrilfs.log ckpt`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeDirs,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.mount(m, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&m.foreground, "foreground", "f", false, "serve in this process until unmounted")
	f.BoolVarP(&m.readOnly, "read-only", "r", false, "allow no changes; others may serve the directory too")
	f.StringArrayVarP(&m.options, "option", "o", nil, "mount `OPTIONS`, separated by commas")
	f.Func("durability", "when a file is made durable unasked: `WHEN` is rename, before it replaces another\n(the default), or fsync, never",
		func(s string) error {
			if _, ok := durabilities[s]; !ok {
				return errors.New("it is rename or fsync")
			}
			m.options = append(m.options, "durability="+s)
			return nil
		})
	for _, o := range []struct{ name, usage string }{
		{"series", "store checkpoints of a run as differences from the next ones, in the background: `WHETHER`\non (the default) or off"},
		{"series-depth", "read at most `N` others for one such checkpoint (12)"},
		{"series-cpu", "processors that this may use, such as 0.5: a `SHARE` of their time that nothing else needs (1)"},
	} {
		f.Func(o.name, o.usage, func(s string) error {
			var parsed store.SeriesOptions
			if err := parseSeriesOption(&parsed, o.name, s); err != nil {
				return err
			}
			m.options = append(m.options, o.name+"="+s)
			return nil
		})
	}
	f.StringVar(&m.log, "log", "", "append the log to this `FILE`")
	f.BoolVarP(&m.verbose, "verbose", "v", false, "log every request")
	f.IntVar(&m.ready, "ready-fd", -1, "")
	_ = f.MarkHidden("ready-fd") // the flag exists
	return cmd
}

func (a *app) mount(m *mountRequest, args []string) error {
	o, err := parseMountOptions(m.options)
	if err != nil {
		return err
	}
	o.ReadOnly = o.ReadOnly || m.readOnly
	if err := m.absolute(args); err != nil {
		return err
	}
	if !m.foreground {
		return a.background(m)
	}
	if err := a.serve(m, o); err != nil {
		return mountError{err}
	}
	return nil
}

// absolute sets the paths: the background process works in another directory.
func (m *mountRequest) absolute(args []string) error {
	paths := []*string{&m.dir, &m.point}
	for i, arg := range args {
		if arg == "" {
			return usagef("an empty path names no directory")
		}
		*paths[i] = arg
	}
	for _, p := range append(paths, &m.log) {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}

// serve mounts and returns when the mount is gone and everything is sealed.
func (a *app) serve(m *mountRequest, o fs.Options) error {
	slackenTimers()
	log, logFile, err := a.openLog(m)
	if err != nil {
		return err
	}
	if logFile != nil {
		defer func() { _ = logFile.Close() }()
	}
	o.Logger, o.Debug = log, m.verbose
	limitMemory(o.Store)
	runMore(&o.Store)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	count := make(chan os.Signal, 1)
	signal.Notify(count, syscall.SIGUSR1)
	s, err := fs.Mount(m.dir, m.point, o)
	if err != nil {
		return err
	}
	if err := m.detach(logFile); err != nil {
		return errors.Join(err, s.Shutdown(0))
	}
	over := make(chan struct{})
	defer close(over)
	go returnMemory(over)
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	for {
		select {
		case err := <-done:
			return err
		case <-count:
			s.LogStats()
		case sig := <-stop:
			log.Info("shutting down", "signal", sig.String())
			signal.Stop(stop) // the next one ends the process
			return shutdown(s, done)
		}
	}
}

// shutdown ends a mount. Where no client keeps files open, that is when all is
// sealed. Where one does, Shutdown has sealed what it wrote, and it is left
// behind.
func shutdown(s *fs.Server, done <-chan error) error {
	err := s.Shutdown(shutdownGrace)
	if errors.Is(err, fs.ErrDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	return <-done
}

// openLog returns the log, and the file that it goes to, which is nil for
// standard error and for none.
func (a *app) openLog(m *mountRequest) (*slog.Logger, *os.File, error) {
	var w io.Writer = a.stderr
	var file *os.File
	switch {
	case m.log != "":
		f, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, nil, err
		}
		w, file = f, f
	case m.ready >= 0:
		return slog.New(slog.DiscardHandler), nil, nil
	}
	level := slog.LevelInfo
	if m.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), file, nil
}

// runMore lets Go run more threads than there are processors, unless the user's
// environment says how many. Most of the time of a request is spent in system
// calls, during which Go takes a processor to be in use until it looks again.
func runMore(o *store.Options) {
	n := runtime.GOMAXPROCS(0)
	if o.Workers == 0 {
		o.Workers = n
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * n)
	}
}

// limitMemory makes the collector keep the process small, unless the user's
// environment says how it should work.
func limitMemory(o store.Options) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit + max(o.CacheBytes, defaultCache))
	}
}

// arguments is the command line of the process that serves in the background,
// which tells readiness to the descriptor ready.
func (m *mountRequest) arguments(ready int) []string {
	args := []string{"mount", "--foreground", fmt.Sprintf("--ready-fd=%d", ready)}
	if m.readOnly {
		args = append(args, "--read-only")
	}
	if m.verbose {
		args = append(args, "--verbose")
	}
	if m.log != "" {
		args = append(args, "--log="+m.log)
	}
	for _, o := range m.options {
		args = append(args, "--option="+o)
	}
	args = append(args, "--", m.dir)
	if m.point != "" {
		args = append(args, m.point)
	}
	return args
}
