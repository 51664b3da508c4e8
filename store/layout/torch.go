package layout

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"

	"github.com/mithrilfs/mithrilfs/codec"
)

// Names of what torch.save writes.
const (
	// FormatTorch is the zip container, and several of them one after another,
	// as in the .distcp files of torch.distributed.checkpoint.
	FormatTorch = "torch"
	// FormatTorchLegacy is the format from before version 1.6.
	FormatTorchLegacy = "torch-legacy"
)

const (
	// torchMinRegion is the size in bytes from which a storage is a region of its
	// own. Smaller ones are coded with the headers around them: what the planes
	// would save does not pay for two more frames.
	torchMinRegion = 2 << 10
	// torchMaxJunk is how many bytes of structure after a storage of less than
	// torchMaxRun are coded as it is. They share its frame then, and a run of
	// storages shares frames as it does in formats that have nothing between them.
	torchMaxJunk = 512
	torchMaxRun  = codec.FrameSize / 2
	// torchMinStep is how many bytes are taken for structure when it isn't known
	// how long a pickle or a record goes on: less than what is between its end
	// and the next storage. Of those longer than torchMaxStep it is a 64th, since
	// small steps cost time, but not more than torchMaxStep.
	torchMinStep = 48
	torchMaxStep = 64 << 10
	// torchWindow is how much of a pickle is read at a time.
	torchWindow = 16 << 10
)

// torchFile is a file of torch's that is arriving. It is told apart from its
// first byte on, by one state after the other; from a byte on that should not be
// there, it is probed.
type torchFile struct {
	src    Source
	head   []byte // the first bytes, while only Detect has them
	seen   int64  // the most that had arrived: src may be gone when all is told apart
	format string

	pos     int64 // everything before is told apart
	want    int64 // how much must have arrived before next can go on
	next    torchStep
	zip     zipArchive
	legacy  legacyStream
	state   *torchState
	pickle  *pickle
	count   int      // archives that are finished
	regions []Region // in file order: large storages, and what follows them in their run
	run     torchRun
	tensors []Tensor // of the archives that are finished
	problem error
	rest    *probe // from pos on, after a problem
	buf     []byte
}

// torchRun is a storage and what follows it, as long as that is headers
// and small storages of the same type, or a few other bytes.
type torchRun struct {
	open     bool
	extended bool // the last region is what follows the storage
	begin    int64
	dtype    codec.DType
	small    int64 // bytes of small storages of the same type
	junk     int64 // all other bytes after the storage
}

// takes says whether the run may have so many bytes more that are not numbers,
// before byte end.
func (r *torchRun) takes(junk, end int64) bool {
	return r.open && r.junk+junk <= torchMaxJunk+r.small/4 && (end-r.begin)%int64(r.dtype.Size()) == 0
}

// torchStep takes the bytes at pos for what they are in one state. It moves pos,
// or changes the state, or returns ErrMore with want set.
type torchStep func(*torchFile) error

// detectTorch recognises a file that is one of torch's as far as it is there, or
// until after its first large storage.
func detectTorch(head []byte, src Source) Layout {
	t := &torchFile{src: src, head: head, next: (*torchFile).start}
	if t.start() != nil {
		return nil
	}
	t.advance(int64(len(head)) - 1)
	if t.problem != nil && len(t.regions) == 0 {
		return nil
	}
	t.head, t.buf = nil, nil
	return t
}

func (t *torchFile) Format() string { return t.format }
func (t *torchFile) Problem() error { return t.problem }

func (t *torchFile) Tensors() []Tensor {
	list := t.tensors
	if t.state != nil {
		list = append(list[:len(list):len(list)], t.state.table(t.prefix())...)
	}
	t.arrived()
	n := sort.Search(len(list), func(i int) bool { return list[i].End > t.seen })
	return list[:n]
}

// Region returns a large storage, or the structure and the small storages
// before the next one; as much of it as is known.
func (t *torchFile) Region(off int64) (Region, error) {
	t.advance(off)
	if off < t.pos {
		return t.known(off), nil
	}
	if t.rest != nil {
		return t.rest.Region(off)
	}
	if off < t.want {
		return Region{Begin: off, End: t.want, DType: t.after(off)}, nil
	}
	return Region{}, ErrMore
}

// after is the type of bytes after the last region, from off on.
func (t *torchFile) after(off int64) codec.DType {
	if t.run.open && t.run.takes(off-t.regions[len(t.regions)-1].End, off) {
		return t.run.dtype
	}
	return codec.Bytes
}

func (t *torchFile) known(off int64) Region {
	i := sort.Search(len(t.regions), func(i int) bool { return t.regions[i].End > off })
	if i == len(t.regions) {
		return Region{Begin: off, End: t.pos, DType: t.after(off)}
	}
	if r := t.regions[i]; r.Begin <= off {
		return r
	}
	return Region{Begin: off, End: t.regions[i].Begin, DType: codec.Bytes}
}

// advance tells apart what has arrived, until that includes off.
func (t *torchFile) advance(off int64) {
	for t.rest == nil && t.pos <= off {
		err := t.next(t)
		if errors.Is(err, ErrMore) {
			return
		}
		if err != nil {
			t.fail(err)
		}
	}
}

// fail gives up on the format.
func (t *torchFile) fail(err error) {
	t.problem = fmt.Errorf("%s: at byte %d: %w", t.format, t.pos, err)
	t.finish()
	t.rest = newProbe(t.src, t.pos)
}

// arrived is how many bytes can be read.
func (t *torchFile) arrived() int64 {
	t.seen = max(t.seen, t.src.Arrived())
	return max(t.seen, int64(len(t.head)))
}

// peek returns the n bytes at pos, until the next call. The error is ErrMore if
// they have not arrived.
func (t *torchFile) peek(n int) ([]byte, error) {
	if t.pos > math.MaxInt64-int64(n) {
		return nil, errors.New("the file would be too long")
	}
	if end := t.pos + int64(n); end > t.arrived() {
		t.want = end
		return nil, ErrMore
	}
	if cap(t.buf) < n {
		t.buf = make([]byte, n)
	}
	b := t.buf[:n]
	if t.pos+int64(n) <= int64(len(t.head)) {
		return t.head[t.pos:][:n], nil
	}
	if m, err := t.src.ReadAt(b, t.pos); m < n {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	return b, nil
}

// some returns up to n bytes at pos, of those that have arrived.
func (t *torchFile) some(n int) ([]byte, error) {
	return t.peek(int(max(0, min(int64(n), t.arrived()-t.pos))))
}

// wantMore waits for bytes of something that began at begin and whose end is not
// known: at least until end.
func (t *torchFile) wantMore(begin, end int64) error {
	next := t.arrived() + torchMinStep
	if long := t.arrived() - begin; long > torchMaxStep {
		next = (t.arrived() + min(long/64, torchMaxStep)) &^ 63 // storages begin at multiples of 64
	}
	t.want = max(end, next)
	return ErrMore
}

// place gives a storage the bytes from begin on, and moves pos past them.
func (t *torchFile) place(i int32, begin int64, bigEndian bool) error {
	s := &t.state.storages[i]
	if s.size > math.MaxInt64-begin {
		return errors.New("a storage would be too long")
	}
	s.begin, t.pos = begin, begin+s.size
	dtype := s.dtype.codec()
	if bigEndian {
		dtype = codec.Bytes
	}
	if t.run.open {
		t.extend(begin)
	}
	switch {
	case s.size >= torchMinRegion:
		t.regions = append(t.regions, Region{begin, t.pos, dtype})
		t.run = torchRun{open: dtype != codec.Bytes && s.size < torchMaxRun, begin: begin, dtype: dtype}
	case t.run.open && t.run.extended && t.run.dtype == dtype:
		t.regions[len(t.regions)-1].End = t.pos
		t.run.small += s.size
	}
	return nil
}

// extend lets the run go on until the storage at begin, or ends it.
func (t *torchFile) extend(begin int64) {
	r, last := &t.run, &t.regions[len(t.regions)-1]
	junk := begin - last.End
	switch {
	case !r.takes(junk, begin):
		r.open = false
		return
	case r.extended:
		last.End = begin
	case junk > 0:
		t.regions = append(t.regions, Region{last.End, begin, r.dtype})
		r.extended = true
	}
	r.junk += junk
}

// peekHeader is peek for headers that are followed by at least 7 more bytes of
// structure: waiting keeps in step with the elements of the run.
func (t *torchFile) peekHeader(n int) ([]byte, error) {
	b, err := t.peek(n)
	if err != nil && t.run.open {
		t.want += -(t.want - t.run.begin) & 7
	}
	return b, err
}

// start begins an archive of either format at pos.
func (t *torchFile) start() error {
	b, err := t.peek(len(legacyMagic))
	if err != nil {
		return err
	}
	format := FormatTorch
	switch {
	case string(b[:4]) == zipLocal:
		t.zip, t.next = zipArchive{}, (*torchFile).zipRecord
	case string(b) == legacyMagic:
		format = FormatTorchLegacy
		t.legacy, t.next = legacyStream{}, (*torchFile).legacyPickle
	default:
		return errors.New("no archive begins here")
	}
	if t.format == "" {
		t.format = format
	}
	t.state = &torchState{}
	return nil
}

// finish ends an archive, of which only the tensors are kept.
func (t *torchFile) finish() {
	t.run.open = false
	if t.state == nil {
		return
	}
	list := t.state.table(t.prefix())
	t.tensors = append(t.tensors, list[:min(len(list), torchMaxNamed-len(t.tensors))]...)
	t.state, t.pickle, t.legacy = nil, nil, legacyStream{}
	t.count++
}

// prefix tells the archives of a file apart in what stands for a tensor's name.
func (t *torchFile) prefix() string {
	if t.count == 0 {
		return ""
	}
	return strconv.Itoa(t.count) + "/"
}

// unpickle interprets what has arrived of a pickle that began at begin.
func (t *torchFile) unpickle(begin int64) error {
	for !t.pickle.done {
		b, err := t.some(torchWindow)
		if err != nil {
			return err
		}
		n, need, err := t.pickle.run(b)
		if n > math.MaxInt64-t.pos {
			return errors.New("the pickle would be too long")
		}
		t.pos += n
		if err != nil {
			return err
		}
		if n == 0 && need > len(b) {
			return t.wantMore(begin, t.pos+int64(need))
		}
	}
	return nil
}

// torchKnown is the layout of a file whose tensors were recorded when it was
// written.
type torchKnown struct{ known }

func (k *torchKnown) Region(off int64) (Region, error) {
	i := sort.Search(len(k.tensors), func(i int) bool { return k.tensors[i].End > off })
	if i == len(k.tensors) {
		return Region{Begin: off, End: math.MaxInt64, DType: codec.Bytes}, nil
	}
	t := &k.tensors[i]
	if t.Begin > off {
		return Region{Begin: off, End: t.Begin, DType: codec.Bytes}, nil
	}
	r := Region{Begin: t.Begin, End: t.End, DType: codec.Bytes}
	if d, ok := torchDType(t.DType); ok && t.End-t.Begin >= torchMinRegion {
		r.DType = d.codec()
	}
	return r, nil
}
