package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store"
)

// Remote is a look into a file of a live mount, for a process other than the
// one that serves it. It has the methods of a store.Inspection.
type Remote struct {
	file    *os.File
	summary store.Summary
}

// InspectRemote opens a file of a mount and asks for its summary. The error is
// ErrNotMounted for a file elsewhere. A container that is too damaged to be
// opened has a Summary only, which says so.
func InspectRemote(path string) (*Remote, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EIO) {
		return remoteProblem(path, err)
	}
	if err != nil {
		return nil, err
	}
	r := &Remote{file: f}
	err = ask(f, requestSummary, 0, "", &r.summary)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.summary.Path = path
	return r, nil
}

// remoteProblem asks the directory why a file can't be opened.
func remoteProblem(path string, openErr error) (*Remote, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, openErr
	}
	dir, err := os.Open(filepath.Dir(abs))
	if err != nil {
		return nil, openErr
	}
	defer func() { _ = dir.Close() }()
	var a checkAnswer
	if err := ask(dir, requestProblem, 0, filepath.Base(abs), &a); err != nil || a.Problem == "" {
		return nil, openErr
	}
	s := store.Summary{Path: path, Ratio: 1, Format: "container", State: store.StateDamaged, Problem: a.Problem,
		Bases: []string{}}
	return &Remote{summary: s}, nil
}

// Summary is the file in one line.
func (r *Remote) Summary() store.Summary { return r.summary }

// Tensors returns up to n entries of the tensor table from i on; fewer do not
// mean that it ends there, none do.
func (r *Remote) Tensors(i, n int) ([]store.TensorReport, error) {
	var list []store.TensorReport
	err := r.ask(requestTensors, i, &list)
	return list[:min(n, len(list))], err
}

// Frames returns up to n live pieces from i on; fewer do not mean that the list
// ends there, none do.
func (r *Remote) Frames(i, n int) ([]store.FrameReport, error) {
	var list []store.FrameReport
	err := r.ask(requestFrames, i, &list)
	return list[:min(n, len(list))], err
}

// Check lets the daemon decode the i-th live piece from its disk.
func (r *Remote) Check(i int) error {
	var a checkAnswer
	if err := r.ask(requestCheck, i, &a); err != nil {
		return err
	}
	if a.Problem != "" {
		return errors.New(a.Problem)
	}
	return nil
}

// Close closes the file.
func (r *Remote) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func (r *Remote) ask(request uint32, arg int, v any) error {
	if r.file == nil {
		return nil // a damaged file has nothing more to tell
	}
	return ask(r.file, request, uint64(arg), "", v)
}

// ask does one request.
func ask(f *os.File, request uint32, arg uint64, name string, v any) error {
	page := make([]byte, pageSize)
	binary.LittleEndian.PutUint64(page, arg)
	if copy(page[pageHeader:], name) < len(name) {
		return syscall.ENAMETOOLONG
	}
	binary.LittleEndian.PutUint32(page[8:], uint32(len(name)))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&page[0])))
	runtime.KeepAlive(f)
	switch {
	case errno == syscall.ENOTTY || errno == syscall.EINVAL && request == requestSummary:
		return ErrNotMounted
	case errno != 0:
		return errno
	}
	return parseAnswer(page, v)
}
