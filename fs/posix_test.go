package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// posixFails are go-fuse's conformance tests that a mount does not pass, with
// the reason.
var posixFails = map[string]string{
	"FcntlFlockLocksFile": "it fails on ext4 itself",
}

func TestPosix(t *testing.T) {
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			m := mountOver(t)
			if why := posixFails[name]; why != "" {
				t.Skipf("SKIPPED: %s", why)
			}
			test(t, m.point)
		})
	}
}
