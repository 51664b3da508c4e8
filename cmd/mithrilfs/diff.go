package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

// difference is what diff prints as JSON.
type difference struct {
	A       string                 `json:"a"`
	B       string                 `json:"b"`
	Count   map[tensorStatus]int64 `json:"tensor_counts"`
	Total   change                 `json:"total"`
	Tensors []tensorChange         `json:"tensors"`
}

func (a *app) diffCommand() *cobra.Command {
	var asJSON, equal bool
	cmd := &cobra.Command{
		Use:   "diff [--json] [--all] A B",
		Short: "Show how far two checkpoints are from each other, tensor by tensor",
		Long: `diff compares the tensors of two files by name: how many of the elements have
changed, and by how much. Files may be containers, plain files, or in a live mount,
and of different formats. The tensors that changed most come first; those that are
equal are only counted unless --all is given. Memory does not depend on the size of
the files.

An element has changed if its bits differ, so 0 and -0 are different, and a NaN is
like itself. Elements of two float types, as in fp32 weights and their bf16 export,
are compared by value: all that was rounded has changed, 0 and -0 are equal, and so
are all NaNs. Both parts of a complex number count as an element.

The relative change from x to y is |x-y| / max(|x|, |y|): 0 for 0 and -0, more than 1
where the sign has changed, 2 at most. LARGEST is the largest of the tensor, MEAN the
mean over all its elements, those that have not changed too. Changed elements that
were or became infinite or NaN are left out of both, and counted as non-finite.
Integers and booleans are numbers like others. Quantised blocks, packed types, and files in which
no tensors are found are compared byte by byte, without a relative change.

Tensors whose shapes differ are not compared, nor are those whose types differ in
more than the width of a float.

--json prints an array of one object, with the keys a, b, tensor_counts (by status),
total, and tensors[]: name, status (equal, changed, shape, dtype, only_a, only_b),
dtype_a, dtype_b, shape_a, shape_b, elements, changed, changed_fraction,
largest_relative_change, mean_relative_change, nonfinite_changes. What does not exist
is null. The exit code does not tell whether anything differs.`,
		Example: `  mithrilfs diff ckpt/checkpoint-100/model.safetensors ckpt/checkpoint-110/model.safetensors
  mithrilfs diff --json a.safetensors b.safetensors | jq '.[0].total.changed_fraction'`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.diff(args[0], args[1], asJSON, equal)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&equal, "all", false, "list equal tensors too (JSON always has them)")
	return cmd
}

func (a *app) diff(pathA, pathB string, asJSON, equal bool) error {
	fileA, err := openTensors(pathA)
	if err != nil {
		return err
	}
	defer func() { _ = fileA.Close() }()
	fileB, err := openTensors(pathB)
	if err != nil {
		return err
	}
	defer func() { _ = fileB.Close() }()
	ctx, stop := untilInterrupted()
	defer stop()
	p := newProgress(a.stderr, fileA.summary.Logical)
	c := comparer{a: fileA, b: fileB, progress: func(n int64) { p.add(pathA, n) }}
	list, total, err := c.compare(ctx)
	p.clear()
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, byChange)
	d := difference{A: pathA, B: pathB, Count: make(map[tensorStatus]int64), Total: total.change(), Tensors: list}
	for _, t := range list {
		d.Count[t.Status]++
	}
	if asJSON {
		if d.Tensors == nil {
			d.Tensors = []tensorChange{}
		}
		err = a.printJSON([]difference{d})
	} else {
		a.printDifference(&d, equal)
	}
	for _, f := range []*tensorFile{fileA, fileB} {
		if f.summary.State == store.StateUnsealed {
			a.warn(fmt.Errorf("%s: %w: its end is missing or damaged, and only its first %d bytes are whole", f.path, store.ErrUnsealed, f.summary.Logical))
		}
	}
	return err
}

// byChange orders what could not be compared first, then what changed most.
func byChange(x, y tensorChange) int {
	mean := func(t *tensorChange) float64 {
		if t.Mean == nil {
			return 0
		}
		return *t.Mean
	}
	return cmp.Or(cmp.Compare(statusOrder(x.Status), statusOrder(y.Status)), cmp.Compare(y.Fraction, x.Fraction),
		cmp.Compare(mean(&y), mean(&x)), strings.Compare(x.Name, y.Name))
}

var statusTexts = []struct {
	status tensorStatus
	text   string
}{
	{tensorOnlyA, "only in A"}, {tensorOnlyB, "only in B"}, {tensorShape, "of another shape"},
	{tensorDType, "of another type"}, {tensorChanged, "changed"}, {tensorEqual, "equal"},
}

func statusOrder(s tensorStatus) int {
	for i, t := range statusTexts {
		if t.status == s {
			return i
		}
	}
	return len(statusTexts)
}

func (a *app) printDifference(d *difference, equal bool) {
	a.printf("A         %s\nB         %s\n", printable(d.A), printable(d.B))
	var counts []string
	for _, t := range statusTexts {
		if n := d.Count[t.status]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, t.text))
		}
	}
	a.printf("tensors   %d: %s\n", len(d.Tensors), strings.Join(counts, ", "))
	a.printf("elements  %d, %s changed\n", d.Total.Elements, percent(&d.Total))
	if d.Total.Largest != nil {
		a.printf("change    largest %s, mean %s\n", significant(*d.Total.Largest), significant(*d.Total.Mean))
	}
	if d.Total.NonFinite > 0 {
		a.printf("non-finite  %d elements were or became infinite or NaN\n", d.Total.NonFinite)
	}
	t := &table{right: []bool{true, true, true, false, false, false}}
	t.add("CHANGED", "LARGEST", "MEAN", "DTYPE", "SHAPE", "TENSOR")
	for i := range d.Tensors {
		if r := &d.Tensors[i]; r.Status != tensorEqual || equal {
			t.add(changeCells(r)...)
		}
	}
	if len(t.rows) > 1 {
		a.printf("\n")
		t.print(a.out)
	}
}

func changeCells(r *tensorChange) []string {
	var changed string
	largest, mean := "-", "-"
	switch r.Status {
	case tensorEqual, tensorChanged:
		changed = percent(&r.change)
		if r.Largest != nil {
			largest, mean = significant(*r.Largest), significant(*r.Mean)
		}
	case tensorOnlyA:
		changed = "only A"
	case tensorOnlyB:
		changed = "only B"
	default:
		changed = string(r.Status)
	}
	name := printable(r.Name)
	if r.Name == "" {
		name = "(all bytes)"
	}
	return []string{changed, largest, mean, sides(printable(r.DTypeA), printable(r.DTypeB)), sides(shapeText(r.ShapeA), shapeText(r.ShapeB)), name}
}

// sides is what A and B have, once if it is the same.
func sides(a, b string) string {
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	}
	return a + " → " + b
}

func shapeText(shape []uint64) string {
	if shape == nil {
		return ""
	}
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ", ")
}

// percent is the part that has changed; none and all are never what is only nearly
// that.
func percent(c *change) string {
	f := 100 * c.Fraction
	if c.Changed > 0 && c.Changed < c.Elements {
		f = min(max(f, 0.0001), 99.9999)
	}
	return fmt.Sprintf("%.4f %%", f)
}
