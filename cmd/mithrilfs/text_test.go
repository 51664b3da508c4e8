package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/mithrilfs/mithrilfs/store"
)

func TestHuman(t *testing.T) {
	for n, text := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB",
		95324160: "90.9 MiB", 5 << 30: "5.0 GiB", 1 << 40: "1.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		want(t, "size", human(n), text)
	}
}

func TestParseSize(t *testing.T) {
	for text, n := range map[string]int64{
		"0": 0, "4096": 4096, "1k": 1024, "64M": 64 << 20, "64MiB": 64 << 20, "1.5 GiB": 3 << 29, "2T": 2 << 40, "7B": 7,
	} {
		if got, err := parseSize(text); got != n || err != nil {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "-1", "1X", "1MM", "NaN", "1e30", "inf", "GiB1"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
}

// What comes from files can't command a terminal.
func TestPrintable(t *testing.T) {
	for s, shown := range map[string]string{
		"a b": "a b", "größe": "größe", "\x1b[2J": `"\x1b[2J"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, "\u202e": `"\u202e"`,
	} {
		want(t, "name", printable(s), shown)
	}
}

func TestMountOptions(t *testing.T) {
	o, err := parseMountOptions([]string{"rw,noauto,user,nofail,_netdev,x-systemd.automount,defaults,nodev", "allow_other,noexec,cache=1GiB", "workers=3,ro,durability=fsync"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.ReadOnly || !o.AllowOther || !slices.Equal(o.Options, []string{"noexec"}) || o.Store.CacheBytes != 1<<30 || o.Store.Workers != 3 || o.Store.Durability != store.DurabilityFsync {
		t.Errorf("%+v", o)
	}
	if o, err := parseMountOptions(nil); err != nil || o.ReadOnly || o.AllowOther || len(o.Options) > 0 || o.Store.Durability != store.DurabilityRename {
		t.Errorf("%+v, %v", o, err)
	}
}

// The background process gets what the command line said, with names that begin
// with a hyphen or have commas in them.
func TestMountArguments(t *testing.T) {
	a := &app{}
	var seen mountRequest
	m := mountRequest{dir: "/-d,x", point: "/p", readOnly: true, verbose: true, log: "/l=g", options: []string{"a,b", "c=d"}, ready: -1}
	cmd := a.mountCommand()
	if err := cmd.ParseFlags(m.arguments(readyFD)[1:]); err != nil {
		t.Fatal(err)
	}
	flags := cmd.Flags()
	seen.readOnly, _ = flags.GetBool("read-only")
	seen.verbose, _ = flags.GetBool("verbose")
	seen.log, _ = flags.GetString("log")
	seen.options, _ = flags.GetStringArray("option")
	ready, _ := flags.GetInt("ready-fd")
	if !seen.readOnly || !seen.verbose || seen.log != m.log || !slices.Equal(seen.options, m.options) || ready != readyFD {
		t.Errorf("%+v, ready %d", seen, ready)
	}
	want(t, "the paths", strings.Join(flags.Args(), " "), "/-d,x /p")
}
