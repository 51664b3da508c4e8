package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/fs"
	"github.com/mithrilfs/mithrilfs/store"
)

func (a *app) compactCommand() *cobra.Command {
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "compact [--dry-run] [--json] PATH...",
		Short: "Code the checkpoints of a run against each other",
		Long: `compact finds the checkpoints of each run and stores them as their differences from
the next ones, where that makes them smaller. The newest of a run stays as it is.
What programs see does not change. A mount does the same in the background, some
time after something was saved, unless it was told --series=off; compact does it at
once and says what it brought.

Paths may be in a live mount or in a backing directory that is not mounted. Runs of
which a path names a file, or a directory with one, are meant. Only root and the
user who mounted it can ask a mount. Interrupted, compact leaves what it has done.

--dry-run changes nothing and prints what is expected, from samples.

--json prints an array of objects, one for each run, with the keys newest, series,
files, logical_bytes, stored_bytes_before, stored_bytes, ratio, planned and coded,
the last two of which count files.`,
		Example: `  mithrilfs compact --dry-run ckpt
  mithrilfs compact ckpt/run42`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			return a.compact(paths, dry, asJSON)
		},
	}
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what is expected")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) compact(paths []string, dry, asJSON bool) error {
	ctx, stop := untilInterrupted()
	defer stop()
	c := &compacted{line: newProgress(a.stderr, 0), reports: []store.SeriesReport{}, byID: make(map[string]int)}
	var err error
	for _, path := range paths {
		if err = c.run(ctx, path, dry); err != nil {
			break
		}
	}
	c.line.clear()
	if asJSON {
		err = errors.Join(err, a.printJSON(c.reports))
	} else {
		a.printReports(c.reports)
	}
	return err
}

// compacted collects reports, the last one of each series.
type compacted struct {
	line    *progress
	root    string // the directory of the store that is worked on
	reports []store.SeriesReport
	byID    map[string]int
}

// run compacts what path names, wherever it is.
func (c *compacted) run(ctx context.Context, path string, dry bool) error {
	in, err := fs.InMount(path)
	if err != nil {
		return err
	}
	if in {
		c.root = path
		return fs.CompactRemote(ctx, path, dry, c.take)
	}
	root, rel, err := backingOf(path)
	if err != nil {
		return err
	}
	s, err := store.Open(root, store.Options{})
	if err != nil {
		return err
	}
	c.root = root
	o := store.CompactOptions{DryRun: dry, Report: c.take}
	if rel != "." {
		o.Paths = []string{rel}
	}
	return errors.Join(s.Compact(ctx, o), s.Close())
}

// errNoBacking: where the bases go must be where a mount will look for them.
var errNoBacking = errors.New("is in no directory that mithrilfs has served or packed")

// backingOf finds the backing directory that path is in, the nearest one that
// mithrilfs has used.
func backingOf(path string) (root, rel string, err error) {
	if _, err := os.Stat(path); err != nil {
		return "", "", err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", "", err
	}
	for root = abs; !store.UsedAsBacking(root); root = filepath.Dir(root) {
		if root == filepath.Dir(root) {
			return "", "", fmt.Errorf("%s %w", path, errNoBacking)
		}
	}
	rel, err = filepath.Rel(root, abs)
	return root, rel, err
}

func (c *compacted) take(r store.SeriesReport) {
	id := c.root + "\x00" + r.ID
	i, known := c.byID[id]
	if !known {
		i = len(c.reports)
		c.byID[id] = i
		c.reports = append(c.reports, r)
	}
	c.reports[i] = r
	c.line.tell(fmt.Sprintf("%d of %s  %s", r.Coded, plural(r.Planned, "file"), printable(r.Name)))
}

func (a *app) printReports(list []store.SeriesReport) {
	if len(list) == 0 {
		a.printf("no checkpoints of one run found\n")
		return
	}
	t := &table{right: []bool{true, true, true, true, true, true, false}}
	t.add("FILES", "CODED", "LOGICAL", "BEFORE", "AFTER", "RATIO", "SERIES")
	var all store.SeriesReport
	row := func(r *store.SeriesReport, ratio float64) {
		coded := fmt.Sprint(r.Coded)
		if r.Coded < r.Planned {
			coded += fmt.Sprintf(" of %d", r.Planned)
		}
		t.add(fmt.Sprint(r.Files), coded, human(r.Logical), human(r.Before), human(r.After), ratioText(ratio), printable(r.Name))
	}
	for i := range list {
		r := &list[i]
		row(r, r.Ratio)
		all.Files, all.Coded, all.Planned = all.Files+r.Files, all.Coded+r.Coded, all.Planned+r.Planned
		all.Logical, all.Before, all.After = all.Logical+r.Logical, all.Before+r.Before, all.After+r.After
	}
	if len(list) > 1 {
		all.Name = fmt.Sprintf("%d series", len(list))
		row(&all, total(store.Summary{Logical: all.Logical, Stored: all.After}))
	}
	t.print(a.out)
}
