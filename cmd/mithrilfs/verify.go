package main

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

// result is what verify says about a file.
type result string

const (
	resultOK       result = "ok"
	resultPlain    result = "plain"    // nothing to check it by
	resultWriting  result = "writing"  // not checked: it changes
	resultUnsealed result = "unsealed" // whole as far as it goes
	resultDamaged  result = "damaged"
)

// verdict is what verify prints about a file as JSON.
type verdict struct {
	store.Summary
	Result  result   `json:"result"`
	LackEnd bool     `json:"may_lack_end"`  // only an unsealed file may
	Checked int64    `json:"checked_bytes"` // logical bytes decoded and found whole
	Damage  []damage `json:"damage"`
}

// damage is one frame that can't be read.
type damage struct {
	store.FrameReport
	Problem string `json:"problem"`
	index   int
}

func (a *app) verifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [--json] PATH...",
		Short: "Decode and check every frame",
		Long: `verify decodes every frame of every container from the disk and compares it with
its checksum. A directory stands for all files below it. In a live mount the process
that serves it does the checking, past its caches.

Results, one line for each file:
  ok        every byte is as it was written
  plain     stored as it is: there is no checksum to check it by
  writing   open for writing, and not checked
  unsealed  its writer was stopped, or its end is damaged: what is there is whole
  DAMAGED   followed by what is wrong: tensor, frame, and where

Exit code 1 if a file is damaged, can't be read, or may lack its end, as every
unsealed file may that does not show that it has all bytes of all its tensors.

--json prints an array of objects, one for each file: the keys of ls, and result
(as above, in lower case), may_lack_end, checked_bytes, and damage[]: the keys of
frames[] of stat, and problem.`,
		Example: `  mithrilfs verify ckpt
  mithrilfs verify ckpt/model.safetensors && rm model.safetensors.orig`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			return a.verify(paths, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) verify(paths []string, asJSON bool) error {
	names, err := files(paths, true)
	a.warn(err)
	p := newProgress(a.stderr, 0)
	if p.w != nil {
		p.total = checkable(names)
	}
	list := []verdict{}
	for _, name := range names {
		v, err := verifyFile(name, p)
		p.clear()
		if err != nil {
			a.warn(err)
			continue
		}
		list = append(list, v)
		if !asJSON {
			a.printVerdict(&v)
			_ = a.out.Flush() // run tells of its errors
		}
	}
	if asJSON {
		err = a.printJSON(list)
	} else {
		a.printVerdicts(list)
		err = nil
	}
	a.judge(list)
	return err
}

// checkable is how many logical bytes there are to check.
func checkable(names []string) int64 {
	var n int64
	for _, name := range names {
		if s, err := summarize(name); err == nil && s.State != store.StatePlain {
			n += s.Logical // errors are told when it is the file's turn
		}
	}
	return n
}

func verifyFile(name string, p *progress) (verdict, error) {
	s, err := inspect(name)
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = s.Close() }()
	v := verdict{Summary: s.Summary(), Damage: []damage{}}
	switch v.State {
	case store.StatePlain:
		v.Result = resultPlain
		return v, nil
	case store.StateWriting:
		v.Result = resultWriting
		return v, nil
	case store.StateDamaged:
		v.Result = resultDamaged
		return v, nil
	}
	if err := checkFrames(s, &v, p); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case len(v.Damage) > 0:
		v.Result = resultDamaged
	case v.State == store.StateUnsealed:
		v.Result = resultUnsealed
		whole, err := complete(s)
		v.LackEnd = !whole
		return v, err
	default:
		v.Result = resultOK
	}
	return v, nil
}

// complete says whether an unsealed file is known to have its end: one that
// names its tensors has all bytes of them.
func complete(s subject) (bool, error) {
	sum := s.Summary()
	tensors, err := all(s.Tensors)
	if err != nil {
		return false, fmt.Errorf("%s: %w", sum.Path, err)
	}
	for _, t := range tensors {
		if t.Offset+t.Logical > sum.Logical {
			return false, nil
		}
	}
	return len(tensors) > 0 && sum.Problem == "", nil
}

// checkFrames decodes all frames, as many at once as there are processors.
func checkFrames(s subject, v *verdict, p *progress) error {
	frames, err := all(s.Frames)
	if err != nil {
		return err
	}
	var (
		next, checked atomic.Int64
		workers       sync.WaitGroup
		mu            sync.Mutex // guards v.Damage
	)
	for range min(runtime.GOMAXPROCS(0), len(frames)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(frames) {
					return
				}
				if err := s.Check(i); err != nil {
					mu.Lock()
					v.Damage = append(v.Damage, damage{frames[i], message(err), i})
					mu.Unlock()
				} else {
					checked.Add(frames[i].Logical)
				}
				p.add(v.Path, frames[i].Logical)
			}
		})
	}
	workers.Wait()
	v.Checked = checked.Load()
	slices.SortFunc(v.Damage, func(a, b damage) int { return cmp.Compare(a.index, b.index) })
	return nil
}

// shownDamage is how many frames of a file are named in text.
const shownDamage = 20

func (a *app) printVerdict(v *verdict) {
	word := string(v.Result)
	if v.Result == resultDamaged {
		word = "DAMAGED"
	}
	a.printf("%-8s  %s", word, printable(v.Path))
	switch v.Result {
	case resultOK:
		a.printf("  (%s, %s)\n", plural(v.Frames, "frame"), human(v.Checked))
		return
	case resultPlain:
		a.printf("  (%s without a checksum)\n", human(v.Logical))
		return
	case resultUnsealed:
		if !v.LackEnd {
			a.printf("  (%s, %s: all bytes of all tensors)", plural(v.Frames, "frame"), human(v.Checked))
		}
	}
	a.printf("\n")
	if v.Problem != "" {
		a.printf("  %s\n", strings.ReplaceAll(v.Problem, "\n", "; "))
	}
	for i, d := range v.Damage {
		if i == shownDamage {
			a.printf("  and %s more\n", plural(len(v.Damage)-i, "damaged frame"))
			break
		}
		in := ""
		if d.Tensor != "" {
			in = "tensor " + printable(d.Tensor) + ": "
		}
		a.printf("  %s%s\n", in, d.Problem)
	}
}

func count(list []verdict, r result) (n int, bytes int64) {
	for i := range list {
		if list[i].Result == r {
			n++
			bytes += list[i].Logical
		}
	}
	return n, bytes
}

// printVerdicts prints the line that sums it up.
func (a *app) printVerdicts(list []verdict) {
	var checked int64
	for i := range list {
		checked += list[i].Checked
	}
	a.printf("%s, %s checked", plural(len(list), "file"), human(checked))
	if n, bytes := count(list, resultPlain); n > 0 {
		a.printf(", %d plain (%s without a checksum)", n, human(bytes))
	}
	for _, r := range []result{resultWriting, resultUnsealed, resultDamaged} {
		if n, _ := count(list, r); n > 0 {
			a.printf(", %d %s", n, r)
		}
	}
	a.printf("\n")
}

// judge says what the result is for the exit code.
func (a *app) judge(list []verdict) {
	if n, _ := count(list, resultDamaged); n > 0 {
		a.warn(fmt.Errorf("%s %w", plural(n, "file"), errDamagedFiles))
	}
	n := 0
	for i := range list {
		if list[i].LackEnd {
			n++
		}
	}
	if n > 0 {
		a.warn(fmt.Errorf("%s %w", plural(n, "file"), errUnsealedFiles))
	}
}

// What verify found; hints.go says what to do.
var (
	errDamagedFiles  = errors.New("damaged")
	errUnsealedFiles = errors.New("unsealed, perhaps without the end")
)
