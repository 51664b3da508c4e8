package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
)

// memoryWatch tells how much resident memory was needed since it began.
type memoryWatch struct{ before int64 }

func watchMemory() memoryWatch {
	debug.FreeOSMemory()
	// 5 resets the peak. Where that is not allowed, a peak of before counts too.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return memoryWatch{before: processStatus("VmRSS")}
}

func (m memoryWatch) peak() int64 { return max(processStatus("VmHWM")-m.before, 0) }

// processStatus returns a size in the kernel's description of this process, or 0.
func processStatus(field string) int64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			var kib int64
			_, _ = fmt.Sscan(string(rest), &kib)
			return kib << 10
		}
	}
	return 0
}
