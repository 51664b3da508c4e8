package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

func (a *app) lsCommand() *cobra.Command {
	var asJSON, recursive, inSeries bool
	cmd := &cobra.Command{
		Use:   "ls [--json] [--recursive] [--series] PATH...",
		Short: "List files with their logical and stored sizes",
		Long: `ls lists files with the size that programs see, the size on disk, the ratio of
the two, the format, and the state. A directory stands for the files in it. Paths
may be in a live mount or in a backing directory that is not mounted.

States:
  plain     stored as it is
  sealed    a whole container
  writing   open for writing, or not settled yet
  unsealed  a container whose writer was stopped, or whose end is damaged: what is
            whole of it can be read
  damaged   can't be read; why is told on standard error, and ends in exit code 1

--json prints an array of objects, one for each file, with the keys path,
logical_bytes, stored_bytes, ratio, format, state, tensor_count, frame_count, bases,
generation, and problem where there is one.

--series lists series of checkpoints, each with its files from the oldest to the
newest, those in directories below too; without PATH, of the current directory.
Forms:
  full      as it is
  delta     as differences from its bases: newer checkpoints of the series
  keyframe  full, and the base of others, so that chains of bases stay short
with "copy" or "export" for what only repeats another file, perhaps in a narrower
type. DEPTH is how many checkpoints in a row have to be read for a delta. Files that
belong to no series are only counted. What belongs together is found from the layout
and from samples of the data, so files are read.

--series --json prints an array of objects, one for each series, with the keys series
(the path, with * for the step), format, file_count, logical_bytes, stored_bytes,
ratio, and files[]: path, step (null: none), form, relation where it is a copy or an
export, depth, bases (paths, or generations where the path is not listed),
logical_bytes, stored_bytes, ratio. A file that belongs to no series is one of its
own.`,
		Example: `  mithrilfs ls ckpt
  mithrilfs ls --json ckpt/*.safetensors
  mithrilfs ls --series ckpt`,
		Args: func(cmd *cobra.Command, paths []string) error {
			if inSeries {
				return nil
			}
			return cobra.MinimumNArgs(1)(cmd, paths)
		},
		RunE: func(_ *cobra.Command, paths []string) error {
			if inSeries {
				return a.lsSeries(paths, asJSON)
			}
			return a.ls(paths, recursive, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list directories within directories too")
	cmd.Flags().BoolVar(&inSeries, "series", false, "list series of checkpoints")
	return cmd
}

func (a *app) ls(paths []string, recursive, asJSON bool) error {
	names, err := files(paths, recursive)
	a.warn(err)
	list := []store.Summary{}
	for _, name := range names {
		s, err := summarize(name)
		if err != nil {
			a.warn(err)
			continue
		}
		list = append(list, s)
	}
	if asJSON {
		err = a.printJSON(list)
	} else {
		a.printSummaries(list)
		err = nil
	}
	for _, s := range list {
		if s.State == store.StateDamaged {
			a.warn(problem(s.Path, s))
		}
	}
	return err
}

func (a *app) printSummaries(list []store.Summary) {
	if len(list) == 0 {
		return
	}
	t := &table{right: []bool{true, true, true, false, false, false}}
	t.add("LOGICAL", "STORED", "RATIO", "FORMAT", "STATE", "PATH")
	var sum store.Summary
	n := 0
	for _, s := range list {
		logical, ratio := human(s.Logical), ratioText(s.Ratio)
		if s.State == store.StateDamaged {
			logical, ratio = "?", "?"
		} else {
			n++
			sum.Logical += s.Logical
			sum.Stored += s.Stored
		}
		t.add(logical, human(s.Stored), ratio, s.Format, string(s.State), printable(s.Path))
	}
	if n > 1 {
		files := plural(n, "file")
		if n < len(list) {
			files += ", without the damaged"
		}
		t.add(human(sum.Logical), human(sum.Stored), ratioText(total(sum)), "", "", files)
	}
	t.print(a.out)
}

// total is the ratio of sums.
func total(s store.Summary) float64 {
	if s.Logical == 0 || s.Stored == 0 {
		return 1
	}
	return float64(s.Logical) / float64(s.Stored)
}

// sum adds the sizes of the files that paths name.
func sum(paths ...string) (s store.Summary, n int, err error) {
	names, err := files(paths, true)
	for _, name := range names {
		one, e := summarize(name)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		n++
		s.Logical += one.Logical
		s.Stored += one.Stored
	}
	return s, n, err
}
