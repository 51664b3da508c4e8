package safetensors

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

const fixtureDir = "../testdata/safetensors"

// fixture is what a file of fixtureDir must give.
type fixture struct {
	names   string // of the tensors, in order, joined by spaces
	rule    Rule   // that is broken, or
	short   bool   // the header is not all there
	tensor  string // that the error names
	stream  bool   // valid if the size is not known
	differs bool   // the reference 0.8.0 decides otherwise, see doc.go
}

var fixtures = map[string]fixture{
	// Odd but valid.
	"plain":                    {names: "a b"},
	"unpadded":                 {names: "w"},
	"white_space":              {names: "w"},
	"no_tensors":               {},
	"metadata":                 {},
	"metadata_null":            {names: "w"},
	"metadata_escaped_key":     {},
	"empty_tensor":             {names: "z y w last"},
	"rank0":                    {names: "w"},
	"reverse_order":            {names: "a b c"},
	"unknown_dtype":            {names: "w", differs: true},
	"unknown_dtype_huge_shape": {names: "w", differs: true},
	"f4_even":                  {names: "w"},
	"f6_four":                  {names: "w"},
	"shape_zero_first":         {names: "w"},
	"unknown_field":            {names: "w"},
	"unknown_field_twice":      {names: "w"},
	"nesting_limit":            {names: "w"},
	"strange_names":            {names: " a\x00b ../\n"},

	// Not all there.
	"empty_file":  {short: true},
	"seven_bytes": {short: true},
	"length_only": {short: true},
	"huge_claim":  {short: true},
	"cut_header":  {short: true},

	// Broken length and JSON.
	"over_limit":             {rule: RuleHeaderSize},
	"max_claim":              {rule: RuleHeaderSize},
	"empty_header":           {rule: RuleStart},
	"leading_space":          {rule: RuleStart, differs: true},
	"bom":                    {rule: RuleStart},
	"not_json":               {rule: RuleJSON},
	"top_array":              {rule: RuleStart},
	"unclosed":               {rule: RuleJSON},
	"trailing_comma":         {rule: RuleJSON},
	"two_objects":            {rule: RuleJSON},
	"nul_padding":            {rule: RuleJSON},
	"control_character":      {rule: RuleJSON},
	"bad_escape":             {rule: RuleJSON},
	"bad_utf8":               {rule: RuleUTF8},
	"overlong_utf8":          {rule: RuleUTF8},
	"lone_surrogate":         {rule: RuleUTF8},
	"lone_surrogate_skipped": {rule: RuleUTF8, tensor: "w"},
	"leading_zero":           {rule: RuleJSON, tensor: "w"},
	"nan":                    {rule: RuleJSON, tensor: "w"},
	"deep_nesting":           {rule: RuleDepth, tensor: "w"},
	"deep_nesting_open":      {rule: RuleDepth, tensor: "w"},

	// Broken content.
	"metadata_number":        {rule: RuleMetadata},
	"metadata_nested":        {rule: RuleMetadata},
	"metadata_list":          {rule: RuleMetadata},
	"duplicate_metadata":     {rule: RuleDuplicate},
	"duplicate_metadata_key": {rule: RuleDuplicate, differs: true},
	"duplicate_key":          {rule: RuleDuplicate, tensor: "w", differs: true},
	"duplicate_key_escaped":  {rule: RuleDuplicate, tensor: "w", differs: true},
	"duplicate_dtype":        {rule: RuleDuplicate, tensor: "w"},
	"duplicate_shape":        {rule: RuleDuplicate, tensor: "w"},
	"duplicate_data_offsets": {rule: RuleDuplicate, tensor: "w"},
	"missing_dtype":          {rule: RuleEntry, tensor: "w"},
	"missing_shape":          {rule: RuleEntry, tensor: "w"},
	"missing_data_offsets":   {rule: RuleEntry, tensor: "w"},
	"entry_list":             {rule: RuleEntry, tensor: "w", differs: true},
	"entry_null":             {rule: RuleEntry, tensor: "w"},
	"dtype_object":           {rule: RuleEntry, tensor: "w", differs: true},
	"shape_number":           {rule: RuleEntry, tensor: "w"},
	"shape_negative":         {rule: RuleEntry, tensor: "w"},
	"shape_float":            {rule: RuleEntry, tensor: "w"},
	"shape_exponent":         {rule: RuleEntry, tensor: "w"},
	"shape_string":           {rule: RuleEntry, tensor: "w"},
	"shape_2_64":             {rule: RuleOverflow, tensor: "w"},
	"offsets_one":            {rule: RuleEntry, tensor: "w"},
	"offsets_three":          {rule: RuleEntry, tensor: "w"},

	// Broken layout.
	"offsets_reversed":         {rule: RuleOffsets, tensor: "w"},
	"shape_overflow":           {rule: RuleOverflow, tensor: "w"},
	"shape_overflow_then_zero": {rule: RuleOverflow, tensor: "w"},
	"bits_overflow":            {rule: RuleOverflow, tensor: "w"},
	"offset_overflow":          {rule: RuleOverflow, tensor: "w"},
	"f4_odd":                   {rule: RuleBits, tensor: "w"},
	"extent_short":             {rule: RuleExtent, tensor: "w"},
	"extent_long":              {rule: RuleExtent, tensor: "w"},
	"overlap":                  {rule: RuleOverlap, tensor: "b"},
	"same_bytes":               {rule: RuleOverlap, tensor: "b"},
	"empty_inside":             {rule: RuleOverlap, tensor: "b"},
	"hole":                     {rule: RuleHole, tensor: "b"},
	"hole_at_start":            {rule: RuleHole, tensor: "w"},
	"past_end":                 {rule: RulePastEnd, tensor: "w", names: "w", stream: true},
	"trailing_bytes":           {rule: RuleTrailing, names: "w", stream: true},
	"no_tensors_trailing":      {rule: RuleTrailing, stream: true},
}

// readFixtures returns the files of fixtureDir by name. It fails unless they
// are exactly those of the table and described in the README.
func readFixtures(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fixtureDir, "*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 || len(paths) != len(fixtures) {
		t.Fatalf("%d files in %s, %d in the table", len(paths), fixtureDir, len(fixtures))
	}
	readme, err := os.ReadFile(filepath.Join(fixtureDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(path)
		name := strings.TrimSuffix(base, ".safetensors")
		if _, listed := fixtures[name]; !listed {
			t.Errorf("%s is not in the table", base)
		}
		if !bytes.Contains(readme, []byte("- `"+base+"`: ")) {
			t.Errorf("%s is not in the README", base)
		}
		files[name] = content
	}
	return files
}

func TestFixtures(t *testing.T) {
	for name, content := range readFixtures(t) {
		want := fixtures[name]
		t.Run(name, func(t *testing.T) {
			h, err := ReadHeader(bytes.NewReader(content), int64(len(content)))
			checkFixture(t, want, h, err)

			h, err = ReadHeader(bytes.NewReader(content), UnknownSize)
			if want.stream {
				want.rule, want.tensor = "", ""
			}
			checkFixture(t, want, h, err)
		})
	}
}

// checkFixture compares the result of reading a fixture with what it must be.
func checkFixture(t *testing.T, want fixture, h *Header, err error) {
	t.Helper()
	switch {
	case want.short:
		checkShort(t, h, err)
	case want.rule != "":
		checkRule(t, h, err, want.rule, want.tensor)
	case err != nil:
		t.Errorf("refused: %v", err)
	default:
		names := make([]string, len(h.Tensors))
		for i, tensor := range h.Tensors {
			names[i] = tensor.Name
		}
		if got := strings.Join(names, " "); got != want.names {
			t.Errorf("tensors %q, want %q", got, want.names)
		}
	}
}

// checkShort checks that a result is ErrShort and nothing else.
func checkShort(t *testing.T, h *Header, err error) {
	t.Helper()
	var broken *HeaderError
	if h != nil || !errors.Is(err, ErrShort) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) {
		t.Errorf("got %v, %v, want ErrShort", h, err)
	}
}

// checkRule checks that a result is a *HeaderError for rule and tensor.
func checkRule(t *testing.T, h *Header, err error, rule Rule, tensor string) {
	t.Helper()
	var broken *HeaderError
	if h != nil || !errors.As(err, &broken) {
		t.Fatalf("got %v, %v, want a *HeaderError for rule %q", h, err, rule)
	}
	if broken.Rule != rule || broken.Tensor != tensor {
		t.Errorf("got rule %q, tensor %q, want %q, %q: %v", broken.Rule, broken.Tensor, rule, tensor, err)
	}
	if !errors.Is(err, rule) || errors.Is(err, ErrShort) || broken.Detail == "" {
		t.Errorf("error is not the rule %q alone, or has no detail: %v", rule, err)
	}
	if !strings.Contains(err.Error(), string(rule)) || !strings.Contains(err.Error(), tensor) {
		t.Errorf("message %q names not both %q and %q", err, rule, tensor)
	}
}

// TestReadersAgree reads every fixture through readers that hand it over in
// unusual ways.
func TestReadersAgree(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
		"data+err": iotest.DataErrReader,
	}
	for name, content := range readFixtures(t) {
		for _, size := range []int64{int64(len(content)), UnknownSize} {
			want, wantErr := ReadHeader(bytes.NewReader(content), size)
			for how, wrap := range readers {
				got, err := ReadHeaderFrom(wrap(bytes.NewReader(content)), size)
				if !reflect.DeepEqual(got, want) || !sameError(err, wantErr) {
					t.Errorf("%s, %s, size %d: got %v, %v, want %v, %v", name, how, size, got, err, want, wantErr)
				}
			}
		}
	}
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Error() == b.Error() && errors.Is(a, ErrShort) == errors.Is(b, ErrShort)
}

// TestCutAnywhere cuts every valid fixture after each byte of its header.
func TestCutAnywhere(t *testing.T) {
	for name, content := range readFixtures(t) {
		h, err := ReadHeader(bytes.NewReader(content), UnknownSize)
		if err != nil {
			continue
		}
		for n := range h.DataStart {
			for _, size := range []int64{n, UnknownSize} {
				got, err := ReadHeader(bytes.NewReader(content[:n]), size)
				if got != nil || !errors.Is(err, ErrShort) {
					t.Fatalf("%s cut at %d, size %d: got %v, %v, want ErrShort", name, n, size, got, err)
				}
			}
		}
	}
}
