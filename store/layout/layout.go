package layout

import (
	"errors"
	"io"
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
)

// Region is a range of logical bytes with one element type. Elements are
// aligned to Begin.
type Region struct {
	Begin, End int64 // End is math.MaxInt64 where the region has no known end
	DType      codec.DType
}

// Tensor is a named piece of a file.
type Tensor struct {
	Name  string
	DType string   // as the format spells it
	Shape []uint64 // empty for a scalar
	Begin int64    // first byte of the file
	End   int64    // just past the last
}

// Source is a file that is still arriving.
type Source interface {
	io.ReaderAt
	// Arrived is how many bytes, from the first on, can be read.
	Arrived() int64
	// Size is the whole length, or -1 while it is unknown.
	Size() int64
}

// ErrMore says that a region can't be told before more bytes have arrived.
var ErrMore = errors.New("more bytes are needed")

// Layout divides a file into regions.
type Layout interface {
	// Format is the format's name as users know it.
	Format() string
	// Region returns the region that holds off, or ErrMore.
	Region(off int64) (Region, error)
	// Tensors lists what the format names, in file order, as far as it is known.
	Tensors() []Tensor
	// Problem is why the file is not quite what it seemed to be, or nil.
	Problem() error
}

// Detect decides from the first bytes of a file what it is. It returns nil for
// what is best stored as it is: text, databases, what is compressed already,
// and what it does not know. src must stay readable as long as the Layout is
// used.
func Detect(head []byte, src Source) Layout {
	if l := detectArrays(head, src); l != nil {
		return l
	}
	if l := detectSafetensors(head, src); l != nil {
		return l
	}
	if l := detectTorch(head, src); l != nil {
		return l
	}
	if l := detectNumbers(head, src); l != nil {
		return l
	}
	return nil
}

// Early says whether head alone shows a known format, however much follows.
func Early(head []byte, size int64) bool { return recognizeSafetensors(head, size) }

// Bytes is the layout of data without any structure.
func Bytes() Layout { return opaque{} }

type opaque struct{}

func (opaque) Format() string    { return "bytes" }
func (opaque) Tensors() []Tensor { return nil }
func (opaque) Problem() error    { return nil }
func (opaque) Region(int64) (Region, error) {
	return Region{End: math.MaxInt64, DType: codec.Bytes}, nil
}

// Known is the layout of a file whose format and tensors were recorded when it
// was written.
func Known(format string, tensors []Tensor) Layout {
	switch format {
	case FormatTorch, FormatTorchLegacy:
		return &torchKnown{known{format, tensors}}
	case FormatSafetensors, FormatGGUF, FormatNPY, FormatNPZ:
		return &known{format: format, tensors: tensors}
	}
	return named{opaque{}, format}
}

type named struct {
	opaque
	format string
}

func (n named) Format() string { return n.format }

type known struct {
	format  string
	tensors []Tensor
}

func (k *known) Format() string    { return k.format }
func (k *known) Tensors() []Tensor { return k.tensors }
func (k *known) Problem() error    { return nil }
func (k *known) Region(off int64) (Region, error) {
	return regionOf(k.tensors, off), nil
}
