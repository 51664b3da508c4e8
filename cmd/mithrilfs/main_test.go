package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outcome of one run of the program.
type outcome struct {
	code           int
	stdout, stderr string
}

func invoke(t testing.TB, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, strings.NewReader(""), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// succeed is invoke for what must not fail, and returns standard output.
func succeed(t testing.TB, args ...string) string {
	t.Helper()
	o := invoke(t, args...)
	if o.code != exitOK || o.stderr != "" {
		t.Fatalf("mithrilfs %s: code %d, standard error:\n%s", strings.Join(args, " "), o.code, o.stderr)
	}
	return o.stdout
}

// decode is succeed for commands that print JSON.
func decode[T any](t testing.TB, args ...string) T {
	t.Helper()
	return parse[T](t, succeed(t, args...))
}

func parse[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

const (
	weightRows = 700
	weightCols = 384
	weightSize = weightRows * weightCols * 2
	biasSize   = weightCols * 2
)

// model is a safetensors file of two bf16 tensors with real weights.
func model(t testing.TB) []byte {
	t.Helper()
	weights := read(t, "../../testdata/checkpoints/small_model.bin")
	header := fmt.Sprintf(`{"bias":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]},`+
		`"layer.weight":{"dtype":"BF16","shape":[%d,%d],"data_offsets":[%d,%d]}}`,
		weightCols, biasSize, weightRows, weightCols, biasSize, biasSize+weightSize)
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(file, header...)
	return append(file, weights[:biasSize+weightSize]...)
}

const notes = "learning rate 2e-5\n"

// fixture makes a fresh directory the current one, with the directory plain and
// its packed copy, packed, and returns the model's bytes.
func fixture(t testing.TB) []byte {
	t.Helper()
	data := model(t)
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("plain/run 1", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "plain/model.safetensors", data)
	write(t, "plain/run 1/notes.txt", []byte(notes))
	succeed(t, "pack", "plain", "packed")
	return data
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sizeOf(t testing.TB, name string) int64 {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

const packedModel = "packed/model.safetensors"

var packedNotes = filepath.Join("packed", "run 1", "notes.txt")
