package fs

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/mithrilfs/mithrilfs/store"
)

// A client asks about a file of a mount by ioctls on the opened file, so whoever
// may read the file may ask. Request and answer share one buffer of pageSize
// bytes, the most that an ioctl's number can express in whole KiB:
//
//	0  u64  argument: how many entries to skip, or which frame to check
//	8  u32  length of the answer, in JSON
//	12 …    name (a request on a directory), or the answer
//
// An answer is a page of a list, as many entries as fit; an empty list ends it.
const (
	pageSize   = 15 << 10
	pageHeader = 12

	ioctlType  = 'M'
	ioctlRead  = 2
	ioctlWrite = 1
)

// The requests.
var (
	requestSummary = ioctlNumber(1) // a store.Summary
	requestTensors = ioctlNumber(2) // a list of store.TensorReport
	requestFrames  = ioctlNumber(3) // a list of store.FrameReport
	requestCheck   = ioctlNumber(4) // a checkAnswer: the frame, decoded from the disk
	requestProblem = ioctlNumber(5) // on a directory: a checkAnswer for a name in it that can't be opened
)

// ioctlNumber is the kernel's _IOWR('M', nr, [pageSize]byte).
func ioctlNumber(nr uint32) uint32 {
	return (ioctlRead|ioctlWrite)<<30 | pageSize<<16 | ioctlType<<8 | nr
}

// checkAnswer is what came out of a check.
type checkAnswer struct {
	Problem string `json:"problem"` // "" if there is none
}

// control answers a request about an open file.
func control(f *store.File, request uint32, in, out []byte) syscall.Errno {
	if request < requestSummary || request > requestCheck {
		return syscall.ENOTTY
	}
	if len(in) < pageHeader || len(out) < pageSize {
		return syscall.EINVAL
	}
	x, err := f.Inspect()
	if err != nil {
		return errno(err)
	}
	defer func() { _ = x.Close() }()
	arg := int(min(binary.LittleEndian.Uint64(in), 1<<40))
	switch request {
	case requestSummary:
		return answer(out, x.Summary())
	case requestTensors:
		return answerList(out, func(n int) any { return x.Tensors(arg, n) })
	case requestFrames:
		return answerList(out, func(n int) any { return x.Frames(arg, n) })
	}
	err = x.Check(arg)
	if errors.Is(err, syscall.EINVAL) {
		return syscall.EINVAL
	}
	return answer(out, problem(err))
}

func problem(err error) checkAnswer {
	if err == nil {
		return checkAnswer{}
	}
	return checkAnswer{Problem: err.Error()}
}

// answer writes v into the page. What does not fit is E2BIG.
func answer(out []byte, v any) syscall.Errno {
	b, err := json.Marshal(v)
	if err != nil {
		return syscall.EIO
	}
	if len(b) > pageSize-pageHeader {
		return syscall.E2BIG
	}
	clear(out[:pageHeader])
	binary.LittleEndian.PutUint32(out[8:], uint32(len(b)))
	copy(out[pageHeader:], b)
	return 0
}

// answerList writes as many entries as fit.
func answerList(out []byte, list func(n int) any) syscall.Errno {
	for n := 64; ; n /= 2 {
		e := answer(out, list(n))
		if e != syscall.E2BIG || n == 1 {
			return e
		}
	}
}

// parseAnswer reads what answer wrote.
func parseAnswer(page []byte, v any) error {
	n := binary.LittleEndian.Uint32(page[8:])
	if n > pageSize-pageHeader {
		return fmt.Errorf("an answer of %d bytes in a page of %d", n, pageSize)
	}
	return json.Unmarshal(page[pageHeader:pageHeader+n], v)
}

// requestName reads the name in a request about a directory: one component.
func requestName(in []byte) (string, bool) {
	if len(in) < pageHeader {
		return "", false
	}
	n := binary.LittleEndian.Uint32(in[8:])
	if n == 0 || int64(n) > int64(len(in)-pageHeader) {
		return "", false
	}
	name := string(in[pageHeader : pageHeader+n])
	return name, name != "." && name != ".." && !strings.Contains(name, "/")
}
