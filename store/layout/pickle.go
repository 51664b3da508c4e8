package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Bounds on what one pickle may make the interpreter hold. A pickle of two
// million tensors stays within them: what is over is forgotten, and with it the
// names of tensors, but not the sizes of storages.
const (
	pickleMaxStack  = 1 << 16 // values
	pickleMaxHeld   = 1 << 18 // values in tuples that are on the stack
	pickleMaxMemo   = 1 << 18 // values; of what comes later, globals only
	pickleMaxLate   = 1 << 12 // globals
	pickleMaxTuple  = 64      // items of a tuple that are kept
	pickleMaxWeight = 1 << 12 // values in a tuple that is kept, all the way down
	pickleMaxString = 1 << 10 // bytes of a string that is kept
	pickleMaxGlobal = 1 << 10 // bytes of the two lines of a GLOBAL
)

// pickle interprets a pickle as torch writes it, as its bytes arrive, and puts
// what it says about storages and tensors into state. It knows the opcodes of
// torch's weights-only unpickler and no others. Nothing is executed: a call is
// recognised by the name of what is called, and otherwise is an object of no
// further interest.
type pickle struct {
	state *torchState

	stack []pickled
	marks []int32 // lengths of the stack at each MARK
	held  int     // values in tuples on the stack
	memo  []pickled
	late  map[uint32]pickled // of globals beyond memo

	done bool
	root pickled
	// bigEndian: some dict has False for "little_endian".
	bigEndian bool
	// keys collects the numbers in lists, if it is not nil.
	keys *[]uint64
}

type pickledKind uint8

const (
	pickledOther   pickledKind = iota // anything of no further interest
	pickledFalse                      // False
	pickledInt                        // n
	pickledDigits                     // a string: the decimal digits of n
	pickledText                       // a string: n is its place in state.text
	pickledTag                        // the string "storage"
	pickledGlobal                     // n is one of the globals below, of type dtype
	pickledTuple                      // tuple
	pickledStorage                    // of type dtype; n is its index in state.storages
	pickledTensor                     // n is its node in state.nodes, 0 if it has none
	pickledDict                       // n likewise
	pickledList                       // n likewise
	pickledObject                     // n likewise
)

// pickled is a value.
type pickled struct {
	kind  pickledKind
	dtype torchType
	n     int64
	tuple *pickledItems // nil for the empty tuple
}

type pickledItems struct {
	items  []pickled
	weight int // values in it, all the way down
}

func (v *pickled) items() []pickled {
	if v.tuple == nil {
		return nil
	}
	return v.tuple.items
}

func (v *pickled) weight() int {
	if v.tuple == nil {
		return 0
	}
	return v.tuple.weight
}

// What a GLOBAL may name.
const (
	globalOther int64 = iota
	globalStorage
	globalDType
	globalDict
	globalSize
	globalRebuildTensor   // (storage, offset, shape, strides, …)
	globalRebuildTensorV3 // the same, with the dtype as seventh
	globalRebuildWrapped  // (tensor, …)
	globalRebuildType     // (function, type, arguments, state)
)

var (
	errPickleTooBig = errors.New("the pickle needs too much memory")
	errPickleStack  = errors.New("the pickle takes more from its stack than is there")
)

// pickleFixed is how many bytes follow an opcode, plus one; 0 is an opcode that
// is not known. -1: it depends on the bytes.
var pickleFixed = [256]int8{
	'a': 1, 'e': 1, 'b': 1, '}': 1, ']': 1, ')': 1, 'R': 1, '(': 1, '.': 1, 't': 1, 's': 1, 'u': 1, 'N': 1, 'Q': 1,
	0x81: 1, 0x85: 1, 0x86: 1, 0x87: 1, 0x88: 1, 0x89: 1, 0x8f: 1,
	'K': 2, 'h': 2, 'q': 2, 0x80: 2, 'M': 3, 'J': 5, 'j': 5, 'r': 5, 'G': 9,
	'X': -1, 'U': -1, 'c': -1, 0x8a: -1,
}

// run interprets whole opcodes at the beginning of b. It returns how many bytes
// they have, which may be more than b has, as those of a long string are passed
// over; and when that is 0, how long b must be at least to go on.
func (p *pickle) run(b []byte) (n int64, need int, err error) {
	for !p.done && n < int64(len(b)) {
		step, least, err := p.step(b[n:])
		if err != nil {
			return n, 0, err
		}
		if step == 0 {
			if n > 0 {
				least = 0
			}
			return n, least, nil
		}
		n += step
	}
	return n, 1, nil
}

// step interprets the opcode at the beginning of b. A length of 0 says that b
// must have least bytes.
func (p *pickle) step(b []byte) (length int64, least int, err error) {
	switch fixed := pickleFixed[b[0]]; {
	case fixed == 0:
		return 0, 0, fmt.Errorf("pickle opcode %#02x is none of those that torch writes", b[0])
	case fixed > 0:
		if len(b) < int(fixed) {
			return 0, int(fixed), nil
		}
		return int64(fixed), 0, p.fixed(b[0], b[1:fixed])
	}
	switch b[0] {
	case 'c':
		return p.global(b)
	case 'X':
		if len(b) < 5 {
			return 0, 5, nil
		}
		return p.text(b, 5, int64(binary.LittleEndian.Uint32(b[1:])))
	}
	if len(b) < 2 {
		return 0, 2, nil
	}
	n := int(b[1])
	if b[0] == 'U' {
		return p.text(b, 2, int64(n))
	}
	if len(b) < 2+n {
		return 0, 2 + n, nil
	}
	return int64(2 + n), 0, p.push(pickledLong(b[2 : 2+n]))
}

// pickledLong is a LONG1, in two's complement.
func pickledLong(b []byte) pickled {
	if len(b) > 8 {
		return pickled{}
	}
	var u uint64
	for i, c := range b {
		u |= uint64(c) << (8 * i)
	}
	if len(b) > 0 && b[len(b)-1]&0x80 != 0 && len(b) < 8 {
		u |= math.MaxUint64 << (8 * len(b))
	}
	return pickled{kind: pickledInt, n: int64(u)}
}

// text is a string of n bytes that begins at b[at]. One that is too long to
// matter is passed over.
func (p *pickle) text(b []byte, at, n int64) (int64, int, error) {
	if n > pickleMaxString {
		return at + n, 0, p.push(pickled{})
	}
	if int64(len(b)) < at+n {
		return 0, int(at + n), nil
	}
	return at + n, 0, p.push(p.state.string(b[at : at+n]))
}

// global is GLOBAL: two lines, the module and the name.
func (p *pickle) global(b []byte) (int64, int, error) {
	b = b[1:min(len(b), 1+pickleMaxGlobal)]
	i := bytes.IndexByte(b, '\n')
	j := -1
	if i >= 0 {
		j = bytes.IndexByte(b[i+1:], '\n')
	}
	if j < 0 {
		if len(b) == pickleMaxGlobal {
			return 0, 0, errors.New("the pickle names something too long")
		}
		return 0, len(b) + 2, nil
	}
	return int64(i + j + 3), 0, p.push(pickledGlobalOf(string(b[:i]), string(b[i+1:i+1+j])))
}

func pickledGlobalOf(module, name string) pickled {
	v := pickled{kind: pickledGlobal}
	if t, ok := torchStorageClass(module, name); ok {
		v.n, v.dtype = globalStorage, t
		return v
	}
	switch module + "." + name {
	case "collections.OrderedDict", "collections.Counter", "collections.defaultdict":
		v.n = globalDict
	case "torch.Size":
		v.n = globalSize
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_qtensor":
		v.n = globalRebuildTensor
	case "torch._utils._rebuild_tensor_v3":
		v.n = globalRebuildTensorV3
	case "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state":
		v.n = globalRebuildWrapped
	case "torch._tensor._rebuild_from_type_v2":
		v.n = globalRebuildType
	default:
		if t, ok := torchDType(name); ok && module == "torch" {
			v.n, v.dtype = globalDType, t
		}
	}
	return v
}

// fixed interprets an opcode with arguments of fixed length.
func (p *pickle) fixed(op byte, arg []byte) error {
	switch op {
	case 0x80: // PROTO
		return nil
	case '.': // STOP
		p.done = true
		var err error
		p.root, err = p.pop()
		return err
	case 'N', 0x88, 'G': // NONE, NEWTRUE, BINFLOAT
		return p.push(pickled{})
	case 0x89: // NEWFALSE
		return p.push(pickled{kind: pickledFalse})
	case 'J': // BININT
		return p.push(pickled{kind: pickledInt, n: int64(int32(binary.LittleEndian.Uint32(arg)))})
	case 'K': // BININT1
		return p.push(pickled{kind: pickledInt, n: int64(arg[0])})
	case 'M': // BININT2
		return p.push(pickled{kind: pickledInt, n: int64(binary.LittleEndian.Uint16(arg))})
	case '}': // EMPTY_DICT
		return p.push(pickled{kind: pickledDict})
	case ']': // EMPTY_LIST
		return p.push(pickled{kind: pickledList})
	case 0x8f: // EMPTY_SET
		return p.push(pickled{kind: pickledObject})
	case ')': // EMPTY_TUPLE
		return p.push(pickled{kind: pickledTuple})
	case 'h': // BINGET
		return p.push(p.recall(uint32(arg[0])))
	case 'j': // LONG_BINGET
		return p.push(p.recall(binary.LittleEndian.Uint32(arg)))
	case 'q': // BINPUT
		return p.memorize(uint32(arg[0]))
	case 'r': // LONG_BINPUT
		return p.memorize(binary.LittleEndian.Uint32(arg))
	}
	return p.build(op)
}

// build interprets the opcodes that make values of other values.
func (p *pickle) build(op byte) error {
	switch op {
	case '(': // MARK
		if len(p.marks) >= pickleMaxStack {
			return errPickleTooBig
		}
		p.marks = append(p.marks, int32(len(p.stack)))
		return nil
	case 't': // TUPLE
		base, err := p.mark()
		if err != nil {
			return err
		}
		return p.pack(len(p.stack) - base)
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		return p.pack(int(op) - 0x84)
	case 'a': // APPEND
		return p.fill(len(p.stack)-1, false)
	case 's': // SETITEM
		return p.fill(len(p.stack)-2, true)
	case 'e', 'u': // APPENDS, SETITEMS
		base, err := p.mark()
		if err != nil {
			return err
		}
		return p.fill(base, op == 'u')
	case 'R', 0x81: // REDUCE, NEWOBJ
		return p.reduce()
	case 'b': // BUILD
		return p.fillState()
	default: // BINPERSID
		return p.persistent()
	}
}

func (p *pickle) push(v pickled) error {
	p.held += v.weight()
	if len(p.stack) >= pickleMaxStack || p.held > pickleMaxHeld {
		return errPickleTooBig
	}
	p.stack = append(p.stack, v)
	return nil
}

// floor is how low the stack may get before the last MARK is used up.
func (p *pickle) floor() int {
	if len(p.marks) == 0 {
		return 0
	}
	return int(p.marks[len(p.marks)-1])
}

func (p *pickle) pop() (pickled, error) {
	if len(p.stack) <= p.floor() {
		return pickled{}, errPickleStack
	}
	v := p.stack[len(p.stack)-1]
	p.cut(len(p.stack) - 1)
	return v, nil
}

// cut drops all values from base on.
func (p *pickle) cut(base int) {
	for i := base; i < len(p.stack); i++ {
		p.held -= p.stack[i].weight()
		p.stack[i].tuple = nil
	}
	p.stack = p.stack[:base]
}

// mark ends the last MARK and returns where the values after it begin.
func (p *pickle) mark() (int, error) {
	if len(p.marks) == 0 {
		return 0, errPickleStack
	}
	base := p.floor()
	p.marks = p.marks[:len(p.marks)-1]
	return base, nil
}

func (p *pickle) memorize(at uint32) error {
	if len(p.stack) <= p.floor() {
		return errPickleStack
	}
	v := p.stack[len(p.stack)-1]
	if v.kind == pickledTuple {
		v = pickled{} // torch never refers to one again
	}
	if at >= pickleMaxMemo {
		if v.kind == pickledGlobal && len(p.late) < pickleMaxLate {
			if p.late == nil {
				p.late = map[uint32]pickled{}
			}
			p.late[at] = v
		}
		return nil
	}
	for int(at) >= len(p.memo) {
		p.memo = append(p.memo, pickled{})
	}
	p.memo[at] = v
	return nil
}

// recall returns what was memorized, or a value of no interest if that was
// forgotten.
func (p *pickle) recall(at uint32) pickled {
	if int64(at) < int64(len(p.memo)) {
		return p.memo[at]
	}
	return p.late[at]
}

// pack makes a tuple of the last n values. One that is too large becomes a value
// of no interest.
func (p *pickle) pack(n int) error {
	base := len(p.stack) - n
	if base < p.floor() {
		return errPickleStack
	}
	v := pickled{kind: pickledTuple}
	if n > 0 {
		weight := n + 1
		for i := base; i < len(p.stack); i++ {
			weight += p.stack[i].weight()
		}
		if n > pickleMaxTuple || weight > pickleMaxWeight {
			v.kind = pickledOther
		} else {
			v.tuple = &pickledItems{append(make([]pickled, 0, n), p.stack[base:]...), weight}
		}
	}
	p.cut(base)
	return p.push(v)
}

// fill puts the values from base on into the dict, list or object before them.
func (p *pickle) fill(base int, pairs bool) error {
	if base <= p.floor() || pairs && (len(p.stack)-base)%2 != 0 {
		return errPickleStack
	}
	into, items := &p.stack[base-1], p.stack[base:]
	if pairs {
		for i := 0; i < len(items); i += 2 {
			if items[i+1].kind == pickledFalse && p.state.textOf(&items[i]) == "little_endian" {
				p.bigEndian = true
			}
			p.state.adopt(into, items[i], items[i+1])
		}
	} else {
		for i := range items {
			if items[i].kind == pickledDigits && p.keys != nil {
				if len(*p.keys) >= torchMaxStorages {
					return errPickleTooBig
				}
				*p.keys = append(*p.keys, uint64(items[i].n))
			}
			p.state.adopt(into, p.state.nextIndex(into), items[i])
		}
	}
	p.cut(base)
	return nil
}

// fillState gives an object its state.
func (p *pickle) fillState() error {
	if len(p.stack)-2 < p.floor() {
		return errPickleStack
	}
	p.state.adopt(&p.stack[len(p.stack)-2], pickled{}, p.stack[len(p.stack)-1])
	p.cut(len(p.stack) - 1)
	return nil
}

// reduce replaces a function and its arguments by what a call would return.
func (p *pickle) reduce() error {
	args, err := p.pop()
	if err != nil {
		return err
	}
	function, err := p.pop()
	if err != nil {
		return err
	}
	v, err := p.call(&function, &args)
	if err != nil {
		return err
	}
	return p.push(v)
}

func (p *pickle) call(function, args *pickled) (pickled, error) {
	a := args.items()
	name := globalOther
	if function.kind == pickledGlobal {
		name = function.n
	}
	switch {
	case name == globalRebuildTensor && len(a) >= 4:
		return p.state.tensor(a, a[0].dtype)
	case name == globalRebuildTensorV3 && len(a) >= 7 && a[6].kind == pickledGlobal && a[6].n == globalDType:
		return p.state.tensor(a, a[6].dtype)
	case name == globalRebuildWrapped && len(a) >= 1, name == globalSize && len(a) == 1:
		return a[0], nil
	case name == globalRebuildType && len(a) >= 3 && a[0].kind == pickledGlobal && a[0].n != globalRebuildType:
		return p.call(&a[0], &a[2])
	}
	v := pickled{kind: pickledObject}
	if name == globalDict {
		v.kind = pickledDict
	}
	p.state.adopt(&v, pickled{}, *args)
	return v, nil
}

// persistent replaces ("storage", class, key, location, elements, …) by the
// storage. Anything else with a persistent id, such as the source code of a
// module, is of no interest.
func (p *pickle) persistent() error {
	id, err := p.pop()
	if err != nil {
		return err
	}
	a := id.items()
	if len(a) < 5 || a[0].kind != pickledTag {
		if id.kind == pickledTuple && len(a) > 0 {
			return p.push(pickled{})
		}
		return errors.New("a persistent id of the pickle is none of torch's")
	}
	v, err := p.state.storage(&a[1], &a[2], &a[4])
	if err != nil {
		return err
	}
	return p.push(v)
}
