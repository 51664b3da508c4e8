package series

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mithrilfs/mithrilfs/codec"
	"github.com/mithrilfs/mithrilfs/codec/delta"
	"github.com/mithrilfs/mithrilfs/store/container"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pinDir has the pins of a lab, as a store's.
const pinDir = ".mithrilfs/bases"

// lab is a backing directory with what works on it: a small store.
type lab struct {
	t       testing.TB
	dir     string
	cache   *container.Cache
	grouper *Grouper
	clock   time.Time
	logical map[string][]byte // by path
	log     strings.Builder
}

func newLab(t testing.TB) *lab {
	l := &lab{t: t, dir: t.TempDir(), cache: container.NewCache(64 << 20), logical: map[string][]byte{},
		clock: time.Now().Add(-24 * time.Hour).Truncate(time.Second)}
	l.cache.SetResolver(l)
	l.grouper = NewGrouper(l, slog.New(slog.NewTextHandler(&l.log, nil)))
	return l
}

func (l *lab) path(rel string) string { return filepath.Join(l.dir, rel) }

// Resolve finds a base by its pin.
func (l *lab) Resolve(_ context.Context, g container.Generation) (*container.Reader, func(), error) {
	return l.open(l.pin(g))
}

func (l *lab) open(path string) (*container.Reader, func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil {
		var r *container.Reader
		if r, err = container.Open(f, st.Size(), l.cache); err == nil {
			return r, func() { r.Close(); _ = f.Close() }, nil
		}
	}
	_ = f.Close()
	return nil, nil, err
}

// ReadSample makes a lab a Sampler.
func (l *lab) ReadSample(ctx context.Context, m *Member, p []byte, off int64) error {
	r, done, err := l.open(l.path(m.Rel))
	if err != nil {
		return err
	}
	defer done()
	_, err = r.ReadAtContext(ctx, p, off)
	return err
}

// save writes a full container, a minute after the one before.
func (l *lab) save(rel string, c checkpoint) {
	l.t.Helper()
	tensors, data := c.layout()
	l.write(rel, container.NewGeneration(), container.Dependence{}, nil, "safetensors", tensors, data)
	l.clock = l.clock.Add(time.Minute)
	must(l.t, os.Chtimes(l.path(rel), l.clock, l.clock))
	l.logical[rel] = data
}

// write makes a container of data, with what bases have of it.
func (l *lab) write(rel string, g container.Generation, d container.Dependence, bases []*container.Reader, format string, tensors []container.Tensor, data []byte) {
	l.t.Helper()
	must(l.t, os.MkdirAll(filepath.Dir(l.path(rel)), 0o755))
	part := l.path(filepath.Join(filepath.Dir(rel), "being written"))
	f, err := os.Create(part)
	must(l.t, err)
	w := container.CreateDelta(f, g, d)
	m := &Member{Size: int64(len(data)), Format: format, Tensors: tensors}
	for _, s := range spans(m) {
		for at := s.begin; at < s.end; at += codec.FrameSize {
			p := container.Piece{Offset: at, DType: s.dtype, Data: data[at:min(s.end, at+codec.FrameSize)]}
			for i, r := range d.Ranges(at, at+int64(len(p.Data))) {
				e := delta.Elements{Data: make([]byte, r.Length), Type: r.DType}
				_, err := bases[i].ReadAt(e.Data, r.Offset)
				must(l.t, err)
				p.Bases = append(p.Bases, e)
			}
			must(l.t, w.Append(p))
		}
	}
	must(l.t, w.Seal(format, tensors, int64(len(data))))
	must(l.t, f.Close())
	must(l.t, os.Rename(part, l.path(rel)))
}

// run carries out an action, as a store would: pins first, then the container.
func (l *lab) run(a Action) {
	l.t.Helper()
	var bases []*container.Reader
	var members []*Member
	for i := range a.Bases {
		b := &a.Bases[i]
		members = append(members, b)
		must(l.t, os.MkdirAll(l.path(pinDir), 0o700))
		pin := l.pin(b.Generation)
		if _, err := os.Lstat(pin); err != nil {
			must(l.t, os.Link(l.path(b.Rel), pin))
		}
		r, done, err := l.Resolve(context.Background(), b.Generation)
		must(l.t, err)
		defer done()
		bases = append(bases, r)
	}
	l.write(a.Member.Rel, a.Member.Generation, Depend(&a.Member, members), bases, a.Member.Format, a.Member.Tensors, l.logical[a.Member.Rel])
	must(l.t, os.Chtimes(l.path(a.Member.Rel), a.Member.Mtime, a.Member.Mtime))
	// A pin keeps a content; the form that it has now replaces the older one.
	pin := l.pin(a.Member.Generation)
	if err := os.Remove(pin); err == nil {
		must(l.t, os.Link(l.path(a.Member.Rel), pin))
	}
}

// members finds the containers, by path.
func (l *lab) members() []Member {
	l.t.Helper()
	var members []Member
	must(l.t, filepath.WalkDir(l.dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() != filepath.Dir(pinDir) {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(l.dir, name)
		must(l.t, err)
		members = append(members, l.member(rel))
		return nil
	}))
	return members
}

func (l *lab) member(rel string) Member {
	l.t.Helper()
	r, done, err := l.open(l.path(rel))
	must(l.t, err)
	defer done()
	log := r.Log()
	info, err := os.Stat(l.path(rel))
	must(l.t, err)
	st := info.Sys().(*syscall.Stat_t)
	m := Member{Rel: rel, Key: Key{Device: st.Dev, Inode: st.Ino}, Generation: log.Generation(), Size: log.Size, Stored: info.Size(),
		Mtime: info.ModTime(), Format: log.Format, Tensors: log.Tensors, Layout: FingerprintOf(log.Format, log.Tensors),
		Bases: log.Dependence.Bases, Links: uint32(st.Nlink)}
	m.Step, m.Place = ParseStep(rel)
	if pin, err := os.Stat(l.pin(m.Generation)); err == nil && os.SameFile(pin, info) {
		m.Links--
	}
	return m
}

func (l *lab) pin(g container.Generation) string { return l.path(fmt.Sprintf("%s/%x", pinDir, g[:])) }

// unpin removes the pins that no file needs.
func (l *lab) unpin() {
	l.t.Helper()
	need := make(map[string]bool)
	var follow func(bases []container.Base)
	follow = func(bases []container.Base) {
		for _, b := range bases {
			pin := l.pin(b.Generation)
			if need[pin] {
				continue
			}
			need[pin] = true
			r, done, err := l.open(pin)
			must(l.t, err)
			follow(r.Dependence().Bases)
			done()
		}
	}
	for _, m := range l.members() {
		follow(m.Bases)
	}
	pins, err := filepath.Glob(l.path(pinDir + "/*"))
	must(l.t, err)
	for _, pin := range pins {
		if !need[pin] {
			must(l.t, os.Remove(pin))
		}
	}
}

// families groups what is there.
func (l *lab) families() []Family {
	l.t.Helper()
	families, err := l.grouper.Group(context.Background(), l.members())
	must(l.t, err)
	return families
}

// compact carries out all plans, and drops what pins are not needed.
func (l *lab) compact(o Options) (actions int) {
	l.t.Helper()
	for _, f := range l.families() {
		for _, a := range Plan(f, o) {
			l.run(a)
			actions++
		}
	}
	l.unpin()
	return actions
}

// verify compares every byte.
func (l *lab) verify() {
	l.t.Helper()
	for rel, want := range l.logical {
		r, done, err := l.open(l.path(rel))
		must(l.t, err)
		got := make([]byte, r.Size())
		_, err = r.ReadAt(got, 0)
		if err != nil || string(got) != string(want) {
			l.t.Errorf("%s: %v, or other bytes", rel, err)
		}
		done()
	}
}

func (l *lab) remove(rel string) {
	l.t.Helper()
	must(l.t, os.Remove(l.path(rel)))
	delete(l.logical, rel)
}

// describe shows families by the paths of their files, a line each: members, and
// leaves in brackets with what they are of.
func describeFamilies(families []Family) string {
	var b strings.Builder
	for _, f := range families {
		of := map[container.Generation]string{}
		for i, m := range f.Members {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(m.Rel)
			of[m.Generation] = m.Rel
		}
		for _, l := range f.Leaves {
			fmt.Fprintf(&b, " [%s %s of %s]", l.Rel, l.Relation, of[l.Of])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// checkpoint is tensors of one type, by name.
type checkpoint struct {
	dtype   codec.DType
	names   []string
	rows    []int
	tensors [][]float32
}

var dtypeNames = map[codec.DType]string{codec.BF16: "BF16", codec.F32: "F32"}

// layout gives the file: a header, which is of no known kind, and the tensors.
func (c *checkpoint) layout() ([]container.Tensor, []byte) {
	data := []byte(fmt.Sprintf("%-200s", "header "+strings.Join(c.names, " ")))
	var list []container.Tensor
	for i, values := range c.tensors {
		begin := len(data)
		for _, v := range values {
			if c.dtype == codec.BF16 {
				u := math.Float32bits(v)
				data = binary.LittleEndian.AppendUint16(data, uint16((u+0x7fff+u>>16&1)>>16))
			} else {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
		}
		list = append(list, container.Tensor{Name: c.names[i], DType: dtypeNames[c.dtype],
			Shape: []uint64{uint64(c.rows[i]), uint64(len(values) / c.rows[i])}, Begin: int64(begin), End: int64(len(data))})
	}
	return list, data
}

// training is a run of some optimizer, in a space small enough for a test.
type training struct {
	r              *rand.Rand
	weights, ema   []float32
	moment, square []float32
	rows           int
}

// newTraining draws n random weights.
func newTraining(seed uint64, n int) *training {
	t := &training{r: rand.New(rand.NewPCG(seed, 7)), rows: 16}
	for range n {
		w := float32(t.r.NormFloat64() * 0.02)
		t.weights, t.ema = append(t.weights, w), append(t.ema, w)
		t.moment, t.square = append(t.moment, 0), append(t.square, float32(math.Exp(t.r.NormFloat64())*1e-8))
	}
	return t
}

// step trains from one save to the next.
func (t *training) step() {
	for i := range t.weights {
		g := float32(t.r.NormFloat64())
		t.moment[i] = 0.7*t.moment[i] + 3e-5*g
		t.weights[i] += t.moment[i]
		t.ema[i] += (t.weights[i] - t.ema[i]) / 4
		t.square[i] *= 1 + g*g/256
	}
}

// branch is the run as it is now, with other data from here on.
func (t *training) branch(seed uint64) *training {
	b := *t
	b.r = rand.New(rand.NewPCG(seed, 9))
	for _, p := range []*[]float32{&b.weights, &b.ema, &b.moment, &b.square} {
		*p = append([]float32(nil), *p...)
	}
	return &b
}

// model returns weights in two tensors.
func (t *training) model(dtype codec.DType) checkpoint { return t.file(dtype, t.weights) }

func (t *training) average(dtype codec.DType) checkpoint { return t.file(dtype, t.ema) }

func (t *training) file(dtype codec.DType, w []float32) checkpoint {
	half := len(w) / 4
	return checkpoint{dtype, []string{"embed.weight", "layer.weight"}, []int{t.rows, t.rows}, [][]float32{w[:half], w[half:]}}
}

func (t *training) optimizer() checkpoint {
	return checkpoint{codec.F32, []string{"exp_avg", "exp_avg_sq"}, []int{t.rows, t.rows}, [][]float32{t.moment, t.square}}
}
