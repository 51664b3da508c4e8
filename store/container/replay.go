package container

import (
	"encoding/binary"
	"io"

	"github.com/cespare/xxhash/v2"
)

// replay walks the log from record to record. It never searches for a magic
// number: raw planes may contain a whole container. Frames past the last
// intact index go through check, since nothing says that their bytes were ever
// written; the log ends at the first record or frame that is bad, and tail says
// why. err is an error of r.
func replay(r io.ReaderAt, size int64, first Generation, check func(*Log, *Frame) error) (l *Log, tail, err error) {
	trusted, err := lastIndex(r, size, first)
	if err != nil {
		return nil, nil, err
	}
	w := newWalker(r, size, first)
	for w.next() {
		// A delta frame is only in files that were sealed before they got their
		// name, and needs its bases: it is checked when it is read.
		if w.frame != nil && w.frame.Coding == CodingFull && w.at >= trusted {
			if err := check(&w.log, w.frame); err != nil {
				w.tail = err
				break
			}
		}
		w.apply()
	}
	return &w.log, w.tail, w.err
}

// lastIndex returns where the last intact index begins, 0 without one.
func lastIndex(r io.ReaderAt, size int64, first Generation) (int64, error) {
	var at int64
	w := newWalker(r, size, first)
	for w.next() {
		if w.index {
			at = w.at
		}
		w.apply()
	}
	return at, w.err
}

// walker steps through a container's zstd frames.
type walker struct {
	r    io.ReaderAt
	size int64
	log  Log   // the records before at
	tail error // why the walk ended before size
	err  error // an error of r

	// The piece that next found, not yet in log:
	at      int64 // where it begins
	stored  int64 // its length, the zstd frame after a frame record included
	frame   *Frame
	content int64       // of the zstd frame after a frame record
	depends *Dependence // of a record of bases
	resize  int64       // new logical size, or -1
	begin   *Generation
	index   bool
	counted bool // it takes a number of its generation
}

func newWalker(r io.ReaderAt, size int64, first Generation) *walker {
	w := &walker{r: r, size: size}
	w.log.begin(first)
	w.log.addSpan(HeaderSize, 0)
	return w
}

// next reads the piece at the log's end. It returns false at the end of the
// log.
func (w *walker) next() bool {
	w.at, w.frame, w.begin, w.depends = w.log.end, nil, nil, nil
	w.resize, w.index, w.counted = -1, false, false
	left := w.size - w.at
	if left == 0 {
		return false
	}
	b := make([]byte, min(left, frameRecordSize))
	if w.err = readFull(w.r, b, w.at); w.err != nil {
		return false
	}
	if len(b) < recordAtNumber {
		return w.stop("the file ends inside it")
	}
	w.stored = skippableHeaderSize + int64(binary.LittleEndian.Uint32(b[4:]))
	if w.stored > left {
		return w.stop("the file ends inside it")
	}
	switch magic := binary.LittleEndian.Uint32(b); {
	case magic == seekMagic:
		return true
	case magic != recordMagic:
		return w.stop("no record begins here")
	}
	switch string(b[recordAtTag:recordAtNumber]) {
	case tagFrame:
		return w.nextFrame(b, left)
	case tagSize:
		return w.nextSize(b)
	case tagGeneration:
		return w.nextGeneration(b)
	case tagBases:
		return w.nextBases()
	case tagIndex:
		return w.nextIndex()
	}
	return w.stop("its kind is unknown")
}

// apply adds the piece that next found to the log.
func (w *walker) apply() {
	content := int64(0)
	switch {
	case w.frame != nil:
		w.log.addFrame(*w.frame)
		w.log.addSpan(frameRecordSize, 0)
		w.stored -= frameRecordSize
		content = w.content
	case w.depends != nil:
		w.log.Dependence = *w.depends
	case w.resize >= 0:
		w.log.resize(w.resize)
	}
	if w.counted {
		w.log.next++
	}
	if w.begin != nil {
		w.log.begin(*w.begin)
	}
	w.log.addSpan(w.stored, content)
}

func (w *walker) stop(reason string) bool {
	w.tail = damaged(PartRecord, w.at, reason)
	return false
}

// fixed checks length and checksum of a record of n bytes.
func (w *walker) fixed(b []byte, n int64) bool {
	if w.stored != n || int64(len(b)) < n {
		return w.stop("its length is impossible")
	}
	if !recordSumOK(b[:n]) {
		return w.stop("its checksum does not match")
	}
	return true
}

func (w *walker) numbered(g Generation, number uint32) bool {
	if err := w.log.checkNumber(g, number); err != nil {
		return w.stop(err.Error())
	}
	w.counted = true
	return true
}

func (w *walker) nextFrame(b []byte, left int64) bool {
	if !w.fixed(b, frameRecordSize) {
		return false
	}
	f, g, ok := parseFrameRecord(b)
	if !ok || !w.log.Dependence.serves(&f) {
		return w.stop("its fields are impossible")
	}
	if !w.numbered(g, f.Number) {
		return false
	}
	w.stored += int64(f.Stored)
	if w.stored > left {
		return w.stop("the file ends inside its frame")
	}
	w.content = int64(f.Length)
	if f.Coding == CodingDelta {
		if w.content, w.err = contentSize(w.r, w.at+frameRecordSize, int64(f.Stored)); w.err != nil {
			return false
		}
		if w.content < 0 {
			return w.stop("its frame has no content size")
		}
	}
	f.Position, f.Generation = w.at, uint16(len(w.log.Generations)-1)
	w.frame = &f
	return true
}

func (w *walker) nextSize(b []byte) bool {
	if !w.fixed(b, sizeRecordSize) {
		return false
	}
	size, number, g, ok := parseSizeRecord(b[:sizeRecordSize])
	if !ok {
		return w.stop("its fields are impossible")
	}
	w.resize = size
	return w.numbered(g, number)
}

func (w *walker) nextGeneration(b []byte) bool {
	if !w.fixed(b, generationRecordSize) {
		return false
	}
	g, previous := parseGenerationRecord(b)
	if previous != w.log.Generation() {
		return w.stop("it continues another generation")
	}
	if len(w.log.Generations) == maxGenerations {
		return w.stop("there are too many generations")
	}
	w.begin = &g
	return true
}

// nextBases reads the record that says what the file depends on.
func (w *walker) nextBases() bool {
	if w.at != HeaderSize {
		return w.stop("it is not the first one")
	}
	b := make([]byte, w.stored)
	if w.err = readFull(w.r, b, w.at); w.err != nil {
		return false
	}
	if len(b) < basesFixedSize+8 {
		return w.stop("its length is impossible")
	}
	if !recordSumOK(b) {
		return w.stop("its checksum does not match")
	}
	d, number, g, ok := parseBasesRecord(b)
	if !ok {
		return w.stop("its fields are impossible")
	}
	w.depends = &d
	return w.numbered(g, number)
}

// nextIndex checks an index that something was appended after. Its content is
// the records before it, so its checksums are all that matters.
func (w *walker) nextIndex() bool {
	var b [trailerSize]byte
	if w.stored < indexFixedSize+trailerSize {
		return w.stop("its length is impossible")
	}
	end := w.at + w.stored - trailerSize
	if w.err = readFull(w.r, b[:], end); w.err != nil {
		return false
	}
	t, ok, err := parseTrailer(b[:])
	if !ok || err != nil || t.index != w.at {
		return w.stop("its trailer is damaged")
	}
	sum := xxhash.New()
	if _, w.err = io.Copy(sum, io.NewSectionReader(w.r, w.at, end-w.at)); w.err != nil {
		return false
	}
	if sum.Sum64() != t.sum {
		return w.stop("its checksum does not match")
	}
	w.index = true
	return true
}
