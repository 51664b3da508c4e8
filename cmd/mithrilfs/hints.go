package main

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/container"
)

const listMounts = "findmnt -t fuse.mithrilfs lists the mounts of mithrilfs"

// hints say what to do about errors whose own text does not.
var hints = [...]struct {
	err  error
	hint string
}{
	{store.ErrInUse, listMounts},
	{errIntoMount, "to store files there, copy them: cp -a SRC DST"},
	{errNoBacking, "mount that directory, and compact the mount; or make one with: mithrilfs pack SRC DST"},
	{fs.ErrNotMounted, listMounts},
	{errDamagedFiles, "restore it from a copy; bytes outside the damaged frames can be had with: mithrilfs cat --range A:B FILE"},
	{errUnsealedFiles, "save it again; what is there can be had with: mithrilfs cat FILE"},
	{container.ErrBase, "all bytes that need no base can be had with: mithrilfs cat --range A:B FILE"},
	{container.ErrDamaged, "mithrilfs verify names everything that is damaged in it; restore the file from a copy"},
	{unix.ENOTCONN, "the process that served this mount is gone; clear it with: mithrilfs umount MOUNTPOINT"},
	{unix.EIO, "the container or the disk may be damaged; to find out: mithrilfs verify PATH"},
	{unix.EEXIST, "choose a name that is not taken, or remove what has it"},
}

func hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}

// message is an error's text on one line: joined errors come on several.
func message(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}
