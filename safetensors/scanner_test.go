package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestSkippedValues puts values into a field that nobody knows and compares
// the verdict with the standard library's.
func TestSkippedValues(t *testing.T) {
	for _, value := range []string{
		"0", "-0", "1", "-1", "10", "1.5", "0.0", "1e5", "1E+5", "1e-5", "-0.0e00", "1e999",
		strings.Repeat("9", 500),
		"", "-", "+1", "01", "-01", "00", "1.", ".5", "1.e5", "1e", "1e+", "1e5.5", "0x1", "1_0", "NaN", "-Infinity",
		"true", "false", "null", "tru", "truE", "falsy", "nul", "nulll", "True",
		`""`, `"a"`, `"\""`, `"\\"`, `"\u00e9"`, `"\uD83D\uDE00"`, `"é😀"`, "\"\x7f\"",
		`"`, `"\"`, `"\u00g0"`, `"\u00"`, `"\u00G"`, `"\a"`, "\"\t\"", "\"\x00\"", "'a'",
		"[]", "[ ]", "[1]", "[1,2]", "[[],[[]]]", "[,]", "[1,]", "[1 2]", "[", "[1", "]", "[1}",
		"{}", "{ }", `{"a":1}`, `{"a" : {"b":[]} , "c":2}`, "{a:1}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" 1}`, "{1:1}", "{",
	} {
		header := `{"w":{"x":` + value + `,"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`
		_, err := ReadHeader(bytes.NewReader(file(header, 0)), UnknownSize)
		if valid := json.Valid([]byte(value)); valid != (err == nil) {
			t.Errorf("%.40q: valid %v, got %v", value, valid, err)
		}
		if err != nil && !errors.Is(err, RuleJSON) {
			t.Errorf("%.40q: got %v, want rule %q", value, err, RuleJSON)
		}
	}
}

// TestInvalidText covers what the standard library would replace in silence.
func TestInvalidText(t *testing.T) {
	for _, text := range []string{
		"\xff", "\x80", "é\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x98",
		`\ud800`, `\ud800x`, `\ud800\n`, `\ud800\u0041`, `\ud800\ud800`, `\udc00`, `\udc00\ud800`,
	} {
		for _, header := range []string{
			`{"` + text + `":{}}`,
			`{"__metadata__":{"` + text + `":""}}`,
			`{"__metadata__":{"k":"` + text + `"}}`,
			`{"w":{"` + text + `":0}}`,
			`{"w":{"x":"` + text + `"}}`,
			`{"w":{"dtype":"` + text + `"}}`,
		} {
			_, err := ReadHeader(bytes.NewReader(file(header, 0)), UnknownSize)
			if !errors.Is(err, RuleUTF8) {
				t.Errorf("%q: got %v, want rule %q", header, err, RuleUTF8)
			}
		}
	}
}

// TestReplacementCharacter checks that U+FFFD itself is no error.
func TestReplacementCharacter(t *testing.T) {
	h, err := ReadHeader(bytes.NewReader(file(`{"__metadata__":{"k":"�\ufffd"}}`, 0)), UnknownSize)
	if err != nil || h.Metadata["k"] != "\ufffd\ufffd" {
		t.Errorf("got %v, %v", h, err)
	}
}

// TestBufferBoundaries moves every kind of token across the edge of the
// scanner's buffer.
func TestBufferBoundaries(t *testing.T) {
	const entry = `"é😀\ud83d\ude00":{"dtype":"U8","x":[-1.5e+3,true],"shape":[0],"data_offsets":[0,0]}`
	for pad := bufferSize - len(entry) - 24; pad < bufferSize; pad++ {
		for _, header := range []string{
			`{"` + strings.Repeat("n", pad) + `":{"dtype":"","shape":[],"data_offsets":[0,0]},` + entry + "}",
			`{"__metadata__":{"k":"` + strings.Repeat("v", pad) + `"},` + entry + "}",
		} {
			h, err := ReadHeader(bytes.NewReader(file(header, 0)), UnknownSize)
			if err != nil || h.Tensors[len(h.Tensors)-1].Name != "é😀😀" {
				t.Fatalf("pad %d: got %v, %v", pad, h, err)
			}
		}
	}
}
