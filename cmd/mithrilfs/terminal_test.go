package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a terminal: what is written to tty can be read from screen.
func pty(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("SKIPPED, no terminals: ", err)
	}
	t.Cleanup(func() { screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip("SKIPPED, no terminals: ", err)
	}
	return screen, tty
}

// shown is what do writes to a terminal.
func shown(t *testing.T, do func(tty *os.File)) string {
	t.Helper()
	screen, tty := pty(t)
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(screen) // ends with EIO when tty is closed
		text <- string(b)
	}()
	do(tty)
	tty.Close()
	return <-text
}

func TestCatToTerminal(t *testing.T) {
	data := fixture(t)
	cat := func(args ...string) (code int, screen, stderr string) {
		var e bytes.Buffer
		screen = shown(t, func(tty *os.File) { code = run(append([]string{"cat"}, args...), nil, tty, &e) })
		return code, screen, e.String()
	}
	code, screen, stderr := cat(packedModel)
	want(t, "standard error", stderr, "mithrilfs: "+packedModel+": this is binary data, which a terminal can't show: redirect it, or use --force\n")
	if code != exitUsage || screen != "" {
		t.Errorf("exit code %d, %d bytes on the screen", code, len(screen))
	}
	code, screen, stderr = cat(packedNotes)
	if code != exitOK || screen != strings.ReplaceAll(notes, "\n", "\r\n") || stderr != "" {
		t.Errorf("text: exit code %d, %q on the screen, %s", code, screen, stderr)
	}
	code, screen, stderr = cat("--force", "--range", "8:50", packedModel)
	if code != exitOK || screen != string(data[8:50]) || stderr != "" {
		t.Errorf("forced: exit code %d, %q on the screen, %s", code, screen, stderr)
	}
}

// Progress is on terminals only, and gone in the end.
func TestProgress(t *testing.T) {
	fixture(t)
	var stdout bytes.Buffer
	screen := shown(t, func(tty *os.File) {
		if code := run([]string{"verify", "packed"}, nil, &stdout, tty); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	})
	if !strings.Contains(screen, " of 525.9 KiB  ") || !strings.HasSuffix(screen, "\r\x1b[K") {
		t.Errorf("the screen gets %q", screen)
	}
	if strings.Contains(stdout.String(), "\x1b") {
		t.Errorf("standard output gets %q", stdout.String())
	}
}
