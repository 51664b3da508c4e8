package layout

import (
	"bytes"
	"math"
	"slices"
	"sort"

	"github.com/mithrilfs/mithrilfs/codec"
)

// FormatNumbers is the name for data of no known format that consist of
// numbers.
const FormatNumbers = "numbers"

// numbersGain is how many bits a byte must cost less when the bytes are taken
// apart by their position in the element than when they are not. Weights of
// any float type gain 0.4 to 1.6; text and programs gain less than 0.1.
const numbersGain = 0.25

// widthMargin is how much better, in bits a byte, wider elements must be than
// narrower ones: elements that are two or four of the true type cost the same
// but for the noise of the sample.
const widthMargin = 0.06

// switchMargin is how much better, in bits a byte, another type must be than
// the one that the data before had.
const switchMargin = 0.05

// candidates are what the probe tries, by width.
var candidates = [][]codec.DType{{codec.BF16, codec.I16}, {codec.F32, codec.I32}, {codec.F64, codec.I64}}

// element is a type, and where its elements begin: at offsets that are phase
// modulo its size.
type element struct {
	dtype codec.DType
	phase int64
}

// next is the first offset from off on at which an element begins.
func (e element) next(off int64) int64 {
	size := int64(e.dtype.Size())
	return off + min(((e.phase-off)%size+size)%size, math.MaxInt64-off)
}

// guess is the stride probe: for each element type and phase it takes the
// order-0 entropy of the planes that the codec would make of the sample, and
// returns the best, or Bytes. What the data before had is preferred to another
// type of its width, and to none.
func guess(s sample, before element) element {
	if isText(s) {
		return element{} // lines of equal length look like numbers to the probe
	}
	least := numbersGain
	if before.dtype != codec.Bytes {
		least /= 2
	}
	best, cost := element{}, planeCost(s, 1, 0, 0)-least
	for _, types := range candidates {
		e, c := bestOf(s, types)
		if slices.Contains(types, before.dtype) && costOf(s, before) < c+switchMargin {
			e = before
		}
		if c < cost {
			best, cost = e, c-widthMargin
		}
	}
	return best
}

// bestOf returns the type and phase of least cost; the first of those that are
// equal but for the noise of the sample.
func bestOf(s sample, types []codec.DType) (best element, cost float64) {
	const noise = 0.002
	cost = 8
	for _, d := range types {
		for phase := range d.Size() {
			e := element{d, int64(phase)}
			if c := costOf(s, e); c < cost-noise {
				best, cost = e, c
			}
		}
	}
	return best, cost
}

func costOf(s sample, e element) float64 {
	return planeCost(s, e.dtype.Size(), e.dtype.Plan().Rotation(), int(e.phase))
}

// The probe decides step by step, of stepMin bytes while the data change and
// up to stepMax while they go on as before. A decision takes a sample of
// pieceCount pieces: short ones to see whether the data have changed, longer
// ones to guess what they are.
const (
	stepMin    = 64 << 10
	stepMax    = codec.FrameSize
	stepBlind  = 16 << 10 // where there is nothing to look at
	behind     = 32 << 10 // how much of the data before a step tells of it
	glanceSize = 256
	pieceSize  = 1 << 10
	pieceCount = 16
)

// Guessing costs about fifty times what a glance costs that only sees that the data
// go on as before. Each step earns one credit, up to guessCredits, which is
// what a guess costs, so data that change all the time can't cost more.
const guessCredits = 8

// jump is how far beyond what was decided a step may begin without what lies
// between being decided first.
const jump = 16 * stepMin

// maxRuns is how many runs are remembered.
const maxRuns = 4096

// run is a range of one element type.
type run struct {
	begin, end int64
	dtype      codec.DType
	unknown    bool // passed over: it must be looked at when it is asked for
}

// probe is the layout of data of no known format from the byte at from on. As
// far as the source has arrived it looks at the bytes that it is asked about,
// else at those before them: data change seldom, and a step that is taken for
// what it is not costs ratio only.
type probe struct {
	src    Source
	from   int64
	runs   []run // from from on, one after the other
	ahead  opinion
	step   int64
	credit int
	buf    []byte
	aside  opinion // of what is asked for in unknown runs
	looked Region  // the last of that
}

// opinion is what data were taken for, and what they looked like.
type opinion struct {
	element
	seen  profile
	valid bool
}

func newProbe(src Source, from int64) *probe {
	return &probe{src: src, from: from, step: stepMin, credit: guessCredits}
}

// Numbers is the layout of a file that was written as numbers before: it is
// probed where it is written to.
func Numbers(src Source) Layout { return newProbe(src, 0) }

func (p *probe) Format() string    { return FormatNumbers }
func (p *probe) Tensors() []Tensor { return nil }
func (p *probe) Problem() error    { return nil }

// Region returns a part of a run. Parts follow each other in steps of stepMin,
// so that small ones can share a frame.
func (p *probe) Region(off int64) (Region, error) {
	if off < p.from {
		return Region{End: p.from, DType: codec.Bytes}, nil
	}
	if end := p.end(); off-end > jump {
		p.push(run{end, off &^ 7, codec.Bytes, true})
	}
	for p.end() <= off {
		p.advance()
	}
	r := &p.runs[sort.Search(len(p.runs), func(i int) bool { return p.runs[i].end > off })]
	if r.unknown {
		return p.look(off, r), nil
	}
	begin := off - (off-r.begin)%stepMin
	return Region{Begin: begin, End: begin + min(stepMin, r.end-begin), DType: r.dtype}, nil
}

// end is how far all is decided.
func (p *probe) end() int64 {
	if len(p.runs) == 0 {
		return p.from
	}
	return p.runs[len(p.runs)-1].end
}

// advance decides about one more step.
func (p *probe) advance() {
	begin := p.end()
	length := p.step
	at, span := p.evidence(begin)
	if at >= begin {
		length = stepMin
	}
	p.credit = min(p.credit+1, guessCredits)
	s := p.sample(at, span, glanceSize)
	if s == nil {
		p.extend(begin, stepBlind)
		return
	}
	glance := profileOf(s)
	switch {
	case glance.constant():
	case p.ahead.valid && glance.like(&p.ahead.seen):
		p.step = min(2*p.step, stepMax)
	case p.credit >= guessCredits:
		p.credit = 0
		p.step, length = stepMin, stepMin
		if s := p.sample(at, span, pieceSize); s != nil {
			p.ahead = opinion{guess(s, p.ahead.element), glance, true}
		}
	}
	p.extend(begin, length)
}

// evidence says which bytes tell of those from begin on.
func (p *probe) evidence(begin int64) (at, span int64) {
	if there := min(p.src.Arrived()-begin, stepMin); there >= stepBlind {
		return begin, there
	}
	at = max(begin-behind, p.from)
	return at, min(begin, p.src.Arrived()) - at
}

// sample reads pieces of up to size bytes spread over a range; nil if that is
// too small, or can't be read.
func (p *probe) sample(at, span, size int64) sample {
	span -= -at & 7
	at += -at & 7
	if span < pieceSize*pieceCount/4 {
		return nil
	}
	if p.buf == nil {
		p.buf = make([]byte, pieceSize*pieceCount)
	}
	size = min(size, span/pieceCount&^7)
	s := make(sample, pieceCount)
	for i := range s {
		s[i] = p.buf[int64(i)*size:][:size]
		if _, err := p.src.ReadAt(s[i], at+(span-size)*int64(i)/(pieceCount-1)&^7); err != nil {
			return nil
		}
	}
	return s
}

// extend makes what follows begin, for about length bytes, what the probe
// takes it for now. Bytes before the first whole element go to the run before.
func (p *probe) extend(begin, length int64) {
	end := begin + min(length, math.MaxInt64-begin)
	first := min(p.ahead.next(begin), end)
	if n := len(p.runs) - 1; n >= 0 && !p.runs[n].unknown {
		last := &p.runs[n]
		size := int64(p.ahead.dtype.Size())
		if last.dtype == p.ahead.dtype && (last.begin-p.ahead.phase)%size == 0 {
			last.end = end
			return
		}
		last.end = first
	} else if first > begin {
		p.push(run{begin: begin, end: first})
	}
	p.push(run{begin: first, end: end, dtype: p.ahead.dtype})
}

// push adds a run. Of too many, the older half is forgotten.
func (p *probe) push(r run) {
	if len(p.runs) == maxRuns {
		p.runs[maxRuns/2-1] = run{p.from, p.runs[maxRuns/2-1].end, codec.Bytes, true}
		p.runs = append(p.runs[:0], p.runs[maxRuns/2-1:]...)
	}
	p.runs = append(p.runs, r)
}

// look decides about the bytes around off, in an unknown run.
func (p *probe) look(off int64, r *run) Region {
	if off >= p.looked.Begin && off < p.looked.End {
		return p.looked
	}
	begin := max(off-off%stepMin, r.begin)
	end := begin + min(stepMin, r.end-begin)
	p.reconsider(begin)
	first := min(p.aside.next(begin), end)
	if off < first {
		return Region{begin, first, codec.Bytes}
	}
	p.looked = Region{first, end, p.aside.dtype}
	return p.looked
}

// reconsider takes a glance at the data from begin on, and guesses anew if they
// are not like what was looked at last.
func (p *probe) reconsider(begin int64) {
	at, span := p.evidence(begin)
	s := p.sample(at, span, glanceSize)
	if s == nil {
		return
	}
	glance := profileOf(s)
	if glance.constant() || p.aside.valid && glance.like(&p.aside.seen) {
		return
	}
	if s = p.sample(at, span, pieceSize); s != nil {
		p.aside = opinion{guess(s, p.aside.element), glance, true}
	}
}

// notNumbers are the first bytes of what has tables that look like numbers, but
// is not a checkpoint: databases and programs.
var notNumbers = []string{"SQLite format 3\x00", "\x7fELF"}

// detectNumbers says whether a file of no known format holds numbers. The
// first bytes tell, or, if they don't and the file is all there, the rest.
func detectNumbers(head []byte, src Source) Layout {
	known := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	if len(head) < stepBlind || slices.ContainsFunc(notNumbers, known) {
		return nil
	}
	p := newProbe(arrived{bytes.NewReader(head)}, 0)
	whole := p.overall(int64(len(head)))
	p.ahead.element = whole
	size := int64(len(head))
	for p.end() < size {
		p.advance()
	}
	p.src = src
	if whole.dtype != codec.Bytes || p.share(size) >= 0.5 || size < src.Arrived() && elsewhere(src) {
		return p
	}
	return nil
}

// overall guesses what most of the first size bytes are.
func (p *probe) overall(size int64) element {
	return guess(p.sample(0, size, pieceSize), element{})
}

// share is the part of the first size bytes that are numbers.
func (p *probe) share(size int64) float64 {
	var n int64
	for _, r := range p.runs {
		if r.dtype != codec.Bytes {
			n += min(r.end, size) - r.begin
		}
	}
	return float64(n) / float64(size)
}

// elsewhere says whether most of a file that is all there is numbers.
func elsewhere(src Source) bool {
	const places = 16
	p, numbers := newProbe(src, 0), 0
	for i := range int64(places) {
		at, span := p.evidence(src.Arrived() / places * i)
		if s := p.sample(at, span, pieceSize); s != nil && guess(s, element{}).dtype != codec.Bytes {
			numbers++
		}
	}
	return numbers*2 >= places
}

// arrived is a Source that is all there.
type arrived struct{ *bytes.Reader }

func (a arrived) Arrived() int64 { return a.Reader.Size() }
func (a arrived) Size() int64    { return a.Reader.Size() }
