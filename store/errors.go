package store

import "errors"

// Errors that callers tell apart with errors.Is. Errors of the system keep
// their syscall.Errno, and those of a container match container.ErrDamaged or
// container.ErrVersion.
var (
	// ErrHidden: the name is one that the store keeps for itself.
	ErrHidden = errors.New("the name is reserved for mithrilfs")
	// ErrMagic: the change would make a plain file look like a container, and it
	// could not be made one.
	ErrMagic = errors.New("a plain file can't be edited to begin or end like a container, and no file to convert it can be made beside it")
	// ErrInUse: another process serves the directory for writing.
	ErrInUse = errors.New("the directory is in use by another mithrilfs: unmount it there, or wait until that command is done")
	// ErrUnsealed: the container holds only the beginning of what was written.
	ErrUnsealed = errors.New("unsealed container")
	// ErrInside: a directory above has the bases of files in this one.
	ErrInside = errors.New("it is a part of another backing directory, which keeps what its files depend on: mount that one, or open this one read-only")
	// ErrReadOnly: the store was opened for reading.
	ErrReadOnly = errors.New("the directory is opened for reading only")
)
