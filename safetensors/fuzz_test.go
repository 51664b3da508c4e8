package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/iotest"
)

const seedDir = "testdata/fuzz/FuzzReadHeader"

func TestFuzzSeedsExist(t *testing.T) {
	seeds, err := os.ReadDir(seedDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(seeds) < 10 {
		t.Errorf("%d seeds in %s", len(seeds), filepath.FromSlash(seedDir))
	}
}

func FuzzReadHeader(f *testing.F) {
	for _, content := range readFixtures(f) {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		size := int64(len(content))
		h, err := ReadHeader(bytes.NewReader(content), size)
		checkError(t, err)
		if err == nil {
			checkCover(t, h, size)
			checkJSON(t, h, content)
		}

		streamed, streamErr := ReadHeaderFrom(iotest.HalfReader(bytes.NewReader(content)), size)
		if !reflect.DeepEqual(h, streamed) || !sameError(err, streamErr) {
			t.Fatalf("file: %v, %v; stream: %v, %v", h, err, streamed, streamErr)
		}

		open, err := ReadHeader(bytes.NewReader(content), UnknownSize)
		checkError(t, err)
		if h != nil && !reflect.DeepEqual(h, open) {
			t.Fatalf("with size: %v; without: %v, %v", h, open, err)
		}
		if open != nil {
			checkCover(t, open, open.DataEnd())
		}
	})
}

// checkError checks that an error is one of those promised.
func checkError(t *testing.T, err error) {
	t.Helper()
	var broken *HeaderError
	if err != nil && errors.Is(err, ErrShort) == errors.As(err, &broken) {
		t.Fatalf("not exactly one of ErrShort and *HeaderError: %v", err)
	}
}

// checkCover checks that the tensors cover a file of size bytes behind its
// header.
func checkCover(t *testing.T, h *Header, size int64) {
	t.Helper()
	names := make(map[string]bool)
	end := uint64(h.DataStart)
	for _, tensor := range h.Tensors {
		if names[tensor.Name] {
			t.Fatalf("%q twice", tensor.Name)
		}
		names[tensor.Name] = true
		if tensor.Begin != end || tensor.End < tensor.Begin {
			t.Fatalf("%+v does not begin at %d", tensor, end)
		}
		end = tensor.End
		checkLength(t, tensor)
	}
	if end != uint64(size) || h.DataEnd() != size {
		t.Fatalf("ends at %d, DataEnd %d, size %d", end, h.DataEnd(), size)
	}
}

// checkLength counts a tensor's elements by division, which cannot overflow.
func checkLength(t *testing.T, tensor Tensor) {
	t.Helper()
	width, known := tensor.DType.Bits()
	if !known {
		return
	}
	left := (tensor.End - tensor.Begin) * 8
	empty := false
	for _, dim := range tensor.Shape {
		empty = empty || dim == 0
	}
	for i := 0; !empty && i < len(tensor.Shape); i++ {
		if left%tensor.Shape[i] != 0 {
			t.Fatalf("%+v: bytes do not divide by shape", tensor)
		}
		left /= tensor.Shape[i]
	}
	if empty && left != 0 || !empty && left != uint64(width) {
		t.Fatalf("%+v: %d bits an element", tensor, left)
	}
}

// checkJSON compares with what the standard library reads.
func checkJSON(t *testing.T, h *Header, content []byte) {
	t.Helper()
	entries := make(map[string]json.RawMessage)
	if err := json.Unmarshal(content[8:h.DataStart], &entries); err != nil {
		t.Fatalf("accepted what is not JSON: %v", err)
	}
	if meta, ok := entries[metadataKey]; ok {
		delete(entries, metadataKey)
		var want map[string]string
		if err := json.Unmarshal(meta, &want); err != nil || !reflect.DeepEqual(h.Metadata, want) {
			t.Fatalf("metadata %q, want %q, %v", h.Metadata, want, err)
		}
	}
	if len(entries) != len(h.Tensors) {
		t.Fatalf("%d tensors, want %d", len(h.Tensors), len(entries))
	}
	for _, tensor := range h.Tensors {
		checkEntry(t, h, tensor, entries[tensor.Name])
	}
}

func checkEntry(t *testing.T, h *Header, tensor Tensor, raw json.RawMessage) {
	t.Helper()
	// A map, because a struct would match names in any case.
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatalf("%q: %v", tensor.Name, err)
	}
	var dtype string
	var shape []uint64
	var offsets [2]uint64
	err := errors.Join(json.Unmarshal(fields["dtype"], &dtype),
		json.Unmarshal(fields["shape"], &shape),
		json.Unmarshal(fields["data_offsets"], &offsets))
	start := uint64(h.DataStart)
	want := Tensor{tensor.Name, DType(dtype), shape, start + offsets[0], start + offsets[1]}
	if err != nil || !reflect.DeepEqual(tensor, want) {
		t.Fatalf("got %+v, want %+v, %v", tensor, want, err)
	}
}
