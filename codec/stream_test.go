package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"testing"
)

func TestStreamRoundTrip(t *testing.T) {
	stock := stockDecoder(t)
	forAll(t, func(t *testing.T, d DType, src []byte) {
		prefix := []byte("prefix")
		out, err := Compress(prefix, src, d)
		if err != nil {
			t.Fatal(err)
		}
		stream, ok := bytes.CutPrefix(out, prefix)
		if !ok {
			t.Fatal("Compress changed dst")
		}
		got, err := Decompress(prefix, stream, d, len(src))
		if err != nil {
			t.Fatalf("%d bytes: %v", len(src), err)
		}
		if got, ok := bytes.CutPrefix(got, prefix); !ok || !bytes.Equal(got, src) {
			t.Fatalf("%d bytes: Decompress gives other bytes", len(src))
		}

		plan := Plan(stream[18])
		want := planned(plan, src[:min(len(src), FrameSize)])
		want = append(want, planned(plan, src[len(want):])...)
		if content, err := stock.DecodeAll(stream, nil); err != nil || !bytes.Equal(content, want) {
			t.Fatalf("%d bytes: stock decoder gives other bytes, error %v", len(src), err)
		}
	})
}

// TestStreamFormat pins the bytes of a stream.
func TestStreamFormat(t *testing.T) {
	for _, c := range []struct {
		d        DType
		src, hex string
	}{
		{Bytes, "", "5d2a4d1820000000" + "6d69746872696c63" + "00000000" + "00000400" + "0000000000000000" + "99e9d85137db46ef"},
		// 1.0, -2.0 and 3.0, the example of the package documentation, in two
		// raw blocks.
		{BF16, "803f00c04040", "5d2a4d1820000000" + "6d69746872696c63" + "00050500" + "00000400" + "0600000000000000" + "????????????????" +
			"28b52ffd2006" + "180000" + "000180" + "190000" + "7f8080"},
	} {
		src, err := hex.DecodeString(c.src)
		if err != nil {
			t.Fatal(err)
		}
		out, err := Compress(nil, src, c.d)
		if err != nil {
			t.Fatal(err)
		}
		got := hex.EncodeToString(out)
		if len(got) == len(c.hex) && c.hex[64] == '?' {
			got = got[:64] + "????????????????" + got[80:]
		}
		if got != c.hex {
			t.Errorf("%v %s:\n got %s\nwant %s", c.d, c.src, got, c.hex)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	src := weights(BF16, 3000)
	good, err := Compress(nil, src, BF16)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		return b
	}
	for _, c := range []struct {
		name   string
		stream []byte
		d      DType
		size   int
		want   error
	}{
		{"wrong dtype", good, F16, 3000, ErrMismatch},
		{"wrong size", good, BF16, 2999, ErrMismatch},
		{"size 0", good, BF16, 0, ErrMismatch},
		{"negative size", good, BF16, -1, ErrLength},
		{"invalid dtype", good, 99, 3000, ErrDType},
		{"next version", change(16, 1), BF16, 3000, ErrVersion},
		{"empty", nil, BF16, 0, ErrCorrupt},
		{"bare frame", good[streamHeader:], BF16, 3000, ErrCorrupt},
		{"trailing byte", append(bytes.Clone(good), 0), BF16, 3000, ErrCorrupt},
		{"twice", append(bytes.Clone(good), good...), BF16, 3000, ErrCorrupt},
		{"other magic", change(8, 'M'), BF16, 3000, ErrCorrupt},
		{"header length", change(4, 33), BF16, 3000, ErrCorrupt},
		{"invalid plan", change(18, 0xfc), BF16, 3000, ErrCorrupt},
		{"wrong plan", change(18, byte(F32.Plan())), BF16, 3000, ErrCorrupt},
		{"reserved byte", change(19, 1), BF16, 3000, ErrCorrupt},
		{"frame length 0", change(20, 0, 0, 0, 0), BF16, 3000, ErrCorrupt},
		{"frame length huge", change(20, 0xff, 0xff, 0xff, 0xff), BF16, 3000, ErrCorrupt},
		{"frame length small", change(20, 0x10, 0, 0, 0), BF16, 3000, ErrCorrupt},
		{"wrong sum", change(32, good[32]^1), BF16, 3000, ErrCorrupt},
		{"huge size", change(24, binary.LittleEndian.AppendUint64(nil, math.MaxInt32)...), BF16, math.MaxInt32, ErrCorrupt},
	} {
		dst := []byte("kept")
		got, err := Decompress(dst, c.stream, c.d, c.size)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v", c.name, err)
		}
		if string(got) != "kept" {
			t.Errorf("%s: dst is changed to %q", c.name, got)
		}
	}

	for n := range good {
		if _, err := Decompress(nil, good[:n], BF16, len(src)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: error is %v", n, err)
		}
		b := bytes.Clone(good)
		b[n] ^= 0x10
		if got, err := Decompress(nil, b, BF16, len(src)); err == nil && !bytes.Equal(got, src) {
			t.Fatalf("byte %d changed: other bytes and no error", n)
		}
	}

	if _, err := Compress(nil, src, 99); !errors.Is(err, ErrDType) {
		t.Errorf("Compress of an invalid dtype: error is %v", err)
	}
}

func TestErrorDetails(t *testing.T) {
	stream, err := Compress(nil, make([]byte, 10), F32)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Decompress(nil, stream, F64, 10)
	var me *MismatchError
	if !errors.As(err, &me) || me.Property != "dtype" || me.Want != "f64" || me.Got != "f32" {
		t.Errorf("dtype: %#v", err)
	}
	_, err = Decompress(nil, stream, F32, 11)
	if !errors.As(err, &me) || me.Property != "size" || me.Want != "11" || me.Got != "10" {
		t.Errorf("size: %#v", err)
	}
	stream[16] = 9
	_, err = Decompress(nil, stream, F32, 10)
	var ve *VersionError
	if !errors.As(err, &ve) || ve.Version != 9 {
		t.Errorf("version: %#v", err)
	}
	for _, err := range []error{me, ve, corrupt(3, "why", nil), corrupt(3, "why", ErrPlan)} {
		if err.Error() == "" {
			t.Errorf("%T says nothing", err)
		}
	}
	if !errors.Is(corrupt(3, "why", ErrPlan), ErrPlan) {
		t.Error("CorruptError hides its cause")
	}
}

func BenchmarkCompress(b *testing.B) {
	src := weights(BF16, 4<<20)
	var out []byte
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = Compress(out[:0], src, BF16); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecompress(b *testing.B) {
	src := weights(BF16, 4<<20)
	stream, err := Compress(nil, src, BF16)
	if err != nil {
		b.Fatal(err)
	}
	var out []byte
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if out, err = Decompress(out[:0], stream, BF16, len(src)); err != nil {
			b.Fatal(err)
		}
	}
}
