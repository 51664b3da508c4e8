package fs

import (
	"fmt"
	"os"
	"testing"
)

// forgetNames lets the kernel drop what it knows of names that nobody uses, as it
// does when memory is short.
func forgetNames(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		t.Skip("SKIPPED: it takes root to make the kernel forget: ", err)
	}
}

// TestForgottenDirectory: a file that is open has a second name in a directory
// that the kernel forgets. When that name goes to another file, the first is not
// taken for it.
func TestForgottenDirectory(t *testing.T) {
	m := mountApart(t)
	must(t, os.Mkdir(m.path("a"), 0o700))
	const files = 20
	for i := range files {
		f, c := m.path("a", fmt.Sprint("f", i)), m.path(fmt.Sprint("c", i))
		must(t, os.WriteFile(f, []byte("first"), 0o600))
		must(t, os.Link(f, c))
		open, err := os.Open(c)
		must(t, err)
		defer func() { must(t, open.Close()) }()
	}
	forgetNames(t)
	for i := range files {
		f, c := m.path("a", fmt.Sprint("f", i)), m.path(fmt.Sprint("c", i))
		_, err := os.Stat(f)
		must(t, err)
		must(t, os.WriteFile(m.path("x"), []byte("second"), 0o640))
		must(t, os.Rename(m.path("x"), f))
		must(t, os.Chmod(c, 0o755))
		must(t, os.Truncate(c, 3))
		must(t, os.WriteFile(c, []byte("again"), 0))
		for name, want := range map[string]string{f: "second -rw-r-----", c: "again -rwxr-xr-x"} {
			b, err := os.ReadFile(name)
			must(t, err)
			st, err := os.Stat(name)
			must(t, err)
			if got := fmt.Sprintf("%s %v", b, st.Mode()); got != want {
				t.Fatalf("%s: %s, want %s", name, got, want)
			}
		}
	}
}
