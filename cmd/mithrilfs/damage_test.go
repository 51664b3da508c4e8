package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// Places in a container, as docs/format.md has them.
const (
	headerSize    = 256
	versionAt     = 16
	headerSumAt   = 248
	frameRecord   = 72
	trailerMagic  = "mithrilT"
	trailerGenAt  = 16
	indexCountsAt = 16
)

// packed is a packed model to damage.
type packed struct {
	bytes []byte
	xray
}

func (p *packed) last() (position, end int64) {
	f := p.Frames[len(p.Frames)-1]
	return f.Position, f.Position + frameRecord + f.Stored
}

// badInput is a way to damage a container and what a user sees of it.
type badInput struct {
	name   string
	damage func(p *packed) []byte
	// problem is what is wrong, after the path; verify prints it as it is.
	problem string
	hint    string // of cat
	tensor  string // that verify names
	state   string
	lost    int64 // how many bytes cat can't give, of all; -1: it gives none
}

const damagedHint = "hint: mithrilfs verify names everything that is damaged in it; restore the file from a copy\n"

func badInputs(p *packed) []badInput {
	at, end := p.last()
	size := int64(len(p.bytes))
	last := p.Frames[len(p.Frames)-1]
	flip := func(at int64) func(*packed) []byte {
		return func(p *packed) []byte { p.bytes[at] ^= 0x10; return p.bytes }
	}
	cut := func(at int64) func(*packed) []byte {
		return func(p *packed) []byte { return p.bytes[:at] }
	}
	once := fmt.Sprintf("damaged at its end: the log ends at byte %d of %d: damaged container: ", end, size)
	return []badInput{
		{name: "header", damage: flip(100), lost: -1, state: "damaged", hint: damagedHint,
			problem: "damaged container: header at byte 0: its checksum does not match"},
		{name: "cut header", damage: cut(headerSize - 1), lost: -1, state: "damaged", hint: damagedHint,
			problem: "damaged container: header at byte 0: the file ends inside it"},
		{name: "version", damage: nextVersion, lost: -1, state: "damaged",
			problem: "container format version 7 is not known to this mithrilfs, which reads version 1: use a newer mithrilfs"},
		{name: "index", damage: flip(end + indexCountsAt), state: "unsealed",
			problem: once + fmt.Sprintf("index at byte %d: its checksum does not match", end)},
		{name: "trailer", damage: flipTrailer, state: "unsealed",
			problem: once + fmt.Sprintf("record at byte %d: its trailer is damaged", end)},
		{name: "truncated", damage: cut(end - 1), state: "unsealed", lost: last.Logical,
			problem: fmt.Sprintf("never sealed: the log ends at byte %d of %d: damaged container: record at byte %d: the file ends inside its frame", at, end-1, at)},
		{name: "frame", damage: flip(at + frameRecord + 100), state: "sealed", lost: last.Logical, hint: damagedHint, tensor: last.Tensor,
			problem: fmt.Sprintf("damaged container: frame %d (logical bytes %d to %d) at byte %d: its checksum does not match",
				last.Number, last.Offset, last.Offset+last.Logical, at)},
	}
}

func nextVersion(p *packed) []byte {
	binary.LittleEndian.PutUint16(p.bytes[versionAt:], 7)
	binary.LittleEndian.PutUint64(p.bytes[headerSumAt:], xxhash.Sum64(p.bytes[:headerSumAt]))
	return p.bytes
}

func flipTrailer(p *packed) []byte {
	i := bytes.LastIndex(p.bytes, []byte(trailerMagic))
	p.bytes[i+trailerGenAt] ^= 1
	return p.bytes
}

// eachBadInput runs a test on bad, a damaged container, in a fresh directory.
func eachBadInput(t *testing.T, test func(t *testing.T, logical []byte, b badInput)) {
	logical := fixture(t)
	p := packed{xray: decode[[]xray](t, "stat", "--json", packedModel)[0]}
	p.bytes = read(t, packedModel)
	for _, b := range badInputs(&p) {
		t.Run(b.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			p := packed{bytes.Clone(p.bytes), p.xray}
			write(t, "bad", b.damage(&p))
			test(t, logical, b)
		})
	}
}

func want(t *testing.T, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s is\n%s\nnot\n%s", what, got, wanted)
	}
}

func TestCatOfDamaged(t *testing.T) {
	eachBadInput(t, func(t *testing.T, logical []byte, b badInput) {
		o := invoke(t, "cat", "bad")
		if o.code != exitFailed {
			t.Errorf("exit code %d", o.code)
		}
		whole := int64(len(logical)) - b.lost
		if b.lost < 0 {
			whole = 0
		}
		if o.stdout != string(logical[:whole]) {
			t.Errorf("%d bytes instead of the first %d", len(o.stdout), whole)
		}
		problem := b.problem
		if b.state == "unsealed" {
			problem = fmt.Sprintf("unsealed container: its end is missing or damaged, and only its first %d bytes are whole", whole)
		}
		want(t, "standard error", o.stderr, "mithrilfs: bad: "+problem+"\n"+b.hint)
	})
}

func TestVerifyOfDamaged(t *testing.T) {
	eachBadInput(t, func(t *testing.T, _ []byte, b badInput) {
		o := invoke(t, "verify", "bad")
		if o.code != exitFailed {
			t.Errorf("exit code %d", o.code)
		}
		word, verdict := "DAMAGED ", "1 file damaged\nhint: restore it from a copy; "+
			"bytes outside the damaged frames can be had with: mithrilfs cat --range A:B FILE\n"
		if b.state == "unsealed" {
			word, verdict = "unsealed", "1 file unsealed, perhaps without the end\n"+
				"hint: save it again; what is there can be had with: mithrilfs cat FILE\n"
		}
		problem := b.problem
		if b.tensor != "" {
			problem = "tensor " + b.tensor + ": " + problem
		}
		lines := strings.SplitAfter(o.stdout, "\n")
		want(t, "the report", strings.Join(lines[:2], ""), word+"  bad\n  "+problem+"\n")
		want(t, "standard error", o.stderr, "mithrilfs: "+verdict)
	})
}

func TestVerifyJSONOfDamaged(t *testing.T) {
	eachBadInput(t, func(t *testing.T, _ []byte, b badInput) {
		o := invoke(t, "verify", "--json", "bad")
		v := parse[[]verdict](t, o.stdout)[0]
		if o.code != exitFailed || string(v.State) != b.state {
			t.Errorf("exit code %d, state %s", o.code, v.State)
		}
		if b.tensor == "" {
			want(t, "the problem", strings.ReplaceAll(v.Problem, "\n", "; "), b.problem)
			return
		}
		if v.Result != resultDamaged || len(v.Damage) != 1 {
			t.Fatalf("result %s with %d damaged frames", v.Result, len(v.Damage))
		}
		d := v.Damage[0]
		want(t, "the problem", d.Problem, b.problem)
		if d.Tensor != b.tensor || d.Logical != b.lost || v.Checked != v.Logical-b.lost {
			t.Errorf("%+v, %d bytes checked", d, v.Checked)
		}
	})
}

func TestListOfDamaged(t *testing.T) {
	eachBadInput(t, func(t *testing.T, _ []byte, b badInput) {
		wantCode, wantErr := exitOK, ""
		if b.state == "damaged" {
			wantCode, wantErr = exitFailed, "mithrilfs: bad: "+b.problem+"\n"+b.hint
		}
		for _, command := range []string{"ls", "stat"} {
			o := invoke(t, command, "bad")
			if o.code != wantCode {
				t.Errorf("%s: exit code %d", command, o.code)
			}
			want(t, command+"'s standard error", o.stderr, wantErr)
			if !strings.Contains(o.stdout, b.state) {
				t.Errorf("%s does not say %q:\n%s", command, b.state, o.stdout)
			}
		}
	})
}

func TestUnpackOfDamaged(t *testing.T) {
	eachBadInput(t, func(t *testing.T, logical []byte, b badInput) {
		o := invoke(t, "unpack", "bad", "out")
		problem := b.problem
		if b.state == "unsealed" {
			problem = fmt.Sprintf("unsealed container: its first %d bytes are whole, get them with: mithrilfs cat", int64(len(logical))-b.lost)
		}
		if o.code != exitFailed || o.stdout != "" {
			t.Errorf("exit code %d, output %q", o.code, o.stdout)
		}
		want(t, "standard error", o.stderr, "mithrilfs: bad: "+problem+"\n"+b.hint)
		if left, err := os.ReadDir("."); err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// An unsealed file is not incomplete for lack of an index alone.
func TestVerifyOfUnsealedButComplete(t *testing.T) {
	fixture(t)
	p := packed{xray: decode[[]xray](t, "stat", "--json", packedModel)[0]}
	_, end := p.last()
	if err := os.Truncate(packedModel, end); err != nil {
		t.Fatal(err)
	}
	o := invoke(t, "verify", packedModel)
	want(t, "the report", o.stdout, "unsealed  "+packedModel+"  (5 frames, 525.9 KiB: all bytes of all tensors)\n"+
		"1 file, 525.9 KiB checked, 1 unsealed\n")
	if o.code != exitOK || o.stderr != "" {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	if v := decode[[]verdict](t, "verify", "--json", packedModel)[0]; v.LackEnd || v.Result != resultUnsealed {
		t.Errorf("%+v", v)
	}
}
