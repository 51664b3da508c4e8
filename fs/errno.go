package fs

import (
	"errors"
	"syscall"

	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/container"
)

// errno is the one place where errors become errnos. What the backing
// filesystem said is passed on; a container that can't be read is EIO.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, store.ErrHidden):
		return syscall.EPERM
	case errors.Is(err, store.ErrReadOnly):
		return syscall.EROFS
	case errors.Is(err, store.ErrMagic):
		return syscall.EOPNOTSUPP
	case errors.Is(err, container.ErrBase):
		return syscall.EIO // whatever is the matter with another file
	case errors.As(err, &e):
		return e
	}
	return syscall.EIO
}

// report is errno, and logs what a client could not tell from the number.
func (m *mount) report(err error) syscall.Errno {
	e := errno(err)
	if e == syscall.EIO || errors.Is(err, store.ErrMagic) {
		m.log.Error(err.Error())
	}
	return e
}
