package delta

import (
	"errors"
	"fmt"
)

// Errors that callers test for with [errors.Is].
var (
	// ErrCorrupt says that a frame is not what an encoder made, or that the
	// bases are not those that it was made with. See [CorruptError].
	ErrCorrupt = errors.New("delta: corrupt frame")

	// ErrBase says that a base has a type or a length other than the frame
	// needs, or is missing.
	ErrBase = errors.New("delta: unsuitable base")
)

// CorruptError tells what is wrong with a frame. It matches [ErrCorrupt].
type CorruptError struct {
	Reason string
	Err    error // the error of a lower layer, or nil
}

// Error describes the damage in one line.
func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%v: %s: %v", ErrCorrupt, e.Reason, e.Err)
	}
	return fmt.Sprintf("%v: %s", ErrCorrupt, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Unwrap returns the error of the lower layer, or nil.
func (e *CorruptError) Unwrap() error { return e.Err }

func corrupt(reason string, err error) error { return &CorruptError{Reason: reason, Err: err} }
