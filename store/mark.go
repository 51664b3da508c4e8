package store

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// markName is an extended attribute that says that a file was begun as a
// container. The filesystem keeps it before any of the file's bytes: should a
// power cut lose the first of those and not the later ones, the file would else
// look like a plain one. Clients never see it; where a filesystem has no such
// attributes, containers go without.
const markName = "user.mithrilfs.container"

// mark and unmark do what they can.
func (b *backing) mark()   { _ = unix.Fsetxattr(b.fd(), markName, nil, 0) }
func (b *backing) unmark() { _ = unix.Fremovexattr(b.fd(), markName) }

// checkPlain is an error for a file of size bytes that was begun as a container
// and does not look like one. An empty one has lost nothing.
func checkPlain(fd int, size int64) error {
	if size == 0 {
		return nil
	}
	if _, err := unix.Fgetxattr(fd, markName, nil); err != nil {
		return nil
	}
	return &container.DamageError{Part: container.PartHeader, Reason: "it was never written, or has been overwritten: " +
		"the machine lost power while the file was being saved"}
}

// visibleXattrs removes the mark from a list of names, each ended by a zero.
func visibleXattrs(names []byte) []byte {
	return bytes.ReplaceAll(names, []byte(markName+"\x00"), nil)
}

// clientXattr is an error for the name that clients must not see.
func clientXattr(name string) error {
	if name == markName {
		return unix.ENODATA
	}
	return nil
}
