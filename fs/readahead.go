package fs

import (
	"os"
	"strconv"
)

// readAheadKiB is how far the kernel reads ahead of a sequential reader or of
// page faults. Its own 128 KiB make loading through a mapping several times
// slower; what a mount asks for at INIT can only lower it.
const readAheadKiB = 4096

// setReadAhead raises the read-ahead of the mount's own device, which takes
// root.
func (s *Server) setReadAhead() {
	m, ok, err := mountOf(s.point)
	if err == nil && ok && m.fsType == fsType {
		err = os.WriteFile("/sys/class/bdi/"+m.device+"/read_ahead_kb", []byte(strconv.Itoa(readAheadKiB)), 0)
	}
	if err != nil {
		s.log.Warn("can't raise the kernel's read-ahead: loading through mmap will be slower; "+
			"as root: echo 4096 > /sys/class/bdi/"+m.device+"/read_ahead_kb", "error", err)
	}
}
