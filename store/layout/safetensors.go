package layout

import (
	"math"
	"sort"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/safetensors"
)

// FormatSafetensors is the name of the safetensors format.
const FormatSafetensors = "safetensors"

// stream is a safetensors file that is arriving: its header is one region,
// read when all of it is there, and every tensor is one.
type stream struct {
	src       Source
	dataStart int64
	tensors   []Tensor
	parsed    bool
	problem   error
	rest      *probe // after a header with a problem
}

func recognizeSafetensors(head []byte, size int64) bool {
	start, ok := safetensors.Recognize(head)
	return ok && (size < 0 || start <= size)
}

func detectSafetensors(head []byte, src Source) Layout {
	if !recognizeSafetensors(head, src.Size()) {
		return nil
	}
	start, _ := safetensors.Recognize(head)
	return &stream{src: src, dataStart: start}
}

func (s *stream) Format() string    { return FormatSafetensors }
func (s *stream) Tensors() []Tensor { return s.tensors }
func (s *stream) Problem() error    { return s.problem }

// Region returns the header, a tensor, or the bytes after the last tensor. A
// header that breaks a rule leaves everything after it to the probe.
func (s *stream) Region(off int64) (Region, error) {
	if off < s.dataStart {
		return Region{End: s.dataStart, DType: codec.Bytes}, nil
	}
	if !s.parsed {
		if s.src.Arrived() < s.dataStart {
			return Region{}, ErrMore
		}
		s.parse()
	}
	if s.rest != nil {
		return s.rest.Region(off)
	}
	return regionOf(s.tensors, off), nil
}

func (s *stream) parse() {
	s.parsed = true
	h, err := safetensors.ReadHeader(s.src, s.src.Size())
	if err != nil {
		s.problem, s.rest = err, newProbe(s.src, s.dataStart)
		return
	}
	s.tensors = make([]Tensor, len(h.Tensors))
	for i, t := range h.Tensors {
		s.tensors[i] = Tensor{Name: t.Name, DType: string(t.DType), Shape: t.Shape, Begin: int64(t.Begin), End: int64(t.End)}
	}
}

// regionOf finds the tensor that holds off, or the bytes between tensors.
// Tensors are in file order and do not overlap.
func regionOf(tensors []Tensor, off int64) Region {
	i := sort.Search(len(tensors), func(i int) bool { return tensors[i].End > off })
	if i < len(tensors) && tensors[i].Begin <= off {
		t := &tensors[i]
		return Region{Begin: t.Begin, End: t.End, DType: elementOf(t.DType)}
	}
	r := Region{End: math.MaxInt64, DType: codec.Bytes}
	if i < len(tensors) {
		r.End = tensors[i].Begin
	}
	if i > 0 {
		r.Begin = tensors[i-1].End
	}
	return r
}

// dtypeOf maps the format's element types to the codec's. What is narrower
// than a byte, boolean or unknown is bytes.
func dtypeOf(d safetensors.DType) codec.DType {
	switch d {
	case safetensors.BF16:
		return codec.BF16
	case safetensors.F16:
		return codec.F16
	case safetensors.F32, safetensors.C64: // C64 is a pair of F32
		return codec.F32
	case safetensors.F64:
		return codec.F64
	case safetensors.I16, safetensors.U16:
		return codec.I16
	case safetensors.I32, safetensors.U32:
		return codec.I32
	case safetensors.I64, safetensors.U64:
		return codec.I64
	case safetensors.F8E4M3, safetensors.F8E5M2, safetensors.F8E8M0, safetensors.F8E4M3FNUZ, safetensors.F8E5M2FNUZ:
		return codec.F8
	}
	return codec.Bytes
}
