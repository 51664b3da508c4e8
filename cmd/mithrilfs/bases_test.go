package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenCopy makes a copy of the containers that version 1 of the format wrote,
// below a fresh directory, and returns their names in it and the SHA-256 of their
// bytes.
func goldenCopy(t testing.TB) (dir string, sums map[string]string) {
	t.Helper()
	from, err := filepath.Abs("../../testdata/formats/v1")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	dir = "backing"
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	sums = make(map[string]string)
	for line := range strings.Lines(string(read(t, filepath.Join(dir, "SHA256SUMS")))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	return dir, sums
}

func sum256(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// TestDependents: commands that read a file without a mount find its bases.
func TestDependents(t *testing.T) {
	dir, sums := goldenCopy(t)
	for name, sum := range sums {
		if strings.Contains(name, "unsealed") {
			continue // TestUnsealed
		}
		if got := succeed(t, "cat", filepath.Join(dir, name)); sum256(got) != sum {
			t.Errorf("cat %s gives other bytes", name)
		}
	}
	if err := os.Remove(filepath.Join(dir, "unsealed-holes")); err != nil {
		t.Fatal(err)
	}
	succeed(t, "unpack", dir, "plain")
	for name, sum := range sums {
		if !strings.HasPrefix(name, ".mithrilfs/") && !strings.Contains(name, "unsealed") && sum256(string(read(t, filepath.Join("plain", name)))) != sum {
			t.Errorf("unpack gives other bytes for %s", name)
		}
	}
	for _, v := range decode[[]verdict](t, "verify", "--json", dir) {
		if filepath.Base(v.Path) != "SHA256SUMS" && (v.Result != resultOK || v.Checked == 0) {
			t.Errorf("verify %s: %+v", v.Path, v)
		}
	}
	// Deeper in the directory, and by a link from elsewhere.
	deep := filepath.Join(dir, "run", "step")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "three-bases"), filepath.Join(deep, "model")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("backing", "run", "step", "model"), "link"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(deep, "model"), "link"} {
		if got := succeed(t, "cat", path); sum256(got) != sums["three-bases"] {
			t.Errorf("cat %s gives other bytes", path)
		}
	}
}

// TestStatOfDependent names what a file depends on.
func TestStatOfDependent(t *testing.T) {
	dir, _ := goldenCopy(t)
	x := decode[[]xray](t, "stat", "--json", filepath.Join(dir, "three-bases"))[0]
	names := []string{"30303030303030303030303030303031", "30303030303030303030303030303032", "30303030303030303030303030303033"}
	if strings.Join(x.Bases, " ") != strings.Join(names, " ") {
		t.Errorf("the bases are %v", x.Bases)
	}
	most := 0
	for _, f := range x.Frames {
		most = max(most, f.Bases)
	}
	if most != 3 {
		t.Errorf("a frame needs %d bases", most)
	}
	text := succeed(t, "stat", "--frames", filepath.Join(dir, "three-bases"))
	for _, s := range append(names, "differences from 3 bases") {
		if !strings.Contains(text, s) {
			t.Errorf("%s is not in\n%s", s, text)
		}
	}
	if x := decode[[]xray](t, "stat", "--json", filepath.Join(dir, "full-f32"))[0]; x.Bases == nil || len(x.Bases) != 0 {
		t.Errorf("the bases of a container without are %v", x.Bases)
	}
}

// TestBaseIsMissing: what needs it can't be read, and the message tells what is
// looked for; the rest can.
func TestBaseIsMissing(t *testing.T) {
	dir, _ := goldenCopy(t)
	const base = ".mithrilfs/bases/30303030303030303030303030303230"
	if err := os.Remove(filepath.Join(dir, base)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "one-base-i16")
	o := invoke(t, "cat", path)
	want(t, "standard error of cat", o.stderr, "mithrilfs: "+path+": base 30303030303030303030303030303230: there is no "+base+
		" in a directory above "+path+": move the file back into its backing directory, or put the container with that content there under this name\n"+
		"hint: all bytes that need no base can be had with: mithrilfs cat --range A:B FILE\n")
	if o.code != exitFailed {
		t.Errorf("exit code %d", o.code)
	}
	want(t, "the header", succeed(t, "cat", "--range", ":8", path), "hhhhhhhh")
	if o := invoke(t, "unpack", path, "new"); o.code != exitFailed || !strings.Contains(o.stderr, base) {
		t.Errorf("unpack: %+v", o)
	}
	o = invoke(t, "verify", "--json", path)
	v := parse[[]verdict](t, o.stdout)[0]
	if o.code != exitFailed || v.Result != resultDamaged || len(v.Damage) != 1 || v.Checked != 8 || !strings.Contains(v.Damage[0].Problem, base) {
		t.Errorf("verify: %d, %+v", o.code, v)
	}
	// Another container in its place.
	other := read(t, filepath.Join(dir, ".mithrilfs/bases/30303030303030303030303030303231"))
	write(t, filepath.Join(dir, base), other)
	if o := invoke(t, "cat", path); o.code != exitFailed || !strings.Contains(o.stderr, "what is in its place is of generation 30303030303030303030303030303231") {
		t.Errorf("cat with another base: %+v", o)
	}
}
