package delta

import (
	"math/bits"

	"github.com/mithrilfs/mithrilfs/codec"
)

// features is what the bases say about the elements of a frame. Its slices keep
// their memory from frame to frame.
type features[T ordinal] struct {
	base, before []T // ordinals of the first two bases
	earlier      []T // third, or before
	third        []T
	guess        []T                  // ordinals of the predicted elements
	exponent     []uint8              // of the base, less params.firstExponent, clamped
	move         []uint8              // movement from before to base; moveDown is set if it fell
	trend        []uint8              // how it moved from earlier to before, 8 for not at all
	acts         [block]uint32        // of the block at hand
	gains        [2 * exponents]int32 // both of params
	blocks       []uint64
	columns      []uint64
	columnScores []uint8
	cells        []uint8
}

const (
	moveDown = 0x80
	sizeMask = 0x7f

	noTrend = 8

	mostActive = 1<<12 - 1 // a greater step counts as this one in sums
)

func (f *features[T]) resize(n int) {
	f.base, f.before, f.guess = grow(f.base, n), grow(f.before, n), grow(f.guess, n)
	f.exponent, f.move, f.cells = grow(f.exponent, n), grow(f.move, n), grow(f.cells, n)
	f.trend = grow(f.trend, n)
	f.blocks = grow(f.blocks, (n+block-1)/block)
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
		f.gains[e], f.gains[exponents+e] = int32(p.gain[e]), int32(p.gain2[e])
	}
	f.columns = grow(f.columns, p.stride+block)
	clear(f.columns)
	column := 0
	for k := range f.blocks {
		from, to := k*block, min((k+1)*block, len(f.base))
		f.blocks[k] = f.measureBlock(p, l, from, to)
		if p.stride > 0 {
			addActivities(f.columns[column:], f.acts[:to-from])
			column = (column + block) % p.stride
		}
	}
	// What lies beyond the last column belongs to the first ones.
	for j := len(f.columns) - 1; p.stride > 0 && j >= p.stride; j-- {
		f.columns[j-p.stride] += f.columns[j]
	}
	f.columns = f.columns[:p.stride]
}

func addActivities(columns []uint64, acts []uint32) {
	columns = columns[:len(acts)]
	for i, a := range acts {
		columns[i] += uint64(a)
	}
}

// contribution returns what a step of some size counts in the activity of a block
// or column: the step in the value domain.
func contribution(size uint64, exponent int) uint32 {
	return uint32(min(size, mostActive) << (exponent & 31) >> 12)
}

// measureBlock is measure for elements of one block, whose activity it returns.
func (f *features[T]) measureBlock(p *params, l *float, from, to int) (sum uint64) {
	if sum, ok := measureVector(f, p, l, from, to); ok {
		return sum
	}
	return f.measureBlockGo(p, l, from, to)
}

func (f *features[T]) measureBlockGo(p *params, l *float, from, to int) (sum uint64) {
	base, before, guess := f.base[from:to], f.before[from:to], f.guess[from:to]
	before, guess = before[:len(base)], guess[:len(base)]
	exponent, move := f.exponent[from:to][:len(base)], f.move[from:to][:len(base)]
	earlier, trend := f.earlier[from:to][:len(base)], f.trend[from:to][:len(base)]
	acts := &f.acts
	first, coarse := p.firstExponent, l.coarse&63
	for i, o := range base {
		e := min(max(int(magnitude(o)>>(l.mantissa&31))-first, 0), exponents-1)
		step := int64(o) - int64(before[i])
		last := int64(before[i]) - int64(earlier[i])
		sign := step
		if step == 0 {
			sign = last
		}
		sign >>= 63
		size := uint64((step ^ sign) - sign)
		last = (last ^ sign) - sign
		exponent[i] = uint8(e) | uint8(uint64(-size)>>63)<<5
		a := contribution(size>>coarse, e)
		acts[i] = a
		sum += uint64(a)
		move[i] = uint8(movement(size, bits.Len64(size))) | uint8(sign)&moveDown
		trend[i] = uint8(min(max(last, -7), 7) + noTrend)
		if size >= 4 {
			o += T(((int64(size)*int64(p.gain[e&31])+last*int64(p.gain2[e&31])+16)>>5 ^ sign) - sign)
		}
		guess[i] = o
	}
	return sum
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

// setCells sets the cell of each element, or what lut makes of it: its level,
// found by adding scores, in the group of its movement.
func (f *features[T]) setCells(p *params, lut *[maxCells]uint8) {
	f.setColumnScores(p)
	var moved [(sizeMask + 1) * trends]uint16 // score and first cell of the group
	for m := range p.movement {
		for t := range trends {
			moved[m*trends+t] = uint16(p.movement[m]+p.trend[t]) | uint16(p.groups.group(m, t)*levels)<<8
		}
	}
	var scores [2 * exponents]uint8 // of exponents, in the block at hand
	column := 0
	for k := range f.blocks {
		var active int
		if p.bases == 1 {
			active = int(p.explicits[k])
		} else {
			active = int(level(quarter(smoothed(f.blocks, k)), p.firstActivity, activities))
		}
		for e, score := range p.exponent {
			scores[e] = score + p.activity[active+e/exponents*activities]
		}
		from, to := k*block, min((k+1)*block, len(f.base))
		f.setBlockCells(lut, &scores, &moved, from, to, p.floor, column)
		if p.stride > 0 {
			column = (column + block) % p.stride
		}
	}
}

// setBlockCells is setCells for the elements of one block, the first of which is
// in column.
func (f *features[T]) setBlockCells(lut *[maxCells]uint8, scores *[2 * exponents]uint8, moved *[(sizeMask + 1) * trends]uint16, from, to, floor, column int) {
	cells := f.cells[from:to]
	exponent, move, trend := f.exponent[from:to][:len(cells)], f.move[from:to][:len(cells)], f.trend[from:to][:len(cells)]
	columns := f.columnScores[column:][:len(cells)]
	for i := range cells {
		m := moved[int(move[i]&sizeMask)*trends+int(trend[i]&(trends-1))]
		s := int(scores[exponent[i]&63]) + int(columns[i]) + int(m&0xff) - floor
		cells[i] = lut[uint8(min(max(s, 0), levels-1))|uint8(m>>8)]
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

// setBases sets the ordinals of the bases, rounded to type d. Those of missing
// bases are those of the last one.
func (f *features[T]) setBases(bases []Elements, d codec.DType) {
	ordinals(f.base, bases[0].Data, bases[0].Type, d)
	if len(bases) > 1 {
		ordinals(f.before, bases[1].Data, bases[1].Type, d)
	} else {
		copy(f.before, f.base)
	}
	if len(bases) < 3 {
		f.earlier = f.before
		return
	}
	f.third = grow(f.third, len(f.base))
	ordinals(f.third, bases[2].Data, bases[2].Type, d)
	f.earlier = f.third
}
