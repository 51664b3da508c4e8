package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// made is a tensor of one dimension for torchZip and torchPickle.
type made struct {
	name, class string
	elements    int
	data        []byte
}

// pickleWriter writes a pickle as C Python's pickler does, putting everything
// into the memo.
type pickleWriter struct {
	b    []byte
	memo uint32
	seen map[string]uint32
}

func (w *pickleWriter) put() {
	if w.memo < 256 {
		w.b = append(w.b, 'q', byte(w.memo))
	} else {
		w.b = binary.LittleEndian.AppendUint32(append(w.b, 'r'), w.memo)
	}
	w.memo++
}

// once writes what has a name, or a reference if it was written before.
func (w *pickleWriter) once(name string, write func()) {
	at, ok := w.seen[name]
	switch {
	case !ok:
		write()
		w.seen[name] = w.memo
		w.put()
	case at < 256:
		w.b = append(w.b, 'h', byte(at))
	default:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, 'j'), at)
	}
}

func (w *pickleWriter) global(module, name string) {
	w.once(module+"\n"+name, func() { w.b = fmt.Appendf(w.b, "c%s\n%s\n", module, name) })
}

func (w *pickleWriter) text(s string) {
	w.b = append(binary.LittleEndian.AppendUint32(append(w.b, 'X'), uint32(len(s))), s...)
}

func (w *pickleWriter) int(n int) {
	w.b = binary.LittleEndian.AppendUint32(append(w.b, 'J'), uint32(n))
}

func (w *pickleWriter) tensor(t *made, key int) {
	w.global("torch._utils", "_rebuild_tensor_v2")
	w.b = append(w.b, "(("...)
	w.once("storage", func() { w.text("storage") })
	w.global("torch", t.class)
	w.text(strconv.Itoa(key))
	w.put()
	w.once("cpu", func() { w.text("cpu") })
	w.int(t.elements)
	w.b = append(w.b, 't')
	w.put()
	w.b = append(w.b, "QK\x00"...)
	w.int(t.elements)
	w.b = append(w.b, 0x85)
	w.put()
	w.b = append(w.b, "K\x01\x85"...)
	w.put()
	w.b = append(w.b, 0x89)
	w.global("collections", "OrderedDict")
	w.b = append(w.b, ")R"...)
	w.put()
	w.b = append(w.b, 't')
	w.put()
	w.b = append(w.b, 'R')
	w.put()
}

// torchPickle is the pickle of a dict of tensors, in batches of 1000.
func torchPickle(tensors []made) []byte {
	w := &pickleWriter{b: []byte("\x80\x02}"), seen: map[string]uint32{}}
	w.put()
	for i := range tensors {
		if i%1000 == 0 {
			w.b = append(w.b, '(')
		}
		w.text(tensors[i].name)
		w.put()
		w.tensor(&tensors[i], i)
		if i%1000 == 999 || i == len(tensors)-1 {
			w.b = append(w.b, 'u')
		}
	}
	return append(w.b, '.')
}

// torchZip is what torch.save writes for a dict of tensors.
func torchZip(tensors []made) []byte {
	var b, directory []byte
	record := func(name string, data []byte) {
		begin := len(b)
		const empty = 4
		pad := -(begin + zipLocalSize + len(name) + empty) & 63
		h := make([]byte, zipLocalSize)
		copy(h, zipLocal+"\x00\x00\x08\x08")
		binary.LittleEndian.PutUint16(h[26:], uint16(len(name)))
		binary.LittleEndian.PutUint16(h[28:], uint16(pad+empty))
		b = append(append(b, h...), name...)
		b = binary.LittleEndian.AppendUint16(append(b, "FB"...), uint16(pad))
		for range pad {
			b = append(b, 'Z')
		}
		b = append(b, data...)
		var d []byte
		d = binary.LittleEndian.AppendUint32(d, crc32.ChecksumIEEE(data))
		d = binary.LittleEndian.AppendUint32(d, uint32(len(data)))
		d = binary.LittleEndian.AppendUint32(d, uint32(len(data)))
		b = append(append(b, zipDescriptor...), d...)
		c := make([]byte, zipCentralSize)
		copy(c, zipCentral)
		copy(c[16:], d)
		binary.LittleEndian.PutUint16(c[28:], uint16(len(name)))
		binary.LittleEndian.PutUint32(c[42:], uint32(begin))
		directory = append(append(directory, c...), name...)
	}
	record("made/data.pkl", torchPickle(tensors))
	record("made/.format_version", []byte("1"))
	record("made/byteorder", []byte("little"))
	for i := range tensors {
		record("made/data/"+strconv.Itoa(i), tensors[i].data)
	}
	record("made/version", []byte("3\n"))
	end := make([]byte, zipEndSize)
	copy(end, zipEnd)
	binary.LittleEndian.PutUint32(end[12:], uint32(len(directory)))
	binary.LittleEndian.PutUint32(end[16:], uint32(len(b)))
	return append(append(b, directory...), end...)
}
