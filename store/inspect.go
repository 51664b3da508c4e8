package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

// FileState says how a logical file is kept.
type FileState string

// The states.
const (
	StatePlain    FileState = "plain"    // its backing bytes are its bytes; nothing can be checked
	StateSealed   FileState = "sealed"   // a whole container
	StateUnsealed FileState = "unsealed" // a container that was never sealed: a prefix of what was written
	StateWriting  FileState = "writing"  // open for writing, or not settled yet
	StateDamaged  FileState = "damaged"  // can't be read, or not all of it
)

// FormatPlain is the format of files that are not in containers.
const FormatPlain = "plain"

// Summary is one line about a file. Sizes are in bytes.
type Summary struct {
	Path    string    `json:"path"`
	Logical int64     `json:"logical_bytes"`
	Stored  int64     `json:"stored_bytes"` // size of the backing file
	Ratio   float64   `json:"ratio"`        // logical to stored; 1 for an empty file
	Format  string    `json:"format"`       // as package layout calls it, or "plain"
	State   FileState `json:"state"`
	Problem string    `json:"problem,omitempty"` // what is wrong, for people
	Tensors int       `json:"tensor_count"`
	Frames  int       `json:"frame_count"`
	// Generation is the container's last one, which names its content.
	Generation string   `json:"generation,omitempty"`
	Bases      []string `json:"bases"` // generations of the containers that it is stored as differences from
}

// TensorReport is one entry of a tensor table. Stored is the tensor's share of
// its frames, by logical length.
type TensorReport struct {
	Name    string   `json:"name"`
	DType   string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offset  int64    `json:"offset"` // first logical byte
	Logical int64    `json:"logical_bytes"`
	Stored  int64    `json:"stored_bytes"`
	Ratio   float64  `json:"ratio"`
	Plan    string   `json:"plan"`
}

// FrameReport is one live piece of a container.
type FrameReport struct {
	Number     uint32 `json:"number"`
	Generation string `json:"generation"`
	Offset     int64  `json:"offset"` // first logical byte
	Logical    int64  `json:"logical_bytes"`
	Position   int64  `json:"position"` // of its record in the container
	Stored     int64  `json:"stored_bytes"`
	Plan       string `json:"plan"`   // or how it depends on bases
	Bases      int    `json:"bases"`  // how many it needs
	Tensor     string `json:"tensor"` // the first one it holds bytes of, "" for none
}

// Inspection is a look into one file. For a plain or damaged file it has a
// Summary only.
type Inspection struct {
	summary Summary
	reader  *container.Reader // nil: not a container that can be read
	log     container.Log
	close   func() error
}

// Inspect looks into the backing file at path, which needs no mount. The error
// is one of the system: damage is in the Summary.
func Inspect(path string) (*Inspection, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "inspect", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	in := &Inspection{close: f.Close}
	in.summary = Summary{Path: path, Stored: st.Size(), Format: FormatPlain, State: StatePlain, Bases: []string{}}
	r, err := container.Open(f, st.Size(), cacheFor(path))
	switch {
	case errors.Is(err, container.ErrNotContainer):
		in.summary.Logical = st.Size()
		if err := checkPlain(int(f.Fd()), st.Size()); err != nil {
			in.summary.State, in.summary.Format, in.summary.Problem = StateDamaged, "container", err.Error()
			in.summary.Logical = 0
		}
	case err != nil:
		in.summary.State, in.summary.Format, in.summary.Problem = StateDamaged, "container", err.Error()
	default:
		in.look(r, r.Log())
		in.close = func() error { r.Close(); return f.Close() }
	}
	in.summary.Ratio = ratio(in.summary.Logical, in.summary.Stored)
	return in, nil
}

// Inspect looks into an open file. Until the Inspection is closed nobody can
// write to the file.
func (f *File) Inspect() (*Inspection, error) {
	info, err := f.Info()
	if err != nil {
		return nil, err
	}
	f.mu.RLock()
	in := &Inspection{close: func() error { f.mu.RUnlock(); return nil }}
	in.summary = Summary{Path: f.name, Stored: info.Stored, Logical: info.Size, Format: FormatPlain, State: StatePlain, Bases: []string{}}
	switch c := f.content.(type) {
	case *saving:
		in.look(c.w.Reader, f.snapshot(c.w.Reader))
		if c.w.Modified() || c.chunk != nil {
			in.summary.State, in.summary.Problem = StateWriting, ""
		}
		in.summary.Logical, in.summary.Format = c.length, c.layout.Format()
	case *sealed:
		in.look(c.r, f.snapshot(c.r))
	case *head:
		in.summary.State = StateWriting
	}
	if failed := f.store.failures.of(f.key); failed != nil {
		in.summary.Problem = strings.TrimPrefix(in.summary.Problem+"; its last close failed: "+failed.Error(), "; ")
	}
	in.summary.Ratio = ratio(in.summary.Logical, in.summary.Stored)
	return in, nil
}

// snapshot is a log that one Inspection after the other uses: asked page by
// page about a large file, the daemon must not copy its log for each page.
type snapshot struct {
	reader *container.Reader
	end    int64
	log    container.Log
}

func (f *File) snapshot(r *container.Reader) container.Log {
	end := r.End()
	if s := f.inspected.Load(); s != nil && s.reader == r && s.end == end {
		return s.log
	}
	s := &snapshot{r, end, r.Log()}
	f.inspected.Store(s)
	return s.log
}

func (in *Inspection) look(r *container.Reader, log container.Log) {
	in.reader, in.log = r, log
	s := &in.summary
	s.Logical, s.Format, s.State = in.log.Size, in.log.Format, StateSealed
	if st := r.State(); !st.Sealed {
		s.State = StateUnsealed
		if st.Tail != nil {
			what := "never sealed"
			if st.Once {
				what = "damaged at its end"
			}
			s.Problem = fmt.Sprintf("%s: the log ends at byte %d of %d: %v", what, in.log.End(), s.Stored, st.Tail)
		}
		in.detect(r)
	}
	s.Tensors, s.Frames = len(in.log.Tensors), len(in.log.Extents)
	g := in.log.Generation()
	s.Generation = hex.EncodeToString(g[:])
	for _, b := range in.log.Dependence.Bases {
		s.Bases = append(s.Bases, hex.EncodeToString(b.Generation[:]))
	}
}

// detect finds format and tensors of a container whose index does not tell.
func (in *Inspection) detect(r *container.Reader) {
	head := make([]byte, min(in.log.Size, headMax))
	if _, err := r.ReadAt(head, 0); err != nil {
		return // verify tells
	}
	in.log.Format = layout.Bytes().Format()
	if l := layout.Detect(head, whole{r}); l != nil {
		_, _ = l.Region(in.log.Size) // makes it read all that it knows
		in.log.Format = l.Format()
		for _, t := range l.Tensors() {
			in.log.Tensors = append(in.log.Tensors, container.Tensor(t))
		}
	}
	in.summary.Format = in.log.Format
}

// whole is a layout.Source of a file that has arrived as far as it ever will.
type whole struct{ *container.Reader }

func (w whole) Arrived() int64 { return w.Reader.Size() }

// Size is unknown: what is missing of an unsealed file is not there.
func (w whole) Size() int64 { return -1 }

// Close ends the inspection.
func (in *Inspection) Close() error {
	return in.close()
}

// Summary is the file in one line.
func (in *Inspection) Summary() Summary { return in.summary }

// Tensors returns up to n entries of the tensor table from i on.
func (in *Inspection) Tensors(i, n int) []TensorReport {
	var list []TensorReport
	for ; i >= 0 && i < len(in.log.Tensors) && n > 0; i, n = i+1, n-1 {
		list = append(list, in.tensor(&in.log.Tensors[i]))
	}
	return list
}

func (in *Inspection) tensor(t *container.Tensor) TensorReport {
	r := TensorReport{Name: t.Name, DType: t.DType, Shape: t.Shape, Offset: t.Begin, Logical: t.End - t.Begin}
	if r.Shape == nil {
		r.Shape = []uint64{}
	}
	stored := 0.0
	var plans []string
	for _, e := range in.log.Extents.Within(t.Begin, t.End) {
		part := min(e.End(), t.End) - max(e.Start, t.Begin)
		stored += float64(part) * float64(e.Frame.Stored) / float64(e.Frame.Length)
		if p := planOf(&e.Frame); !slices.Contains(plans, p) {
			plans = append(plans, p)
		}
	}
	r.Stored, r.Plan = int64(stored+0.5), strings.Join(plans, "; ")
	r.Ratio = ratio(r.Logical, r.Stored)
	return r
}

// Frames returns up to n live pieces from i on, in logical order.
func (in *Inspection) Frames(i, n int) []FrameReport {
	var list []FrameReport
	for ; i >= 0 && i < len(in.log.Extents) && n > 0; i, n = i+1, n-1 {
		e := &in.log.Extents[i]
		list = append(list, FrameReport{
			Number: e.Frame.Number, Generation: in.log.Generations[e.Frame.Generation].String(),
			Offset: e.Start, Logical: int64(e.Length), Position: e.Frame.Position, Stored: int64(e.Frame.Stored),
			Plan: planOf(&e.Frame), Bases: int(e.Frame.Bases), Tensor: tensorsOf(in.log.Tensors, &e.Frame),
		})
	}
	return list
}

// planOf says how a frame is coded.
func planOf(f *container.Frame) string {
	switch {
	case f.Coding != container.CodingDelta:
		return f.Plan.String()
	case f.Bases == 1:
		return "differences from 1 base"
	}
	return fmt.Sprintf("differences from %d bases", f.Bases)
}

// Check decodes the i-th live piece from the disk, past all caches, and says
// what is wrong with it.
func (in *Inspection) Check(i int) error {
	if i < 0 || i >= len(in.log.Extents) {
		return unix.EINVAL
	}
	return in.reader.Check(in.log.Extents[i].Frame)
}

// ReadAt gives the logical bytes of a file that Inspect opened.
func (in *Inspection) ReadAt(p []byte, off int64) (int, error) {
	if in.reader == nil {
		return 0, unix.EINVAL
	}
	return in.reader.ReadAt(p, off)
}

// tensorsOf names the first tensor that a frame has bytes of. Tensors are in
// file order.
func tensorsOf(tensors []container.Tensor, f *container.Frame) string {
	i := sort.Search(len(tensors), func(i int) bool { return tensors[i].End > f.Offset })
	if i < len(tensors) && tensors[i].Begin < f.End() {
		return tensors[i].Name
	}
	return ""
}

// ratio is logical to stored bytes, 1 for nothing.
func ratio(logical, stored int64) float64 {
	if logical == 0 || stored == 0 {
		return 1
	}
	return float64(logical) / float64(stored)
}
