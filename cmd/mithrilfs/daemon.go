package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyFD is the descriptor that a background process gets, after the three
// standard ones, to tell that its mount can be used: it writes a byte.
const readyFD = 3

// background starts this program again in a session of its own, to serve, and
// returns when it is ready. Until then its standard error comes here; if it
// ends instead, so does this process, with its code.
func (a *app) background(m *mountRequest) error {
	exe, err := os.Executable()
	if err != nil {
		return mountError{fmt.Errorf("finding this program: %w", err)}
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return mountError{err}
	}
	defer func() { _ = ready.Close() }()
	// What this process inherited beyond the standard descriptors, such as a
	// shell's pipe, is not to stay open with the mount. Without the system call,
	// which is from Linux 5.11, it does.
	_ = unix.CloseRange(readyFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	cmd := exec.Command(exe, m.arguments(readyFD)...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = tell.Close()
	if err != nil {
		return mountError{fmt.Errorf("starting the background process: %w", err)}
	}
	defer passSignals(cmd.Process)()
	return a.await(cmd, ready, said)
}

// await returns nil when the background process is ready.
func (a *app) await(cmd *exec.Cmd, ready, said io.Reader) error {
	text := make(chan []byte, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, said) // whatever came before an error is shown
		text <- b.Bytes()
	}()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	_, _ = a.stderr.Write(<-text)
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return reported(exit.ExitCode())
	}
	if err == nil { // it was unmounted at once
		return nil
	}
	return mountError{fmt.Errorf("the background process ended: %w", err)}
}

// passSignals lets a user who interrupts the wait end the background process.
func passSignals(p *os.Process) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for range c {
			_ = p.Signal(syscall.SIGTERM) // an error means that it has ended
		}
	}()
	return func() { signal.Stop(c); close(c) }
}

// detach, in the background process, gives up standard error for the log file
// or nothing, and tells the waiting process that the mount is ready.
func (m *mountRequest) detach(log *os.File) error {
	if m.ready < 0 {
		return nil
	}
	to := log
	if to == nil {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer func() { _ = null.Close() }()
		to = null
	}
	if err := unix.Dup3(int(to.Fd()), unix.Stderr, 0); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	f := os.NewFile(uintptr(m.ready), "ready")
	if f == nil {
		return usagef("--ready-fd %d is no descriptor", m.ready)
	}
	_, err := f.Write([]byte{1})
	return errors.Join(err, f.Close())
}
