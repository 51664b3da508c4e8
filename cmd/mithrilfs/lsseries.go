package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/mithrilfs/mithrilfs/store"
	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// seriesList is what ls --series prints of one series as JSON.
type seriesList struct {
	Name    string       `json:"series"`
	Format  string       `json:"format"`
	Count   int          `json:"file_count"`
	Logical int64        `json:"logical_bytes"`
	Stored  int64        `json:"stored_bytes"`
	Ratio   float64      `json:"ratio"`
	Files   []seriesFile `json:"files"`
}

type seriesFile struct {
	Path     string   `json:"path"`
	Step     *int64   `json:"step"`
	Form     string   `json:"form"`
	Relation string   `json:"relation,omitempty"`
	Depth    int      `json:"depth"`
	Bases    []string `json:"bases"`
	Logical  int64    `json:"logical_bytes"`
	Stored   int64    `json:"stored_bytes"`
	Ratio    float64  `json:"ratio"`
}

// The forms of a file in a series.
const (
	formFull     = "full"
	formDelta    = "delta"
	formKeyframe = "keyframe"
)

func (a *app) lsSeries(paths []string, asJSON bool) error {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	names, err := files(paths, true)
	a.warn(err)
	ctx, stop := untilInterrupted()
	defer stop()
	p := newProgress(a.stderr, 0)
	members := a.membersOf(ctx, names, p)
	reader := &sampleReader{}
	defer reader.close()
	families, err := series.NewGrouper(reader, nil).Group(ctx, members)
	p.clear()
	if err != nil {
		return err
	}
	lists := listSeries(families)
	if asJSON {
		return a.printJSON(lists)
	}
	a.printSeries(lists)
	return nil
}

// membersOf looks into files, and returns the sealed containers.
func (a *app) membersOf(ctx context.Context, names []string, p *progress) []series.Member {
	var members []series.Member
	seen := make(map[[2]uint64]bool)
	for _, name := range names {
		if ctx.Err() != nil {
			break // Group will tell
		}
		m, inode, err := memberOf(name)
		switch {
		case err != nil:
			p.clear()
			a.warn(err)
		case m != nil && !seen[inode]:
			seen[inode] = true
			members = append(members, *m)
			p.add(name, m.Stored)
		}
	}
	return members
}

// memberOf looks into a file. One that is no sealed container is nil.
func memberOf(path string) (*series.Member, [2]uint64, error) {
	s, err := inspect(path)
	if err != nil {
		return nil, [2]uint64{}, err
	}
	defer func() { _ = s.Close() }()
	sum := s.Summary()
	if sum.State == store.StateDamaged {
		return nil, [2]uint64{}, problem(path, sum)
	}
	if sum.State != store.StateSealed {
		return nil, [2]uint64{}, nil
	}
	reports, err := all(s.Tensors)
	if err != nil {
		return nil, [2]uint64{}, err
	}
	m := &series.Member{Rel: filepath.Clean(path), Size: sum.Logical, Stored: sum.Stored, Format: sum.Format}
	m.Step, m.Place = series.ParseStep(m.Rel)
	for _, r := range reports {
		m.Tensors = append(m.Tensors, container.Tensor{Name: r.Name, DType: r.DType, Shape: r.Shape, Begin: r.Offset, End: r.Offset + r.Logical})
	}
	m.Layout = series.FingerprintOf(m.Format, m.Tensors)
	if m.Generation, err = parseGeneration(sum.Generation); err != nil {
		return nil, [2]uint64{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, text := range sum.Bases {
		g, err := parseGeneration(text)
		if err != nil {
			return nil, [2]uint64{}, fmt.Errorf("%s: %w", path, err)
		}
		m.Bases = append(m.Bases, container.Base{Generation: g})
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, [2]uint64{}, err
	}
	m.Mtime = st.ModTime()
	var inode [2]uint64
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = [2]uint64{uint64(sys.Dev), sys.Ino}
	}
	return m, inode, nil
}

func parseGeneration(text string) (g container.Generation, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("%q is not a generation", text)
	}
	return container.Generation(b), nil
}

// sampleReader reads pieces of files for a series.Grouper, through a mount or not.
type sampleReader struct {
	open []*sampleFile // the one used last is the last
}

type sampleFile struct {
	path string
	*logical
}

// maxSampleFiles bounds how many files are open at once.
const maxSampleFiles = 8

// ReadSample makes a sampleReader a series.Sampler.
func (r *sampleReader) ReadSample(_ context.Context, m *series.Member, p []byte, off int64) error {
	f, err := r.file(m.Rel)
	if err != nil {
		return err
	}
	_, err = f.ReadAt(p, off)
	return err
}

func (r *sampleReader) file(path string) (*sampleFile, error) {
	i := slices.IndexFunc(r.open, func(f *sampleFile) bool { return f.path == path })
	if i >= 0 {
		f := r.open[i]
		r.open = append(slices.Delete(r.open, i, i+1), f)
		return f, nil
	}
	l, err := openLogical(path)
	if err != nil {
		return nil, err
	}
	if len(r.open) == maxSampleFiles {
		_ = r.open[0].Close()
		r.open = slices.Delete(r.open, 0, 1)
	}
	f := &sampleFile{path, l}
	r.open = append(r.open, f)
	return f, nil
}

func (r *sampleReader) close() {
	for _, f := range r.open {
		_ = f.Close()
	}
}

// listSeries describes families, those of several files first.
func listSeries(families []series.Family) []seriesList {
	names := make(map[container.Generation]*series.Member)
	based := make(map[container.Generation]bool) // some file depends on it
	each := func(do func(*series.Member)) {
		for i := range families {
			for j := range families[i].Members {
				do(&families[i].Members[j])
			}
			for j := range families[i].Leaves {
				do(&families[i].Leaves[j].Member)
			}
		}
	}
	each(func(m *series.Member) {
		names[m.Generation] = m
		for _, b := range m.Bases {
			based[b.Generation] = true
		}
	})
	lists := []seriesList{}
	for i := range families {
		f := &families[i]
		newest := &f.Members[len(f.Members)-1]
		l := seriesList{Name: newest.Place, Format: newest.Format}
		for j := range f.Members {
			file := describeFile(&f.Members[j], names)
			if file.Form == formFull && based[f.Members[j].Generation] && j < len(f.Members)-1 {
				file.Form = formKeyframe
			}
			l.add(file)
		}
		for j := range f.Leaves {
			file := describeFile(&f.Leaves[j].Member, names)
			file.Relation = f.Leaves[j].Relation.String()
			l.add(file)
		}
		lists = append(lists, l)
	}
	slices.SortStableFunc(lists, func(x, y seriesList) int { return cmp.Compare(min(y.Count, 2), min(x.Count, 2)) })
	return lists
}

func (l *seriesList) add(f seriesFile) {
	l.Files = append(l.Files, f)
	l.Count++
	l.Logical += f.Logical
	l.Stored += f.Stored
	l.Ratio = total(store.Summary{Logical: l.Logical, Stored: l.Stored})
}

func describeFile(m *series.Member, names map[container.Generation]*series.Member) seriesFile {
	f := seriesFile{Path: m.Rel, Form: formFull, Bases: []string{}, Logical: m.Size, Stored: m.Stored,
		Ratio: total(store.Summary{Logical: m.Size, Stored: m.Stored}), Depth: depthOf(m, names, len(names))}
	if m.Step != series.NoStep {
		f.Step = &m.Step
	}
	for _, b := range m.Bases {
		f.Form = formDelta
		name := hex.EncodeToString(b.Generation[:])
		if base := names[b.Generation]; base != nil {
			name = base.Rel
		}
		f.Bases = append(f.Bases, name)
	}
	return f
}

// depthOf is the longest chain of bases behind m, as far as these are listed; most
// is longer than any that has no circle.
func depthOf(m *series.Member, names map[container.Generation]*series.Member, most int) int {
	depth := 0
	for _, b := range m.Bases {
		below := 0
		// The first base is the one with the longest chain.
		if base := names[b.Generation]; base != nil && most > 0 && depth == 0 {
			below = depthOf(base, names, most-1)
		}
		depth = max(depth, below+1)
	}
	return depth
}

func (a *app) printSeries(lists []seriesList) {
	var all seriesList
	n, alone := 0, 0
	for _, l := range lists {
		if l.Count == 1 {
			alone++
			continue
		}
		if n++; n > 1 {
			a.printf("\n")
		}
		a.printf("%s: %s, %s stored in %s, ratio %s\n", printable(l.Name), plural(l.Count, "file"), human(l.Logical), human(l.Stored), ratioText(l.Ratio))
		t := &table{right: []bool{true, false, true, true, true, true, false}}
		t.add("STEP", "FORM", "DEPTH", "LOGICAL", "STORED", "RATIO", "PATH")
		for _, f := range l.Files {
			step := "-"
			if f.Step != nil {
				step = strconv.FormatInt(*f.Step, 10)
			}
			form := f.Form
			if f.Relation != "" {
				form += " " + f.Relation
			}
			t.add(step, form, strconv.Itoa(f.Depth), human(f.Logical), human(f.Stored), ratioText(f.Ratio), printable(f.Path))
			all.Count++
			all.Logical, all.Stored = all.Logical+f.Logical, all.Stored+f.Stored
		}
		t.print(a.out)
	}
	if n > 1 {
		a.printf("\n%d series: %s, %s stored in %s, ratio %s\n", n, plural(all.Count, "file"), human(all.Logical), human(all.Stored),
			ratioText(total(store.Summary{Logical: all.Logical, Stored: all.Stored})))
	}
	if alone > 0 {
		if n > 0 {
			a.printf("\n")
		}
		verb := "belong"
		if alone == 1 {
			verb = "belongs"
		}
		a.printf("%s %s to no series\n", plural(alone, "file"), verb)
	}
}
