package delta

// counts holds how often each symbol occurs in each cell.
type counts [maxCells][maxSyms]uint32

func (c *counts) set(syms, cells []uint8) {
	*c = counts{}
	cells = cells[:len(syms)]
	for i, s := range syms {
		c[cells[i]][s&(maxSyms-1)]++
	}
}

// A span is a run of levels that share a class.
type span struct {
	from, to int // cells
	cost     int64
	gain     int64 // of joining it with the next
}

// Estimates of what a class takes in the header, in units of 2^-16 bits.
const (
	classCost  = 14 << 16
	symbolCost = 5 << 16
)

// merge adds up the groups of each side of a step.
func (c *counts) merge(from *counts, g grouping, syms int) {
	*c = counts{}
	for k := range g.groups() * levels {
		to := &c[g.coarse(k/levels)*levels+k%levels]
		for s, n := range from[k][:syms] {
			to[s] += n
		}
	}
}

// choose finds the classes of the cells, each of neighbouring levels of a group,
// that make the frame smallest, and sets their tables. It returns what symbols
// and tables take, in units of 2^-16 bits.
func (c *counts) choose(p *params, syms int) (symbols, tables int64) {
	t := logTable()
	perGroup := maxClasses / p.groups.groups()
	p.nclasses = 0
	var spans [levels]span
	for g := range p.groups.groups() {
		list := spans[:0]
		for k := g * levels; k < (g+1)*levels; k++ {
			s := span{from: k, to: k + 1}
			s.cost = costOf(t, &c[k], nil, syms)
			if n := len(list); n > 0 && (s.cost == 0 || list[n-1].cost == 0) {
				// An empty cell costs nothing with its neighbour.
				list[n-1].to, list[n-1].cost = s.to, max(s.cost, list[n-1].cost)
				c.join(list[n-1].from, k, syms)
				continue
			}
			list = append(list, s)
		}
		for i := range len(list) - 1 {
			list[i].gain = c.gain(t, list[i], list[i+1], syms)
		}
		for len(list) > 1 {
			best := 0
			for i := range len(list) - 1 {
				if list[i].gain > list[best].gain {
					best = i
				}
			}
			if list[best].gain <= 0 && len(list) <= perGroup {
				break
			}
			c.join(list[best].from, list[best+1].from, syms)
			list[best].cost += list[best+1].cost - list[best].gain
			list[best].to = list[best+1].to
			list = append(list[:best+1], list[best+2:]...)
			if best > 0 {
				list[best-1].gain = c.gain(t, list[best-1], list[best], syms)
			}
			if best < len(list)-1 {
				list[best].gain = c.gain(t, list[best], list[best+1], syms)
			}
		}
		for _, s := range list {
			for k := s.from; k < s.to; k++ {
				p.classes[k] = uint8(p.nclasses)
			}
			p.tables[p.nclasses].set(c[s.from][:syms])
			p.nclasses++
			t := int64(classCost)
			for _, n := range c[s.from][:syms] {
				if n > 0 {
					t += symbolCost
				}
			}
			symbols += max(s.cost-t, 0)
			tables += t
		}
	}
	return symbols, tables
}

// join adds the counts of a cell to those of another.
func (c *counts) join(into, from, syms int) {
	a, b := &c[into], &c[from]
	for s := range syms {
		a[s] += b[s]
	}
}

// gain returns the bits that are saved if two spans share a class.
func (c *counts) gain(t *[1<<logBits + 1]int64, a, b span, syms int) int64 {
	return a.cost + b.cost - costOf(t, &c[a.from], &c[b.from], syms)
}

// costOf returns the cost of the counts in a and b together, in units of 2^-16
// bits; 0 if there are none.
func costOf(t *[1<<logBits + 1]int64, a, b *[maxSyms]uint32, syms int) int64 {
	var total uint32
	cost := int64(classCost)
	for s := range syms {
		v := a[s]
		if b != nil {
			v += b[s]
		}
		if v > 0 {
			total += v
			cost += symbolCost - information(t, v)
		}
	}
	if total == 0 {
		return 0
	}
	return cost + information(t, total)
}
