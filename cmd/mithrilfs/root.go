package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// app is one run of the program.
type app struct {
	stdout io.Writer     // as it was given
	out    *bufio.Writer // to stdout; run flushes it and tells of its errors
	stderr io.Writer

	started bool // cobra found nothing wrong with the command line
	failed  bool // something went wrong that did not end the command
}

// run is the program: it does what args say and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, out: bufio.NewWriterSize(stdout, 64<<10), stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	cmd, err := root.ExecuteC()
	if err != nil && !a.started {
		err = usageError{err}
		defer a.usageHint(cmd, args)
	}
	if e := a.out.Flush(); e != nil && err == nil {
		err = fmt.Errorf("writing to standard output: %w", e)
	}
	a.complain(err)
	if err == nil && a.failed {
		return exitFailed
	}
	return exitCode(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mithrilfs",
		Short: "Store model checkpoints compressed, without loss, behind an ordinary directory",
		Long: `mithrilfs stores model checkpoints compressed and gives back every bit.

Mount it over a directory and save into that directory as before: files that
hold tensors are kept as compressed containers, everything else as it is. All
commands but mount and umount also work on the directory without a mount.`,
		Example: `  mithrilfs mount ckpt             # then save into ckpt as usual
  mithrilfs ls ckpt                # what the files take, and would take
  mithrilfs umount ckpt
  mithrilfs verify ckpt            # decode and check every byte`,
		Version:       versionName(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// What is close to an unknown command is told by usageHint.
		DisableSuggestions:         true,
		SuggestionsMinimumDistance: 2,
		PersistentPreRun:           func(*cobra.Command, []string) { a.started = true },
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _ = fmt.Fprintln(a.stderr, strings.TrimSpace(cmd.UsageString()))
			return usagef("no command given")
		},
	}
	root.AddCommand(a.mountCommand(), a.umountCommand(), a.lsCommand(), a.statCommand(), a.catCommand(),
		a.diffCommand(), a.packCommand(), a.unpackCommand(), a.verifyCommand(), a.compactCommand(), a.benchCommand(),
		a.versionCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpTemplate(root.HelpTemplate() + "\n" + exitCodeHelp())
	root.SetOut(a.out) // which the completion command takes now
	root.SetErr(a.stderr)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
		switch cmd.Name() {
		case "help":
			cmd.Example = "  mithrilfs help mount"
		case "completion":
			cmd.Example = "  source <(mithrilfs completion bash)"
		}
	}
	return root
}

// usageHint says where help is for a command line that cobra refused.
func (a *app) usageHint(cmd *cobra.Command, args []string) {
	if !cmd.HasParent() && len(args) > 0 {
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			_, _ = fmt.Fprintf(a.stderr, "hint: did you mean %s?\n", strings.Join(s, " or "))
			return
		}
	}
	_, _ = fmt.Fprintf(a.stderr, "hint: see %s --help\n", cmd.CommandPath())
}

// complain prints an error, and what can be done about it.
func (a *app) complain(err error) {
	var told reported
	if err == nil || errors.As(err, &told) {
		return
	}
	_ = a.out.Flush()
	_, _ = fmt.Fprintf(a.stderr, "mithrilfs: %s\n", message(err))
	if h := hint(err); h != "" {
		_, _ = fmt.Fprintf(a.stderr, "hint: %s\n", h)
	}
}

// warn is complain for an error after which the command goes on. The program
// will end with exitFailed.
func (a *app) warn(err error) {
	if err != nil {
		a.failed = true
		a.complain(err)
	}
}

// printf writes results; run tells of errors.
func (a *app) printf(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format, args...) }

// printJSON writes v, indented.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// terminal says whether w is one.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
