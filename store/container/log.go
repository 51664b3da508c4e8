package container

import "fmt"

// Tensor is one entry of the tensor table: a named piece of the logical file.
type Tensor struct {
	Name  string
	DType string   // as the file's own format spells it, "BF16"
	Shape []uint64 // empty for a scalar
	Begin int64    // first logical byte
	End   int64    // just past the last
}

// Log is what a container's records add up to: its whole state.
type Log struct {
	Generations []Generation // in the order in which they began; the last is the current one
	Extents     Extents
	Size        int64 // logical size
	Format      string
	Tensors     []Tensor
	Dependence  Dependence // zero for a container that stands alone

	next uint32 // number of the next record of the current generation
	end  int64  // byte offset in the container where the next record goes
	// zstd frames of the file so far, our records among them, as the seek table
	// lists them. Only a log that is written to needs them.
	spans []span
}

// span is a zstd frame's stored length and the length of its content.
type span struct{ stored, content uint32 }

// End is the byte offset in the container just past the last good record, or
// past the seek table of a sealed one.
func (l *Log) End() int64 { return l.end }

// Generation is the current generation.
func (l *Log) Generation() Generation { return l.Generations[len(l.Generations)-1] }

// generation returns the generation of a frame.
func (l *Log) generation(f *Frame) Generation { return l.Generations[f.Generation] }

// begin starts a generation. The first is the header's.
func (l *Log) begin(g Generation) {
	l.Generations = append(l.Generations, g)
	l.next = 0
}

// addFrame applies a frame record.
func (l *Log) addFrame(f Frame) {
	l.Extents.Insert(f)
	l.Size = max(l.Size, f.End())
}

// resize applies a size record.
func (l *Log) resize(size int64) {
	if size < l.Size {
		l.Extents.Clip(size)
	}
	l.Size = size
}

func (l *Log) addSpan(stored, content int64) {
	l.spans = append(l.spans, span{uint32(stored), uint32(content)})
	l.end += stored
}

// maxGenerations is bounded by Frame.Generation.
const maxGenerations = 1 << 16

func (l *Log) checkNumber(g Generation, number uint32) error {
	if g != l.Generation() {
		return fmt.Errorf("it belongs to generation %s, not to %s", g, l.Generation())
	}
	if number != l.next {
		return fmt.Errorf("it is record %d where %d was due", number, l.next)
	}
	return nil
}

// storedBytes returns how many bytes of the container the live frames take,
// their records included: what is left is dead, or index and tables.
func (l *Log) storedBytes() int64 {
	var n int64
	last := int64(-1)
	for i := range l.Extents {
		if f := &l.Extents[i].Frame; f.Position != last {
			n += frameRecordSize + int64(f.Stored)
			last = f.Position
		}
	}
	return n
}
