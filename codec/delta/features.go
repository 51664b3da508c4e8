package delta

import (
	"math"
	"math/bits"

	"github.com/mithrilfs/mithrilfs/codec"
)

// features is what the bases say about the elements of a frame. Its slices keep
// their memory from frame to frame.
type features[T ordinal] struct {
	bases        [maxBases][]byte // elements of the frame's type; what is missing is as the last one
	cast         [maxBases][]byte // memory for bases of other types
	guess        []T              // ordinals of the predicted elements
	exponent     []uint8          // of the prediction, less params.firstExponent, clamped; exponentMoved is set if it moved
	move         []uint8          // movement from the second base to the first; moveDown is set if it fell
	trend        []uint8          // how it moved before, noTrend for not at all
	gains        [2 * exponents]float32
	blocks       []uint64 // activities
	columns      []uint64 // activities, with a block more
	columnScores []uint8
	cells        []uint8
	scoring      scoring
}

const (
	moveDown = 0x80
	sizeMask = 0x7f

	exponentMoved = exponents

	noTrend = 8

	farStep = 4 // units; by less the prediction does not change

	mostActive = 1 << 24 // a greater step counts as this one in sums
)

func (f *features[T]) resize(n int) {
	f.guess, f.exponent, f.move = grow(f.guess, n), grow(f.exponent, n), grow(f.move, n)
	f.trend, f.cells = grow(f.trend, n), grow(f.cells, n)
	f.blocks = grow(f.blocks, (n+block-1)/block)
}

// setBases sets the bases, rounded to type d.
func (f *features[T]) setBases(bases []Elements, d codec.DType) {
	for i := range f.bases {
		if i >= len(bases) {
			f.bases[i] = f.bases[i-1]
			continue
		}
		f.bases[i] = bases[i].Data
		if bases[i].Type != d {
			f.cast[i] = grow(f.cast[i], len(f.guess)*d.Size())
			castElements(f.cast[i], d, bases[i])
			f.bases[i] = f.cast[i]
		}
	}
}

// grow returns a slice of n elements, of s's memory if that is enough.
func grow[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	return s[:n]
}

// measure sets all but the cells.
func (f *features[T]) measure(p *params, l *float) {
	for e := range exponents {
		f.gains[e], f.gains[exponents+e] = float32(p.gain[e])/gainUnit, float32(p.gain2[e])/gainUnit
	}
	f.columns = grow(f.columns, p.stride+block)
	clear(f.columns)
	column := 0
	for k := range f.blocks {
		f.blocks[k] = f.measureBlock(p, l, k*block, min((k+1)*block, len(f.guess)), column)
		if p.stride > 0 {
			column = (column + block) % p.stride
		}
	}
	// What lies beyond the last column belongs to the first ones.
	for j := len(f.columns) - 1; p.stride > 0 && j >= p.stride; j-- {
		f.columns[j-p.stride] += f.columns[j]
	}
	f.columns = f.columns[:p.stride]
}

// measureBlock is measure for elements of one block, the first of which is in
// column. It returns the block's activity.
func (f *features[T]) measureBlock(p *params, l *float, from, to, column int) (sum uint64) {
	if sum, ok := measureVector(f, p, l, from, to, column); ok {
		return sum
	}
	return f.measureBlockGo(p, l, from, to, column)
}

// activityScale returns what makes activity of a step.
func (l *float) activityScale(first int) float32 {
	return power(127 + int(l.mantissa) - int(l.fraction) - first)
}

// power returns 2^n, which is a normal number.
func power(n int) float32 { return math.Float32frombits(uint32(127+n) << 23) }

// exponentOf returns the exponent of v, counted from first and clamped.
func exponentOf(v float32, first int) int {
	return min(max(int(math.Float32bits(v)>>23&0xff)-first, 0), exponents-1)
}

// units returns by what values are multiplied to be in units of elements of
// exponent e, which a step of their mantissa is.
func (l *float) units(p *params, e int) float32 {
	return power(127 + int(l.mantissa) - p.firstExponent - e)
}

func finite(v float32) bool { return math.Float32bits(v)>>23&0xff != 0xff }

// difference returns a - b, or 0 if that is not finite.
func difference(a, b float32) float32 {
	if d := a - b; finite(d) {
		return d
	}
	return 0
}

func (f *features[T]) measureBlockGo(p *params, l *float, from, to, column int) (sum uint64) {
	var bases [maxBases][block]float32
	w, n := int(l.width/8), to-from
	for i := range bases {
		values(bases[i][:n], f.bases[i][from*w:], l.dtype)
	}
	f.setOrdinals(from, to)
	guess, columns := f.guess[from:to], f.columns[column:column+block]
	exponent, move, trend := f.exponent[from:to][:n], f.move[from:to][:n], f.trend[from:to][:n]
	scale := l.activityScale(p.firstExponent)
	for i := range guess {
		v := bases[0][i]
		step, last := difference(v, bases[1][i]), difference(bases[1][i], bases[2][i])
		if step == 0 && last == 0 {
			exponent[i], move[i], trend[i] = uint8(exponentOf(v, p.firstExponent)), 0, noTrend
			continue
		}
		down := step < 0 || step == 0 && last < 0
		if down {
			step, last = -step, -last
		}
		e := exponentOf(v, p.firstExponent)
		// Conversions keep products from being fused with sums.
		x := float32(step*f.gains[e]) + float32(last*f.gains[exponents+e])
		if down {
			x = -x
		}
		if y := v + x; float32(step*l.units(p, e)) >= farStep && x != 0 && finite(y) {
			v = y
			guess[i] = order(T(fromFloat32(math.Float32bits(v), l.dtype)))
		}
		e = exponentOf(v, p.firstExponent)
		units := l.units(p, e)
		m := uint8(0)
		if step != 0 {
			m = movement(float32(step*units), l.moves)
			e |= exponentMoved
		}
		if down {
			m |= moveDown
		}
		exponent[i], move[i] = uint8(e), m
		trend[i] = uint8(int(min(max(float32(last*units), -noTrend+1), noTrend-1)) + noTrend)
		a := uint64(min(float32(step*scale), mostActive))
		columns[i] += a
		sum += a
	}
	return sum
}

// setOrdinals sets guess to the ordinals of the first base.
func (f *features[T]) setOrdinals(from, to int) {
	w := len(f.bases[0]) / len(f.guess)
	ordinals(f.guess[from:to], f.bases[0][from*w:to*w])
}

// quarter returns the logarithm of v in quarters of an octave, from 1 on; 0 for
// 0.
func quarter(v uint64) int {
	if v == 0 {
		return 0
	}
	n := bits.Len64(v) // 1 to 64
	return 4*n - 3 + int(v<<(64-n)>>61&3)
}

// level returns a quarter, counted from first, as one of n levels.
func level(quarter, first, n int) uint8 { return uint8(min(max(quarter-first, 0), n-1)) }

// smoothed returns the activity of a block with that of its neighbours.
func smoothed(blocks []uint64, k int) uint64 {
	before, after := blocks[k], blocks[k]
	if k > 0 {
		before = blocks[k-1]
	}
	if k < len(blocks)-1 {
		after = blocks[k+1]
	}
	return 4*blocks[k] + before + after
}

// scoring is how cells are found: the level, by adding scores, in the group of the
// movement and trend. Kernels read it as one run of bytes, in this order.
type scoring struct {
	exponent     [2 * exponents]uint8 // scores
	movement     [movements]uint8
	trend        [4 * trends]uint8 // four times the same, likewise below
	movementKind [movements]uint8  // 3 times a number
	trendKind    [4 * trends]uint8
	group        [64]uint8 // first cell of the group, by the sum of both kinds
	result       [maxCells]uint8

	moved [movements * trends]uint16 // score and first cell of the group
}

// activeScores are the scores of a block's activity.
type activeScores struct{ stayed, moved uint8 }

// set makes the tables of p. What is found of a cell is what lut makes of it.
func (s *scoring) set(p *params, lut *[maxCells]uint8) {
	s.exponent, s.movement, s.result = p.exponent, p.movement, *lut
	for m := range movements {
		s.movementKind[m] = uint8(3 * moveKind(m))
	}
	for i := range s.trend {
		t := i % trends
		s.trend[i], s.trendKind[i] = p.trend[t], uint8(min(max(t-noTrend, -1), 1)+1)
	}
	for m := range movements {
		for t := range trends {
			first := p.groups.group(m, t) * levels
			s.moved[m*trends+t] = uint16(p.movement[m]+p.trend[t]) | uint16(first)<<8
			s.group[s.movementKind[m]+s.trendKind[t]] = uint8(first)
		}
	}
}

// setCells sets the cell of each element, or what lut makes of it.
func (f *features[T]) setCells(p *params, lut *[maxCells]uint8) {
	f.setColumnScores(p)
	f.scoring.set(p, lut)
	column := 0
	for k := range f.blocks {
		var active int
		if p.bases == 1 {
			active = int(p.explicits[k])
		} else {
			active = int(level(quarter(smoothed(f.blocks, k)), p.firstActivity, activities))
		}
		from, to := k*block, min((k+1)*block, len(f.guess))
		scores := activeScores{p.activity[active], p.activity[activities+active]}
		f.setBlockCells(from, to, column, scores, p.floor)
		if p.stride > 0 {
			column = (column + block) % p.stride
		}
	}
}

// setBlockCells is setCells for the elements of one block, the first of which is
// in column.
func (f *features[T]) setBlockCells(from, to, column int, active activeScores, floor int) {
	s := &f.scoring
	cells, columns := f.cells[from:to], f.columnScores[column:]
	exponent, move, trend := f.exponent[from:to], f.move[from:to], f.trend[from:to]
	if !s.cellsVector(cells, exponent, move, trend, columns, active, floor) {
		s.setBlockCellsGo(cells, exponent, move, trend, columns, active, floor)
	}
}

func (s *scoring) setBlockCellsGo(cells, exponent, move, trend, columns []uint8, active activeScores, floor int) {
	var scores [2 * exponents]uint8
	for e := range exponents {
		scores[e] = s.exponent[e] + active.stayed
		scores[exponents+e] = s.exponent[exponents+e] + active.moved
	}
	exponent, move, trend, columns = exponent[:len(cells)], move[:len(cells)], trend[:len(cells)], columns[:len(cells)]
	for i := range cells {
		m := s.moved[int(move[i]&(movements-1))*trends+int(trend[i]&(trends-1))]
		score := int(scores[exponent[i]&(2*exponents-1)]) + int(columns[i]) + int(m&0xff) - floor
		cells[i] = s.result[uint8(min(max(score, 0), levels-1))|uint8(m>>8)]
	}
}

// setColumnScores sets columnScores: one for each column, then the first ones
// again, so that a block can begin in any column.
func (f *features[T]) setColumnScores(p *params) {
	f.columnScores = grow(f.columnScores, p.stride+block)
	clear(f.columnScores)
	if p.stride == 0 {
		return
	}
	for j, sum := range f.columns {
		f.columnScores[j] = p.column[level(quarter(sum), p.firstColumn, columns)]
	}
	for j := p.stride; j < len(f.columnScores); j++ {
		f.columnScores[j] = f.columnScores[j-p.stride]
	}
}
