package layout

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// Bounds on what is kept of a checkpoint's pickle: 64 MB for storages and half of
// that for names, before what slices have to grow.
const (
	torchMaxStorages = 1 << 21
	torchMaxNamed    = 1 << 18  // tensors that get into the table
	torchMaxNodes    = 1 << 19  // containers and named tensors
	torchMaxText     = 16 << 20 // bytes of keys
	torchMaxDims     = 1 << 20  // dimensions of all shapes
	torchMaxPath     = 64       // containers around a tensor
	torchMaxName     = 1 << 10  // bytes
)

// torchState is what a pickle says about storages, tensors and their names.
type torchState struct {
	storages []torchStorage
	byKey    map[uint64]int32 // of storages whose key is not their index
	tensors  []torchTensor
	nodes    []torchNode // from 1 on
	text     []byte
	dims     []uint64
}

// torchStorage is a piece of memory that tensors are views of.
type torchStorage struct {
	key   uint64
	size  int64     // bytes
	begin int64     // in the file, or -1 while that is not known
	class torchType // as it was pickled
	dtype torchType // as tensors use it
}

// torchTensor is a view of a storage: its first byte there, and just past its
// last.
type torchTensor struct {
	begin, end int64
	storage    int32
	node       int32
	dim        int32 // its shape is dims[dim:dim+rank]
	rank       uint8
	dtype      torchType
}

// torchNode is a tensor or what contains tensors, by its key in what contains
// it. A node without key adds nothing to a name.
type torchNode struct {
	key    pickled
	parent int32
	length int32 // items of a list
}

// string keeps a string if it may be part of a name.
func (s *torchState) string(b []byte) pickled {
	if string(b) == "storage" {
		return pickled{kind: pickledTag}
	}
	if n, ok := canonicalDecimal(b); ok {
		return pickled{kind: pickledDigits, n: n}
	}
	if len(s.text)+len(b) > torchMaxText {
		return pickled{}
	}
	at := int64(len(s.text))
	s.text = append(s.text, b...)
	return pickled{kind: pickledText, n: at<<16 | int64(len(b))}
}

// canonicalDecimal parses digits that strconv would print in the same way.
func canonicalDecimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// textOf is a key as a part of a name.
func (s *torchState) textOf(v *pickled) string {
	switch v.kind {
	case pickledInt, pickledDigits:
		return strconv.FormatInt(v.n, 10)
	case pickledText:
		at, n := v.n>>16, v.n&math.MaxUint16
		return string(s.text[at : at+n])
	case pickledTag:
		return "storage"
	}
	return ""
}

// storage returns the storage of a persistent id, which is new, or known.
func (s *torchState) storage(class, key, elements *pickled) (pickled, error) {
	if key.kind == pickledOther {
		return pickled{}, nil // known, and forgotten
	}
	if class.kind != pickledGlobal || class.n != globalStorage || key.kind != pickledDigits ||
		elements.kind != pickledInt || elements.n < 0 || elements.n > math.MaxInt64>>2/class.dtype.size() {
		return pickled{}, errors.New("a storage of the pickle is none of torch's")
	}
	size := elements.n * class.dtype.size()
	i, ok := s.find(uint64(key.n))
	if !ok {
		if len(s.storages) >= torchMaxStorages {
			return pickled{}, fmt.Errorf("the pickle has more than %d storages", torchMaxStorages)
		}
		i = int32(len(s.storages))
		s.storages = append(s.storages, torchStorage{key: uint64(key.n), size: size, begin: -1, class: class.dtype, dtype: class.dtype})
		if uint64(i) != uint64(key.n) {
			if s.byKey == nil {
				s.byKey = map[uint64]int32{}
			}
			s.byKey[uint64(key.n)] = i
		}
	} else if s.storages[i].size != size {
		return pickled{}, fmt.Errorf("storage %d has %d bytes and %d bytes", key.n, s.storages[i].size, size)
	}
	return pickled{kind: pickledStorage, dtype: class.dtype, n: int64(i)}, nil
}

// find returns the index of the storage with a key.
func (s *torchState) find(key uint64) (int32, bool) {
	if key < uint64(len(s.storages)) && s.storages[key].key == key {
		return int32(key), true
	}
	i, ok := s.byKey[key]
	return i, ok
}

// tensor is a view of a storage: (storage, offset, shape, strides, …), where the
// offset and strides count elements.
func (s *torchState) tensor(a []pickled, dtype torchType) (pickled, error) {
	if a[0].kind == pickledOther {
		return pickled{kind: pickledTensor}, nil // of a storage that is forgotten
	}
	if a[0].kind != pickledStorage {
		return pickled{}, errors.New("a tensor of the pickle has no storage")
	}
	st := &s.storages[a[0].n]
	if st.dtype == torchUntyped {
		st.dtype = dtype
	}
	t := torchTensor{storage: int32(a[0].n), dtype: dtype}
	if !s.extent(&t, &a[1], &a[2], &a[3], st.size) {
		return pickled{kind: pickledTensor}, nil
	}
	return s.named(t), nil
}

// extent finds which bytes of its storage a tensor has. It returns false if
// those can't be told, or there is no room to keep the shape.
func (s *torchState) extent(t *torchTensor, offset, shape, strides *pickled, size int64) bool {
	dims, steps := shape.items(), strides.items()
	if offset.kind != pickledInt || offset.n < 0 || offset.n > size || shape.kind != pickledTuple || len(dims) != len(steps) ||
		len(s.dims)+len(dims) > torchMaxDims {
		return false
	}
	last, empty := int64(0), false
	for i := range dims {
		d, step := &dims[i], &steps[i]
		if d.kind != pickledInt || step.kind != pickledInt || d.n < 0 || step.n < 0 {
			return false
		}
		if d.n == 0 {
			empty = true
		} else if d.n > 1 && step.n > size/(d.n-1) {
			return false
		} else if last += (d.n - 1) * step.n; last > size {
			return false
		}
	}
	elements := last + 1
	if empty {
		elements = 0
	}
	if offset.n+elements > size/t.dtype.size() {
		return false
	}
	t.begin, t.end = offset.n*t.dtype.size(), (offset.n+elements)*t.dtype.size()
	t.dim, t.rank = int32(len(s.dims)), uint8(len(dims))
	for i := range dims {
		s.dims = append(s.dims, uint64(dims[i].n))
	}
	return true
}

// named gives a tensor a node, if there is room for one more.
func (s *torchState) named(t torchTensor) pickled {
	v := pickled{kind: pickledTensor}
	if len(s.tensors) < torchMaxNamed {
		t.node = s.node()
		s.tensors = append(s.tensors, t)
		v.n = int64(t.node)
	}
	return v
}

// node returns a new node, or 0.
func (s *torchState) node() int32 {
	if len(s.nodes) == 0 {
		s.nodes = append(s.nodes, torchNode{})
	}
	if len(s.nodes) >= torchMaxNodes {
		return 0
	}
	s.nodes = append(s.nodes, torchNode{})
	return int32(len(s.nodes) - 1)
}

// nextIndex is the index of the next item of a list.
func (s *torchState) nextIndex(list *pickled) pickled {
	if list.kind != pickledList {
		return pickled{}
	}
	if list.n == 0 {
		list.n = int64(s.node())
	}
	if list.n == 0 {
		return pickled{}
	}
	n := &s.nodes[list.n]
	n.length++
	return pickled{kind: pickledInt, n: int64(n.length - 1)}
}

// adopt notes that child is in parent, by key. A child that no tensor is in is
// ignored.
func (s *torchState) adopt(parent *pickled, key, child pickled) {
	switch parent.kind {
	case pickledDict, pickledList, pickledObject:
	default:
		return
	}
	switch child.kind {
	case pickledStorage: // by itself: all of it is a tensor
		st := &s.storages[child.n]
		if len(s.dims) < torchMaxDims {
			s.dims = append(s.dims, uint64(st.size/st.dtype.size()))
			child = s.named(torchTensor{end: st.size, storage: int32(child.n), dim: int32(len(s.dims) - 1), rank: 1, dtype: st.dtype})
		}
	case pickledTuple:
		child = s.unpack(&child)
	case pickledTensor, pickledDict, pickledList, pickledObject:
	default:
		return
	}
	if child.n == 0 {
		return
	}
	if parent.n == 0 {
		parent.n = int64(s.node())
	}
	if n := &s.nodes[child.n]; n.parent == 0 && child.n != parent.n {
		key.tuple = nil
		n.parent, n.key = int32(parent.n), key
	}
}

// unpack is the tuple as an object, if there are tensors in it.
func (s *torchState) unpack(tuple *pickled) pickled {
	v := pickled{kind: pickledObject}
	for i, item := range tuple.items() {
		s.adopt(&v, pickled{kind: pickledInt, n: int64(i)}, item)
	}
	return v
}

// name is the dotted path that leads to a node, as state_dict spells it for
// modules: without the attributes that hold their parts.
func (s *torchState) name(node int32) string {
	var parts []string
	depth, length := 0, 0
	for ; node != 0; node = s.nodes[node].parent {
		if depth++; depth > torchMaxPath || length > torchMaxName {
			return "" // too long, or an object that contains itself
		}
		part := s.textOf(&s.nodes[node].key)
		switch part {
		case "", "_modules", "_parameters", "_buffers":
		default:
			parts = append(parts, part)
			length += len(part) + 1
		}
	}
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".")
}

// table lists the tensors whose place in the file is known, in file order. They
// do not overlap: tensors with the same bytes are one, with all their names, and
// views that are part of another tensor are left out. prefix is for tensors
// without a name.
func (s *torchState) table(prefix string) []Tensor {
	list := make([]Tensor, 0, len(s.tensors))
	for i := range s.tensors {
		t := &s.tensors[i]
		st := &s.storages[t.storage]
		if st.begin < 0 {
			continue
		}
		name := s.name(t.node)
		if name == "" {
			name = prefix + "data/" + strconv.FormatUint(st.key, 10)
		}
		list = append(list, Tensor{Name: name, DType: t.dtype.name(), Shape: s.dims[t.dim : t.dim+int32(t.rank) : t.dim+int32(t.rank)],
			Begin: st.begin + t.begin, End: st.begin + t.end})
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End > b.End
	})
	return withoutOverlap(list)
}

func withoutOverlap(list []Tensor) []Tensor {
	kept := list[:0]
	for _, t := range list {
		if len(kept) > 0 {
			last := &kept[len(kept)-1]
			if t.Begin == last.Begin && t.End == last.End && t.Begin < t.End {
				if t.Name != last.Name && len(last.Name)+len(t.Name) < torchMaxName {
					last.Name += ", " + t.Name
				}
				continue
			}
			if t.Begin < last.End {
				continue
			}
		}
		kept = append(kept, t)
	}
	return kept
}
