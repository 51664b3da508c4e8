package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// human is a number of bytes for people.
func human(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, units := float64(n), "KMGTPE"
	for f /= 1 << 10; f >= 1023.95 && len(units) > 1; f /= 1 << 10 {
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", f, units[0])
}

// parseSize reads a number of bytes, perhaps with a unit: 4096, 64M, 1.5GiB.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "KMGTiBkmgtb ")
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f >= 0) {
		return 0, fmt.Errorf("%q is not a size such as 64MiB", s)
	}
	switch strings.ToLower(strings.TrimSpace(s[len(number):])) {
	case "", "b":
	case "k", "kib":
		f *= 1 << 10
	case "m", "mib":
		f *= 1 << 20
	case "g", "gib":
		f *= 1 << 30
	case "t", "tib":
		f *= 1 << 40
	default:
		return 0, fmt.Errorf("%q is not a size such as 64MiB", s)
	}
	if f > 1<<60 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return int64(f), nil
}

func ratioText(r float64) string { return strconv.FormatFloat(r, 'f', 3, 64) }

// plural is "1 file" or "2 files".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// printable is s as it may go to a terminal: names come from files that anyone
// may have made.
func printable(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// table is text in columns, each as wide as its widest cell.
type table struct {
	right []bool // the columns that are aligned to the right
	rows  [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(w io.Writer) {
	widths := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				cell, pad = pad+cell, ""
			}
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell + pad)
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}
