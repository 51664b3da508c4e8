package delta

import (
	"math"
	"slices"
)

// A sample is some of the elements of a frame, whole blocks, from which the
// encoder finds the parameters. What it does here does not concern the decoder.
type sample[T ordinal] struct {
	at       []int // first element of each block
	rows     []observation
	expected []float64 // sizes, by the curves so far
	columns  []uint8   // levels
	mean     float64   // of the sizes
}

// An observation is an element of the sample: where it stands on each curve, and
// the size of its residual.
type observation struct {
	on   [curves]uint8
	size float64
}

// The curves, in the order of observation.on.
const (
	byExponent = iota
	byActivity
	byMovement
	byColumn
	byTrend
	curves
)

var curveSizes = [curves]int{2 * exponents, 2 * activities, movements, columns, trends}

const sampleSize = 32 << 10 // elements

// choose picks the blocks of a sample of n elements, at even distances.
func (s *sample[T]) choose(n int) {
	s.at = s.at[:0]
	every := max(1, n/sampleSize)
	for from := every / 2 * block; from < n; from += every * block {
		s.at = append(s.at, from)
	}
	if len(s.at) == 0 && n > 0 {
		s.at = append(s.at, 0)
	}
}

// firstExponent returns the lowest exponent of the range that holds the highest
// ones but for a few in a thousand.
func (s *sample[T]) firstExponent(f *features[T], l *float) int {
	var count [256]int
	total := 0
	var base [block]float32
	for _, from := range s.at {
		n := min(block, len(f.guess)-from)
		values(base[:n], f.bases[0][from*int(l.width/8):], l.dtype)
		for _, v := range base[:n] {
			count[math.Float32bits(v)>>23&0xff]++
		}
		total += n
	}
	top := len(count) - 1
	for above := 0; top > 0; top-- {
		if above += count[top]; above > total/1000 {
			break
		}
	}
	return min(max(top-exponents+1, l.lowest), maxFirst)
}

// moments are sums over elements of one exponent: of the products of the last step
// x, the one before y, and the next r.
type moments struct{ xx, xy, yy, xr, yr float64 }

// gains sets how far steps continue, for each exponent.
func (s *sample[T]) gains(p *params, f *features[T], src []byte, l *float) {
	var sums [exponents]moments
	var v [maxBases + 1][block]float32
	w := int(l.width / 8)
	for _, from := range s.at {
		n := min(block, len(f.guess)-from)
		for i, b := range [...][]byte{src, f.bases[0], f.bases[1], f.bases[2]} {
			values(v[i][:n], b[from*w:], l.dtype)
		}
		for i := range n {
			e := exponentOf(v[1][i], p.firstExponent)
			units := l.units(p, e)
			next, step, last := difference(v[0][i], v[1][i])*units, difference(v[1][i], v[2][i])*units, difference(v[2][i], v[3][i])*units
			sums[e].add(step, last, next)
		}
	}
	last, last2 := 0, 0
	for e := range p.gain {
		q := &sums[e]
		if q.xx > 0 {
			a, b := q.solve()
			last, last2 = gain(a), gain(b)
		}
		p.gain[e], p.gain2[e] = int8(last), int8(last2)
		if p.bases < 3 {
			p.gain2[e] = 0
		}
	}
}

// add counts an element, unless it is far from the others.
func (q *moments) add(step, last, next float32) {
	if step < 0 {
		step, last, next = -step, -last, -next
	}
	most := 4*step + 16
	if step == 0 && last == 0 || max(next, -next) > most || max(last, -last) > most {
		return
	}
	x, y, r, w := float64(step), float64(last), float64(next), 1/(1+float64(step))
	q.xx += float64(w * x * x)
	q.xy += float64(w * x * y)
	q.yy += float64(w * y * y)
	q.xr += float64(w * x * r)
	q.yr += float64(w * y * r)
}

// solve returns the factors a and b for which a·x + b·y is nearest to r.
func (q *moments) solve() (a, b float64) {
	xx, yy := float64(q.xx*1.02)+16, float64(q.yy*1.02)+16
	det := float64(xx*yy) - float64(q.xy*q.xy)
	a = (float64(q.xr*yy) - float64(q.yr*q.xy)) / det
	b = (float64(q.yr*xx) - float64(q.xr*q.xy)) / det
	return a, b
}

// gain rounds a factor to 1/32, within what a gain can be.
func gain(v float64) int { return int(math.Round(min(max(v*32, -96), 96))) }

// observe sets the observations, and the origins of activities and columns.
func (s *sample[T]) observe(p *params, f *features[T], want []T) {
	p.firstActivity = s.origin(p, f)
	s.rows = s.rows[:0]
	s.columns = grow(s.columns, p.stride)
	for j := range s.columns {
		s.columns[j] = level(quarter(f.columns[j]), p.firstColumn, columns)
	}
	for _, from := range s.at {
		var on [curves]uint8
		var active uint8
		if p.bases == 1 {
			active = p.explicits[from/block]
		} else {
			active = level(quarter(smoothed(f.blocks, from/block)), p.firstActivity, activities)
		}
		column := from % max(p.stride, 1)
		for i := from; i < min(from+block, len(want)); i++ {
			on[byExponent] = f.exponent[i]
			on[byActivity] = active + f.exponent[i]/exponents*activities
			on[byMovement] = f.move[i] & sizeMask
			on[byTrend] = f.trend[i]
			if p.stride > 0 {
				on[byColumn] = s.columns[column]
				if column++; column == p.stride {
					column = 0
				}
			}
			r := int64(want[i]) - int64(f.guess[i])
			s.rows = append(s.rows, observation{on, float64(max(r, -r))})
		}
	}
	s.clip()
}

// origin returns the level of activity that becomes 0, and sets that of columns.
func (s *sample[T]) origin(p *params, f *features[T]) int {
	if p.stride > 0 {
		p.firstColumn = max(middle(f.columns)-columns/2, 0)
	}
	if p.bases == 1 {
		return p.firstActivity
	}
	var level [256]int
	for _, from := range s.at {
		level[quarter(smoothed(f.blocks, from/block))]++
	}
	return max(median(&level, len(s.at))-activities/2, 0)
}

// middle returns the median of the quarters of sums.
func middle(sums []uint64) int {
	var count [256]int
	for _, v := range sums {
		count[quarter(v)]++
	}
	return median(&count, len(sums))
}

func median(count *[256]int, total int) int {
	below := 0
	for v, n := range count {
		if below += n; 2*below >= total {
			return v
		}
	}
	return 0
}

// clip finds the mean of the sizes, without the great ones.
func (s *sample[T]) clip() {
	sum, limit := 0.0, 8.0
	for range 16 {
		sum = 0
		for i := range s.rows {
			sum += min(s.rows[i].size, limit)
		}
		if sum < limit/4*float64(len(s.rows)) {
			break
		}
		limit *= 4
	}
	s.mean = max(sum/float64(max(len(s.rows), 1)), 1e-6)
}

// curvesOf finds, for each curve, the factors of which the sizes are about the
// product, by proportional fitting. Sizes count less the greater they should be,
// and those much greater than they should be count as if they were not.
func (s *sample[T]) curvesOf(used [curves]bool) (factor [curves][movements]float64) {
	for c := range factor {
		for i := range factor[c] {
			factor[c][i] = 1
		}
	}
	s.expected = grow(s.expected, len(s.rows))
	for i := range s.expected {
		s.expected[i] = s.mean
	}
	const prior = 0.75
	// Rounds get better by what is before them: a part of the sample will do at first.
	for _, every := range [...]int{4, 4, 1, 1} {
		for c := range curves {
			if !used[c] {
				continue
			}
			seen, expected := s.sums(c, every)
			var change [movements]float64
			for i := range curveSizes[c] {
				change[i] = 1
				if expected[i] > 0 {
					change[i] = (seen[i] + prior) / (expected[i] + prior)
				}
				factor[c][i] *= change[i]
			}
			for i := range s.rows {
				s.expected[i] *= change[s.rows[i].on[c]&(movements-1)]
			}
		}
	}
	return factor
}

// sums returns the sums of the sizes, and of what they should be, at each place of
// a curve, of one row in so many.
func (s *sample[T]) sums(c, every int) (seen, expected [movements]float64) {
	all := s.expected[:len(s.rows)]
	for i := 0; i < len(s.rows); i += every {
		row := &s.rows[i]
		e, at := all[i], row.on[c]&(movements-1)
		weight := 1 / (1 + e)
		seen[at] += float64(min(row.size, 8*(1+e)) * weight)
		expected[at] += float64(e * weight)
	}
	return seen, expected
}

// fit sets the scores of p: the factors' logarithms.
func (s *sample[T]) fit(p *params) {
	used := [curves]bool{true, true, p.bases > 1, p.stride > 0, p.bases > 2}
	factor := s.curvesOf(used)
	var seen [curves][movements]bool
	for i := range s.rows {
		for c, v := range s.rows[i].on {
			seen[c][v] = true
		}
	}
	for unit := 1; ; unit++ {
		for c, scores := range [curves][]uint8{p.exponent[:], p.activity[:], p.movement[:], p.column[:], p.trend[:]} {
			if used[c] {
				setScores(scores, factor[c][:], seen[c][:], unit)
			}
		}
		if s.setFloor(p) || unit == 2 {
			return
		}
	}
}

// setScores sets scores to logarithms of factors, in unit quarters of an octave.
// The scores of what is not in the sample are those of what is before it,
// or at first after it.
func setScores(scores []uint8, factor []float64, seen []bool, unit int) {
	lowest := 1 << 10
	var log [movements]int
	for i := range scores {
		log[i] = quarter(uint64(factor[i]*(1<<32)*1.0905)) / unit // by half a quarter more: it is rounded
		if seen[i] {
			lowest = min(lowest, log[i])
		}
	}
	first := max(slices.Index(seen[:len(scores)], true), 0)
	last := max(min(log[first]-lowest, maxScore), 0)
	for i := range scores {
		if seen[i] {
			last = min(log[i]-lowest, maxScore)
		}
		scores[i] = uint8(last)
	}
}

// setFloor sets the score of level 0, and reports whether the levels reach from
// nearly the lowest to nearly the highest score of the sample. What moved and what
// did not are in groups of their own, so it shifts the scores of either: they need
// not fit the levels together.
func (s *sample[T]) setFloor(p *params) bool {
	var count [2][curves*maxScore + 1]int
	for i := range s.rows {
		on := &s.rows[i].on
		count[on[0]/exponents][int(p.exponent[on[0]])+int(p.activity[on[1]])+int(p.movement[on[2]])+int(p.column[on[3]])+int(p.trend[on[4]])]++
	}
	var floor [2]int
	fits := true
	for half := range count {
		low, high := bulk(count[half][:])
		floor[half] = max(low-1, high-levels+1, 0)
		fits = fits && high-low < levels+levels/4
	}
	p.floor = min(max(floor[0], floor[1]), maxFloor)
	for e := range p.exponent {
		p.exponent[e] = uint8(min(int(p.exponent[e])+p.floor-floor[e/exponents], maxScore))
	}
	return fits
}

// bulk returns the values between which nearly all are that were counted.
func bulk(count []int) (low, high int) {
	total := 0
	for _, n := range count {
		total += n
	}
	if total == 0 {
		return 0, 0
	}
	few := total / 128
	high = len(count) - 1
	for n := count[low]; n <= few; n += count[low] {
		low++
	}
	for n := count[high]; n <= few/4; n += count[high] {
		high--
	}
	return low, max(low, high)
}
