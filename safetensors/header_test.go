package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// file returns a file of a header and size zero bytes of data.
func file(header string, size int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, size)...)
}

func TestReadHeader(t *testing.T) {
	const header = `{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},` +
		`"__metadata__":{"format":"pt","":"é"},` +
		`"a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"},` +
		`"c":{"dtype":"F3","shape":[7],"data_offsets":[16,17]}} `
	start := uint64(8 + len(header))
	want := &Header{
		DataStart: int64(start),
		Tensors: []Tensor{
			{Name: "a", DType: F32, Shape: []uint64{}, Begin: start, End: start + 4},
			{Name: "b", DType: BF16, Shape: []uint64{2, 3}, Begin: start + 4, End: start + 16},
			{Name: "c", DType: "F3", Shape: []uint64{7}, Begin: start + 16, End: start + 17},
		},
		Metadata: map[string]string{"format": "pt", "": "é"},
	}
	content := file(header, 17)
	got, err := ReadHeader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.DataEnd() != int64(len(content)) {
		t.Errorf("DataEnd %d, want %d", got.DataEnd(), len(content))
	}
}

func TestDataEndWithoutTensors(t *testing.T) {
	h, err := ReadHeader(bytes.NewReader(file("{}", 0)), 10)
	if err != nil || h.DataEnd() != 10 || h.Metadata != nil {
		t.Errorf("got %+v, %v", h, err)
	}
}

func TestMetadataText(t *testing.T) {
	h, err := ReadHeader(bytes.NewReader(readFixtures(t)["metadata"]), UnknownSize)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"format": "pt", "q\"\\/\b\f\n\r\t": "é😀é😀"}
	if !reflect.DeepEqual(h.Metadata, want) {
		t.Errorf("got %q, want %q", h.Metadata, want)
	}
}

// TestLengthLimits covers offsets and sizes at the edges of 64 bits, where the
// size of the file is not known.
func TestLengthLimits(t *testing.T) {
	const header = `{"w":{"dtype":"Q","shape":[],"data_offsets":[0,9223372036854775%s]}} `
	n := len(header) - 2 + 3 // "%s" becomes three digits
	room := int64(math.MaxInt64) - int64(8+n)
	fits := strings.Replace(header, "%s", lastDigits(room), 1)
	h, err := ReadHeader(bytes.NewReader(file(fits, 0)), UnknownSize)
	if err != nil || h.DataEnd() != math.MaxInt64 {
		t.Fatalf("got %v, %v, want the end at 2^63-1", h, err)
	}
	beyond := strings.Replace(header, "%s", lastDigits(room+1), 1)
	h, err = ReadHeader(bytes.NewReader(file(beyond, 0)), UnknownSize)
	checkRule(t, h, err, RuleOverflow, "w")
}

func lastDigits(n int64) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

// TestStopsAtData checks that a stream is consumed to the data and no further.
func TestStopsAtData(t *testing.T) {
	content := file(`{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}   `, 0)
	content = append(content, 1, 2, 3)
	r := bytes.NewReader(content)
	if _, err := ReadHeaderFrom(r, UnknownSize); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(rest, []byte{1, 2, 3}) {
		t.Errorf("left %v, %v, want 1 2 3", rest, err)
	}
}

func TestReadErrors(t *testing.T) {
	content := file(`{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}} `, 0)
	cause := errors.New("disk on fire")
	for n := range len(content) {
		r := io.MultiReader(bytes.NewReader(content[:n]), iotest.ErrReader(cause))
		h, err := ReadHeaderFrom(r, UnknownSize)
		if h != nil || !errors.Is(err, cause) || errors.Is(err, ErrShort) {
			t.Fatalf("error after %d bytes: got %v, %v", n, h, err)
		}
	}
	r := io.MultiReader(bytes.NewReader(content), iotest.ErrReader(cause))
	if _, err := ReadHeaderFrom(r, UnknownSize); err != nil {
		t.Errorf("error after the header: %v", err)
	}
}

func TestHeaderLength(t *testing.T) {
	for _, test := range []struct {
		claim uint64
		ok    bool
	}{
		{0, true}, {1, true}, {MaxHeaderSize, true},
		{MaxHeaderSize + 1, false}, {1 << 63, false}, {math.MaxUint64, false},
	} {
		prefix := binary.LittleEndian.AppendUint64(nil, test.claim)
		n, err := HeaderLength(append(prefix, "more"...))
		if test.ok && (err != nil || uint64(n) != test.claim) {
			t.Errorf("%d: got %d, %v", test.claim, n, err)
		}
		if !test.ok {
			checkRule(t, nil, err, RuleHeaderSize, "")
		}
		_, err = HeaderLength(prefix[:7])
		checkShort(t, nil, err)
	}
}

func TestRecognize(t *testing.T) {
	prefix := func(n uint64, rest string) []byte {
		return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
	}
	for _, test := range []struct {
		name   string
		prefix []byte
		start  int64
		ok     bool
	}{
		{"smallest", prefix(2, "{"), 10, true},
		{"largest", prefix(MaxHeaderSize, `{"a`), 8 + MaxHeaderSize, true},
		{"nothing", nil, 0, false},
		{"eight bytes", prefix(2, ""), 0, false},
		{"too small", prefix(1, "{"), 0, false},
		{"too large", prefix(MaxHeaderSize+1, "{"), 0, false},
		{"space", prefix(3, " {}"), 0, false},
		{"zip", []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00"), 0, false},
		{"text", []byte("{{{{{{{{{{{"), 0, false},
	} {
		if start, ok := Recognize(test.prefix); start != test.start || ok != test.ok {
			t.Errorf("%s: got %d, %v, want %d, %v", test.name, start, ok, test.start, test.ok)
		}
	}
}

// TestRecognizesFixtures checks that Recognize turns away no valid file.
func TestRecognizesFixtures(t *testing.T) {
	for name, content := range readFixtures(t) {
		h, err := ReadHeader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			continue
		}
		if start, ok := Recognize(content[:9]); !ok || start != h.DataStart {
			t.Errorf("%s: got %d, %v, want %d", name, start, ok, h.DataStart)
		}
	}
}

func TestDTypeBits(t *testing.T) {
	all := map[int][]DType{
		4:  {F4},
		6:  {F6E2M3, F6E3M2},
		8:  {Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ},
		16: {I16, U16, F16, BF16},
		32: {I32, U32, F32},
		64: {C64, F64, I64, U64},
	}
	count := 0
	for want, dtypes := range all {
		for _, d := range dtypes {
			count++
			if bits, known := d.Bits(); bits != want || !known {
				t.Errorf("%s: got %d, %v, want %d", d, bits, known, want)
			}
			if same, known := knownDType([]byte(d)); same != d || !known {
				t.Errorf("%s: read as %q, %v", d, same, known)
			}
		}
	}
	if count != 22 {
		t.Errorf("%d dtypes, the reference 0.8.0 has 22", count)
	}
	for _, d := range []DType{"", "bf16", "BF16 ", "F128"} {
		if bits, known := d.Bits(); bits != 0 || known {
			t.Errorf("%q: got %d, %v", d, bits, known)
		}
	}
}

// TestMessages checks that hostile names stay harmless in messages.
func TestMessages(t *testing.T) {
	err := &HeaderError{Tensor: strings.Repeat("\x1b[31m\n", 10_000), Rule: RuleHole, Detail: "there"}
	if got := err.Error(); len(got) > 1000 || strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("message of %d bytes: %.100q", len(got), got)
	}
}
