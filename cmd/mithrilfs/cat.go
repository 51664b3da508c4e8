package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

// catBuffer is how much cat reads at once: several frames of a dependent, which are
// decoded together.
const catBuffer = 4 << 20

func (a *app) catCommand() *cobra.Command {
	var span string
	var force bool
	cmd := &cobra.Command{
		Use:   "cat [--range A:B] [--force] FILE",
		Short: "Write a file's logical bytes to standard output",
		Long: `cat writes the bytes of a file as they were before compression, with every frame
checked before a byte of it is written. It reads containers, plain files, and files
in a live mount.

--range A:B writes the bytes from A up to, not including, B. Both count from 0;
either may be left out. What lies past the end of the file is left out.

Of an unsealed container, whose writer was stopped or whose end is damaged, cat
writes what is whole and ends with code 1. Binary data is not written to a terminal unless --force is given.`,
		Example: `  mithrilfs cat ckpt/model.safetensors > model.safetensors
  mithrilfs cat --range 0:8 ckpt/model.safetensors | od -t u8`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			from, to, err := parseRange(span)
			if err != nil {
				return err
			}
			return a.cat(args[0], from, to, force)
		},
	}
	cmd.Flags().StringVar(&span, "range", ":", "write the bytes from `A:B` only")
	cmd.Flags().BoolVar(&force, "force", false, "write binary data to a terminal")
	return cmd
}

// parseRange reads A:B. An open end is math.MaxInt64.
func parseRange(s string) (from, to int64, err error) {
	to = math.MaxInt64
	a, b, ok := strings.Cut(s, ":")
	if a != "" {
		from, err = strconv.ParseInt(a, 10, 64)
	}
	if b != "" && err == nil {
		to, err = strconv.ParseInt(b, 10, 64)
	}
	if !ok || err != nil || from < 0 || to < from {
		return 0, 0, usagef("--range %q: give two byte offsets, the smaller one first, such as 0:8, 4096: or :4096", s)
	}
	return from, to, nil
}

func (a *app) cat(path string, from, to int64, force bool) error {
	l, err := openLogical(path)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	size := l.summary.Logical
	if from > size {
		return usagef("%s: --range begins at byte %d, but the file ends at %d", path, from, size)
	}
	r := io.NewSectionReader(l, from, min(to, size)-from)
	buf := make([]byte, catBuffer)
	if !force && terminal(a.stdout) {
		n, _ := r.ReadAt(buf, 0)
		if looksBinary(buf[:n]) {
			return usagef("%s: this is binary data, which a terminal can't show: redirect it, or use --force", path)
		}
	}
	if err := copyBytes(a.out, r, buf); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if l.summary.State == store.StateUnsealed {
		return fmt.Errorf("%s: %w: its end is missing or damaged, and only its first %d bytes are whole", path, store.ErrUnsealed, size)
	}
	return nil
}

// copyBytes is io.Copy that says which side failed.
func copyBytes(w io.Writer, r io.Reader, buf []byte) error {
	for {
		n, err := r.Read(buf)
		if _, e := w.Write(buf[:n]); e != nil {
			return fmt.Errorf("writing to standard output: %w", e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// looksBinary says whether b, the beginning of a file, is not text.
func looksBinary(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(b) {
			return true
		}
		if r < ' ' && !bytes.ContainsRune([]byte("\n\r\t\f"), r) {
			return true
		}
		b = b[n:]
	}
	return false
}
