package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

// xray is what stat prints as JSON.
type xray struct {
	store.Summary
	Tensors []store.TensorReport `json:"tensors"`
	Frames  []store.FrameReport  `json:"frames"`
}

func (a *app) statCommand() *cobra.Command {
	var asJSON, frames bool
	cmd := &cobra.Command{
		Use:   "stat [--json] [--frames] FILE",
		Short: "Show what is inside one file: tensors and frames",
		Long: `stat shows what mithrilfs made of a file: its sizes, and for every tensor the
element type, shape, logical and stored size, ratio, and plan. The plan is how the
bytes were arranged before they were compressed, or of how many other containers,
its bases, they are stored as differences; .mithrilfs/bases has these. A tensor that shares a frame with
others is charged its part.

--json prints an array of one object: the keys of ls, and
  tensors[]  name, dtype, shape, offset, logical_bytes, stored_bytes, ratio, plan
  frames[]   number, generation, offset, logical_bytes, position, stored_bytes,
             plan, bases, tensor
where offset counts logical bytes and position bytes of the container.`,
		Example: `  mithrilfs stat ckpt/model.safetensors
  mithrilfs stat --json ckpt/model.safetensors | jq '.[0].tensors[] | {name, ratio}'`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.stat(args[0], asJSON, frames)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&frames, "frames", false, "list the frames too (JSON always has them)")
	return cmd
}

func (a *app) stat(path string, asJSON, frames bool) error {
	s, err := inspect(path)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	x := xray{Summary: s.Summary()}
	if x.Tensors, err = all(s.Tensors); err != nil {
		return err
	}
	if asJSON || frames {
		if x.Frames, err = all(s.Frames); err != nil {
			return err
		}
	}
	if asJSON {
		err = a.printJSON([]xray{x})
	} else {
		a.printXray(&x, frames)
	}
	if x.State == store.StateDamaged {
		a.warn(problem(path, x.Summary))
	}
	return err
}

// all collects the pages of a list, which is never nil.
func all[T any](page func(i, n int) ([]T, error)) ([]T, error) {
	const pageLength = 1024
	list := []T{}
	for {
		more, err := page(len(list), pageLength)
		if err != nil || len(more) == 0 {
			return list, err
		}
		list = append(list, more...)
	}
}

func (a *app) printXray(x *xray, frames bool) {
	size := func(n int64) string { return fmt.Sprintf("%s (%d bytes)", human(n), n) }
	a.printf("path     %s\n", printable(x.Path))
	a.printf("format   %s\n", printable(x.Format))
	a.printf("state    %s\n", x.State)
	if x.State == store.StateDamaged { // the rest is not known
		a.printf("stored   %s\n", size(x.Stored))
		return
	}
	a.printf("logical  %s\n", size(x.Logical))
	a.printf("stored   %s\n", size(x.Stored))
	a.printf("ratio    %s\n", ratioText(x.Ratio))
	a.printf("tensors  %d\n", x.Summary.Tensors)
	a.printf("frames   %d\n", x.Summary.Frames)
	for _, g := range x.Bases {
		a.printf("base     %s\n", g)
	}
	if x.Problem != "" {
		a.printf("problem  %s\n", strings.ReplaceAll(x.Problem, "\n", "; "))
	}
	if len(x.Tensors) > 0 {
		a.printf("\n")
		a.printTensors(x.Tensors)
	}
	if frames && len(x.Frames) > 0 {
		a.printf("\n")
		a.printFrames(x.Frames)
	}
}

func (a *app) printTensors(list []store.TensorReport) {
	t := &table{right: []bool{false, false, true, true, true, false, false}}
	t.add("DTYPE", "SHAPE", "LOGICAL", "STORED", "RATIO", "PLAN", "TENSOR")
	for _, r := range list {
		shape := strings.ReplaceAll(fmt.Sprint(r.Shape), " ", ", ")
		t.add(printable(r.DType), shape, human(r.Logical), human(r.Stored), ratioText(r.Ratio), r.Plan, printable(r.Name))
	}
	t.print(a.out)
}

func (a *app) printFrames(list []store.FrameReport) {
	t := &table{right: []bool{true, true, true, true, true, false, false}}
	t.add("FRAME", "OFFSET", "LOGICAL", "POSITION", "STORED", "PLAN", "TENSOR")
	for _, r := range list {
		t.add(fmt.Sprint(r.Number), fmt.Sprint(r.Offset), fmt.Sprint(r.Logical), fmt.Sprint(r.Position),
			fmt.Sprint(r.Stored), r.Plan, printable(r.Tensor))
	}
	t.print(a.out)
}
