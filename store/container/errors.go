package container

import (
	"errors"
	"fmt"
)

// What can be wrong with a container; test with errors.Is.
var (
	// ErrDamaged: bytes of the container are not what was written.
	ErrDamaged = errors.New("damaged container")
	// ErrVersion: written by a version of mithrilfs that this one can't read.
	ErrVersion = errors.New("unknown container version")
	// ErrNotContainer: the file does not begin as a container does.
	ErrNotContainer = errors.New("not a container")
	// ErrBase: bytes are stored as differences from another container, which is
	// missing or is not the right one.
	ErrBase = errors.New("base not available")
)

// Part is the piece of a container that an error is about.
type Part string

// The parts of a container.
const (
	PartHeader  Part = "header"
	PartRecord  Part = "record"
	PartFrame   Part = "frame"
	PartIndex   Part = "index"
	PartTrailer Part = "trailer"
	PartTable   Part = "seek table"
)

// DamageError says which part is damaged. It matches ErrDamaged.
type DamageError struct {
	Part     Part
	Position int64 // byte offset in the container
	Frame    *Frame
	Reason   string
	Err      error // what the decoder said, or nil
}

func damaged(p Part, position int64, reason string) *DamageError {
	return &DamageError{Part: p, Position: position, Reason: reason}
}

// Error names the part, where it is, and for a frame which logical bytes are
// lost with it.
func (e *DamageError) Error() string {
	what := string(e.Part)
	if e.Frame != nil {
		what = fmt.Sprintf("frame %d (logical bytes %d to %d)", e.Frame.Number, e.Frame.Offset, e.Frame.End())
	}
	s := fmt.Sprintf("damaged container: %s at byte %d: %s", what, e.Position, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is makes every DamageError match ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the decoder's error.
func (e *DamageError) Unwrap() error { return e.Err }

// VersionError carries a format version that this package does not know. It
// matches ErrVersion.
type VersionError struct{ Version uint16 }

func (e *VersionError) Error() string {
	if e.Version == 0 {
		return fmt.Sprintf("container format version 0 was a draft, which this mithrilfs does not read: "+
			"unpack the file with the mithrilfs that wrote it, and store it again (in version %d)", Version)
	}
	return fmt.Sprintf("container format version %d is not known to this mithrilfs, which reads version %d: use a newer mithrilfs", e.Version, Version)
}

// Is makes every VersionError match ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }

// BaseError says that logical bytes can't be had because they are stored as
// differences from another container, the base with Generation, and Err is the
// matter with that. Other bytes of the file can be read. It matches ErrBase, and
// whatever Err matches: ErrDamaged if the base is there but damaged.
type BaseError struct {
	Generation Generation
	Err        error // such as what to do
}

func (e *BaseError) Error() string {
	return fmt.Sprintf("base %x: %v", e.Generation[:], e.Err)
}

// Is makes every BaseError match ErrBase.
func (e *BaseError) Is(target error) bool { return target == ErrBase }

// Unwrap returns what is the matter with the base.
func (e *BaseError) Unwrap() error { return e.Err }

var (
	errNegativeOffset = errors.New("negative offset")
	errNumbers        = errors.New("the generation has no number left")
)
