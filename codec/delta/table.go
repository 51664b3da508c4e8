package delta

// A table holds the frequencies of a class's symbols, in units of 1/freqSum.
// All but that of one symbol, the main one, are of the few values that
// [frequency] gives; the main one has the rest.
type table struct {
	freq [maxSyms]uint16
	step [maxSyms]uint8 // of frequency; the main symbol's is rounded down
	syms int            // after the last that occurs
	main int
}

const maxStep = 44 // frequency(maxStep) is freqSum

// frequency returns the frequencies that tables can hold: 0 to 8, 10, 12, 14,
// 16, 20, …
func frequency(step int) int {
	if step < 4 {
		return step
	}
	return (4 + step&3) << (step>>2 - 1)
}

// stepOf returns the greatest step whose frequency is at most f.
func stepOf(f int) int {
	if f < 4 {
		return f
	}
	n := 0
	for f>>n >= 8 {
		n++
	}
	return 4*n + f>>n
}

// Tables are written as differences, either from the table before or from
// symbols before in the same one.
func (t *table) write(w *bitWriter, previous *table) {
	w.number(uint64(t.syms-1), 2)
	w.number(uint64(t.main), 0)
	best, from, fewest := uint(0), 0, -1
	for f := range 2 {
		if f == 1 && previous == nil {
			break
		}
		for k := range uint(4) {
			var try bitWriter
			t.steps(&try, previous, f, k)
			if n := len(try.out)*8 + int(try.n); fewest < 0 || n < fewest {
				best, from, fewest = k, f, n
			}
		}
	}
	w.bits(uint64(from), 1)
	w.bits(uint64(best), 2)
	t.steps(w, previous, from, best)
}

func (t *table) steps(w *bitWriter, previous *table, from int, k uint) {
	for s := range t.syms {
		if s != t.main {
			w.signed(int(t.step[s])-t.expect(s, previous, from), k)
		}
	}
}

// expect returns what the step of a symbol is thought to be.
func (t *table) expect(s int, previous *table, from int) int {
	switch {
	case from == 1 && previous != nil:
		return int(previous.step[s])
	case s >= 2:
		return int(t.step[s-2])
	case s == 1:
		return int(t.step[0])
	}
	return maxStep
}

func (t *table) read(r *bitReader, previous *table, syms int) bool {
	*t = table{syms: int(r.number(2)) + 1, main: int(r.number(0))}
	if t.syms > syms || t.main >= t.syms {
		return false
	}
	from := int(r.bits(1))
	k := uint(r.bits(2))
	rest := freqSum
	for s := range t.syms {
		if s == t.main {
			// Symbols after it take it for what is left now.
			t.step[s] = uint8(stepOf(max(rest, 0)))
			continue
		}
		v := t.expect(s, previous, from) + r.signed(k)
		if v < 0 || v > maxStep {
			return false
		}
		t.step[s] = uint8(v)
		t.freq[s] = uint16(frequency(v))
		rest -= frequency(v)
	}
	if rest <= 0 {
		return false
	}
	t.freq[t.main] = uint16(rest)
	return true
}

// set chooses frequencies for symbols that occur count times; some symbol does.
func (t *table) set(count []uint32) {
	*t = table{}
	var total uint64
	for s, c := range count {
		total += uint64(c)
		if c > 0 {
			t.syms = s + 1
		}
		if c > count[t.main] {
			t.main = s
		}
	}
	if total == 0 {
		t.syms, t.freq[0] = 1, freqSum
		t.step[0] = maxStep
		return
	}
	rest := freqSum
	for s := range t.syms {
		if s == t.main {
			continue
		}
		f := 0
		if count[s] > 0 {
			f = nearest(uint64(count[s]), total)
		}
		t.freq[s] = uint16(f)
		rest -= f
	}
	for rest <= 0 {
		rest += t.shrink()
	}
	t.freq[t.main] = uint16(rest)
	rest = freqSum
	for s := range t.syms {
		if s == t.main {
			t.step[s] = uint8(stepOf(max(rest, 0)))
			continue
		}
		t.step[s] = uint8(stepOf(int(t.freq[s])))
		rest -= int(t.freq[s])
	}
}

// nearest returns the frequency, at least 1, next to that of count in total.
func nearest(count, total uint64) int {
	scaled := count * (freqSum * 16) / total
	step := stepOf(int(scaled / 16))
	low := frequency(step)
	if high := frequency(min(step+1, maxStep)); uint64(low+high)*8 <= scaled {
		low = high
	}
	return max(low, 1)
}

// shrink takes a step from the greatest frequency but the main one, and returns
// what that frees.
func (t *table) shrink() int {
	at := 0
	if t.main == 0 {
		at = 1
	}
	for s := range t.syms {
		if s != t.main && t.freq[s] > t.freq[at] {
			at = s
		}
	}
	was := int(t.freq[at])
	t.freq[at] = uint16(frequency(stepOf(was) - 1))
	return was - int(t.freq[at])
}
