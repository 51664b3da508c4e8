package layout

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// modelTensors are shaped like MiniLM: 100 tensors, 90 MB in fp32.
func modelTensors() []made {
	list := []made{{"embeddings.word_embeddings.weight", "FloatStorage", 30522 * 384, nil}}
	for layer := range 6 {
		for _, x := range []struct {
			name string
			n    int
		}{
			{"query.weight", 384 * 384}, {"query.bias", 384}, {"key.weight", 384 * 384}, {"key.bias", 384}, {"value.weight", 384 * 384},
			{"value.bias", 384}, {"dense.weight", 384 * 384}, {"dense.bias", 384}, {"norm.weight", 384}, {"norm.bias", 384},
			{"up.weight", 384 * 1536}, {"up.bias", 1536}, {"down.weight", 384 * 1536}, {"down.bias", 384}, {"norm2.weight", 384}, {"norm2.bias", 384},
		} {
			list = append(list, made{fmt.Sprintf("encoder.layer.%d.%s", layer, x.name), "FloatStorage", x.n, nil})
		}
	}
	for i := range list {
		list[i].data = make([]byte, 4*list[i].elements)
	}
	return list
}

// safetensorsOf are the same tensors as save_file writes them.
func safetensorsOf(tensors []made) []byte {
	var entries []string
	var data []byte
	for i := range tensors {
		x := &tensors[i]
		entries = append(entries, fmt.Sprintf("%q:{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", x.name, x.elements, len(data), len(data)+len(x.data)))
		data = append(data, x.data...)
	}
	return append(header("{"+strings.Join(entries, ",")+"}"), data...)
}

// legacyOf are the same tensors in the legacy format.
func legacyOf(tensors []made) []byte {
	b := []byte(legacyMagic + "\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.")
	b = append(b, torchPickle(tensors)...)
	keys := &pickleWriter{b: []byte("\x80\x02](")}
	for i := range tensors {
		keys.text(fmt.Sprint(i))
	}
	b = append(append(b, keys.b...), "e."...)
	for i := range tensors {
		b = binary.LittleEndian.AppendUint64(b, uint64(tensors[i].elements))
		b = append(b, tensors[i].data...)
	}
	return b
}

// BenchmarkLayout is what recognising a file costs while it arrives, as MB of
// file a second. The codec encodes some 5000.
func BenchmarkLayout(b *testing.B) {
	tensors := modelTensors()
	var many []byte
	for i := range tensors {
		many = append(many, torchZip(tensors[i:i+1])...)
	}
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"safetensors", safetensorsOf(tensors)}, {"torch", torchZip(tensors)}, {"torch-legacy", legacyOf(tensors)}, {"distcp", many},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				if l, _ := arrive(b, c.data, 1<<20); l == nil || l.Problem() != nil || len(l.Tensors()) != len(tensors) {
					b.Fatal(l)
				}
			}
		})
	}
}
