package codec

import "encoding/binary"

// Rows that were never touched, padding and masks are runs of one value in every
// plane, on which a Huffman code spends a bit for each byte. A run is a block of
// its own where that surely is shorter.
const (
	// longRun is a run that is worth a second code for what follows it.
	longRun = 4 << 10

	// shortRun is a run that is worth the headers of the blocks around it.
	shortRun = 256

	// runSamples is how many words of a block are looked at before all of it is:
	// with 61, those of 128 KiB are out of step with rows.
	runSamples = 61
)

// mayHaveRuns reports whether a sample of b has words of one value, as it does if
// runs make up a twentieth of b, but for bad luck.
func mayHaveRuns(b []byte) bool {
	step := max(len(b)/runSamples, 8) | 1
	for i := 0; i+8 <= len(b); i += step {
		if binary.LittleEndian.Uint64(b[i:]) == uint64(b[i])*ones8 {
			return true
		}
	}
	return false
}

// findRun returns where the first run of one value of at least n bytes in b
// begins and ends, or zeros.
func findRun(b []byte, n int) (from, to int) {
	for i := n / 2; i+8 <= len(b); i += n / 2 { // each such run has one of these words
		w := binary.LittleEndian.Uint64(b[i:])
		if w != uint64(b[i])*ones8 {
			continue
		}
		for from = i; from >= 8 && binary.LittleEndian.Uint64(b[from-8:]) == w; {
			from -= 8
		}
		for from > 0 && b[from-1] == b[i] {
			from--
		}
		for to = i + 8; to+8 <= len(b) && binary.LittleEndian.Uint64(b[to:]) == w; {
			to += 8
		}
		for to < len(b) && b[to] == b[i] {
			to++
		}
		if to-from >= n {
			return from, to
		}
	}
	return 0, 0
}

// appendRuns appends b, which has two different bytes at least, as RLE blocks for
// its runs and raw blocks for the rest, if that is shorter than Huffman codes. It
// reports false, and appends nothing, if not.
func (e *Encoder) appendRuns(dst, b []byte, last bool) ([]byte, bool) {
	if !mayHaveRuns(b) {
		return dst, false
	}
	size, runs := len(b), 0
	for rest := b; ; runs++ {
		from, to := findRun(rest, shortRun)
		if to == 0 {
			break
		}
		size += blockHeader + 1 + blockHeader - (to - from)
		rest = rest[to:]
	}
	if runs == 0 {
		return dst, false
	}
	countBytes(&e.huffman.count, b)
	if size >= e.huffman.build()/8 {
		return dst, false
	}
	for len(b) > 0 {
		from, to := findRun(b, shortRun)
		if to == 0 {
			return appendRaw(dst, b, last), true
		}
		if from > 0 {
			dst = appendRaw(dst, b[:from], false)
		}
		dst = appendBlockHeader(dst, blockRLE, to-from, last && to == len(b))
		dst = append(dst, b[from])
		b = b[to:]
	}
	return dst, true
}
