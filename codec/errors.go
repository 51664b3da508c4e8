package codec

import (
	"errors"
	"fmt"
)

// Errors that callers test for with [errors.Is]. Those with a type carry
// details for [errors.As].
var (
	// ErrCorrupt says that the bytes are not what an encoder made: they are
	// damaged, cut short or followed by something else. See [CorruptError].
	ErrCorrupt = errors.New("codec: corrupt data")

	// ErrMismatch says that a stream is not the one that the caller described.
	// See [MismatchError].
	ErrMismatch = errors.New("codec: stream does not match")

	// ErrVersion says that a stream has a format version that this package
	// does not know. See [VersionError].
	ErrVersion = errors.New("codec: unknown format version")

	// ErrPlan says that a byte or a pair of numbers is no valid [Plan].
	ErrPlan = errors.New("codec: invalid plan")

	// ErrDType says that a byte is no [DType].
	ErrDType = errors.New("codec: invalid dtype")

	// ErrLength says that a buffer does not have the length that was asked for.
	ErrLength = errors.New("codec: invalid length")
)

// CorruptError tells where decoding failed and why. It matches [ErrCorrupt].
type CorruptError struct {
	Offset int    // bytes into the frame or stream, near the damage
	Reason string // what is wrong there
	Err    error  // the error of a lower layer, or nil
}

// Error describes the damage in one line.
func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v at byte %d: %s: %v", ErrCorrupt, e.Offset, e.Reason, e.Err)
	}
	return fmt.Sprintf("%v at byte %d: %s", ErrCorrupt, e.Offset, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the error of the lower layer, or nil.
func (e *CorruptError) Unwrap() error { return e.Err }

// MismatchError tells which property of a stream differs from the one that the
// caller asked for. It matches [ErrMismatch].
type MismatchError struct {
	Property string // "dtype" or "size"
	Want     string // what the caller asked for
	Got      string // what the stream says
}

// Error describes the difference in one line.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%v: %s is %s, not %s", ErrMismatch, e.Property, e.Got, e.Want)
}

// Is reports whether target is ErrMismatch.
func (e *MismatchError) Is(target error) bool { return target == ErrMismatch }

// VersionError carries the version that was found. It matches [ErrVersion].
type VersionError struct {
	Version uint8
}

// Error names the version.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%v %d", ErrVersion, e.Version)
}

// Is reports whether target is ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }

func corrupt(offset int, reason string, err error) error {
	return &CorruptError{Offset: offset, Reason: reason, Err: err}
}
