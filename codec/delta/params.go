package delta

import (
	"math"
	"slices"
)

// Sizes of what a frame describes.
const (
	block      = 128 // elements that share a level of activity
	exponents  = 32
	activities = 24
	columns    = 24
	movements  = 64 // of steps, see [movement]
	trends     = 16
	levels     = 32
	maxCells   = levels * 8
	maxClasses = 48
	maxScore   = 63  // on a curve
	maxFloor   = 224 // so that sums of scores can saturate at 255

	minFirst  = 24 // of first exponents, so that units and their inverses are normal numbers
	maxFirst  = 224
	gainUnit  = 32
	maxStride = 1 << 16
	noLevels  = 3 // says that the levels of all blocks are 0
)

// params is all that the decoder needs besides the symbols: how to predict an
// element, and how to find its class.
type params struct {
	bases  int // 1 to 3
	stride int // elements in a row, or 0 if columns do not matter
	groups grouping

	firstExponent int // becomes 0
	firstActivity int
	firstColumn   int
	floor         int // score of level 0

	gain      [exponents]int8      // of the predicted step, in 1/32 of the last
	gain2     [exponents]int8      // and of the one before
	exponent  [2 * exponents]uint8 // the second half is of elements that moved
	activity  [2 * activities]uint8
	column    [columns]uint8
	movement  [movements]uint8
	trend     [trends]uint8
	classes   [maxCells]uint8 // of cells
	nclasses  int
	tables    [maxClasses]table
	explicits []uint8 // levels of activity of the blocks, if there is one base
}

// movement returns what stands for the size of a step, not 0, in units of its
// element: twice the exponent of its highest bit, plus 2 and the bit below. It is 1
// for less than a unit, and less than moves.
func movement(units float32, moves int) uint8 {
	return uint8(min(max(int(math.Float32bits(units)>>22)-2*127+2, 1), moves-1))
}

// A grouping says how movements and trends divide the elements into groups.
type grouping uint8

const (
	together   grouping = 0 // one group
	byStep     grouping = 1 // by movement
	byTwoSteps grouping = 2 // by movement and trend
	byMove     grouping = 3 // by whether there was a step
)

// groups returns the number of groups.
func (g grouping) groups() int { return [...]int{1, 6, 8, 2}[g] }

// coarse returns the group by move of one of the groups.
func (g grouping) coarse(group int) int {
	if g == byTwoSteps {
		group /= 2
	}
	return min(group, 1)
}

// moveKind returns what groups know of a movement: 0 to 5.
func moveKind(movement int) int {
	if movement < 4 {
		return min(movement, 1) // less than 2 units
	}
	return min(movement-2, 5) // less than 3, 4, 6 units, or more
}

// group returns the group of a movement and a trend.
func (g grouping) group(movement, trend int) int {
	k := moveKind(movement)
	switch {
	case g == together:
		return 0
	case g == byMove:
		return min(k, 1)
	case g == byStep:
		return k
	case k == 0 && trend == noTrend:
		return 0
	case k == 0:
		return 1
	case k == 1:
		return 3 + min(max(trend-noTrend, -1), 1)
	case k < 4 && trend <= noTrend:
		return 5
	case k < 4:
		return 6
	}
	return 7
}

// write appends the parameters of a frame of some blocks to w.
func (p *params) write(w *bitWriter, blocks int, l *float) {
	w.bits(uint64(p.groups), 2)
	w.bits(uint64(p.firstExponent), 8)
	w.bits(uint64(p.firstActivity), 8)
	w.bits(uint64(p.floor), 8)
	writeCurve(w, p.exponent[:exponents*min(p.bases, 2)])
	writeCurve(w, p.activity[:activities*min(p.bases, 2)])
	if p.bases == 1 {
		writeLevels(w, p.explicits[:blocks])
	} else {
		writeGains(w, p.gain[:])
		if p.bases > 2 {
			writeGains(w, p.gain2[:])
			writeCurve(w, p.trend[:])
		}
		writeCurve(w, p.movement[:l.moves])
		w.number(uint64(p.stride), 0)
		if p.stride > 0 {
			w.bits(uint64(p.firstColumn), 8)
			writeCurve(w, p.column[:])
		}
	}
	p.writeClasses(w)
	for i := range p.nclasses {
		var previous *table
		if i > 0 {
			previous = &p.tables[i-1]
		}
		p.tables[i].write(w, previous)
	}
}

// read undoes write. It returns why it can't, or "".
func (p *params) read(r *bitReader, bases, blocks int, l *float) string {
	*p = params{bases: bases, explicits: p.explicits[:0]}
	p.groups = grouping(r.bits(2))
	p.firstExponent = int(r.bits(8))
	p.firstActivity = int(r.bits(8))
	p.floor = int(r.bits(8))
	ok := p.floor <= maxFloor && p.firstExponent >= minFirst && p.firstExponent <= maxFirst && readCurve(r, p.exponent[:exponents*min(bases, 2)]) && readCurve(r, p.activity[:activities*min(bases, 2)])
	if p.bases == 1 {
		if p.explicits = readLevels(r, p.explicits, blocks); p.explicits == nil {
			return "bad levels of activity"
		}
	} else {
		ok = ok && readGains(r, p.gain[:])
		if p.bases > 2 {
			ok = ok && readGains(r, p.gain2[:]) && readCurve(r, p.trend[:])
		}
		ok = ok && readCurve(r, p.movement[:l.moves])
		stride := r.number(0)
		if stride > maxStride {
			return "bad stride"
		}
		if p.stride = int(stride); p.stride > 0 {
			p.firstColumn = int(r.bits(8))
			ok = ok && readCurve(r, p.column[:])
		}
	}
	if !ok {
		return "bad scores"
	}
	if !p.readClasses(r) {
		return "bad classes"
	}
	for i := range p.nclasses {
		var previous *table
		if i > 0 {
			previous = &p.tables[i-1]
		}
		if !p.tables[i].read(r, previous, l.syms) {
			return "bad frequencies"
		}
	}
	if r.over {
		return "cut short"
	}
	return ""
}

// Gains are written as the differences of neighbours.
func writeGains(w *bitWriter, gains []int8) {
	previous := 0
	for _, g := range gains {
		w.signed(int(g)-previous, 1)
		previous = int(g)
	}
}

func readGains(r *bitReader, gains []int8) bool {
	v := 0
	for i := range gains {
		if v += r.signed(1); v != int(int8(v)) {
			return false
		}
		gains[i] = int8(v)
	}
	return true
}

// A curve is written as the differences of neighbours.
func writeCurve(w *bitWriter, c []uint8) {
	previous := 0
	for _, v := range c {
		w.signed(int(v)-previous, 0)
		previous = int(v)
	}
}

func readCurve(r *bitReader, c []uint8) bool {
	v := 0
	for i := range c {
		if v += r.signed(0); v < 0 || v > maxScore {
			return false
		}
		c[i] = uint8(v)
	}
	return true
}

// writeLevels writes the differences of neighbours in the order that takes the
// fewest bits.
func writeLevels(w *bitWriter, l []uint8) {
	if len(l) == 0 || slices.Max(l) == 0 {
		w.bits(noLevels, 2)
		return
	}
	best, fewest := uint(0), -1
	for k := range uint(3) {
		var try bitWriter
		levelsAt(&try, l, k)
		if n := len(try.flush()); fewest < 0 || n < fewest {
			best, fewest = k, n
		}
	}
	w.bits(uint64(best), 2)
	levelsAt(w, l, best)
}

func levelsAt(w *bitWriter, l []uint8, k uint) {
	previous := 0
	for _, v := range l {
		w.signed(int(v)-previous, k)
		previous = int(v)
	}
}

// readLevels returns nil for levels out of range.
func readLevels(r *bitReader, l []uint8, blocks int) []uint8 {
	k := uint(r.bits(2))
	l = grow(l, blocks)[:0]
	if k == noLevels {
		l = l[:blocks]
		clear(l)
		return l
	}
	v := 0
	for range blocks {
		if v += r.signed(k); v < 0 || v >= activities || r.over {
			return nil
		}
		l = append(l, uint8(v))
	}
	return l
}

// writeClasses writes how many neighbouring levels share a class. The last
// class of a group takes the rest.
func (p *params) writeClasses(w *bitWriter) {
	for g := range p.groups.groups() {
		c := p.classes[g*levels : (g+1)*levels]
		for from := 0; from < levels; {
			to := from + 1
			for to < levels && c[to] == c[from] {
				to++
			}
			if to == levels {
				w.number(0, 1)
			} else {
				w.number(uint64(to-from), 1)
			}
			from = to
		}
	}
}

func (p *params) readClasses(r *bitReader) bool {
	n := 0
	for g := range p.groups.groups() {
		c := p.classes[g*levels : (g+1)*levels]
		for len(c) > 0 {
			run := int(r.number(1))
			if run == 0 {
				run = len(c)
			} else if run >= len(c) {
				return false
			}
			if n == maxClasses {
				return false
			}
			for i := range run {
				c[i] = uint8(n)
			}
			c = c[run:]
			n++
		}
	}
	p.nclasses = n
	return true
}
