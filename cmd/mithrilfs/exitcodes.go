package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
)

// The codes that the program ends with. They are part of its interface.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitMount  = 3
	exitBusy   = 4
)

var exitCodes = [...]struct {
	code    int
	meaning string
}{
	{exitOK, "done, and nothing is wrong"},
	{exitFailed, "the operation failed, or a file is damaged or incomplete"},
	{exitUsage, "the command line is wrong; nothing was done"},
	{exitMount, "the mount or unmount failed"},
	{exitBusy, "in use: another mithrilfs serves the directory, or files of the mount are open"},
}

// exitCodeHelp is the table as help shows it.
func exitCodeHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "  %d  %s\n", c.code, c.meaning)
	}
	return b.String()
}

// usageError is a command line that can't be run.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// mountError is any failure to mount or unmount.
type mountError struct{ error }

func (e mountError) Unwrap() error { return e.error }

// reported is a failure that the user has been told of, with its code.
type reported int

func (r reported) Error() string { return fmt.Sprintf("exit code %d", int(r)) }

// exitCode is the code for an error of a command.
func exitCode(err error) int {
	var (
		usage usageError
		mount mountError
		told  reported
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &told):
		return int(told)
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, store.ErrInUse), errors.Is(err, fs.ErrBusy):
		return exitBusy
	case errors.As(err, &mount):
		return exitMount
	}
	return exitFailed
}
