package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

func (a *app) packCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pack SRC DST",
		Short: "Copy a file or directory into containers, without a mount",
		Long: `pack copies SRC, a file or a directory, to DST, as saving it through a mount would
store it: files that hold tensors become containers, all else stays as it is. Modes
and modification times are kept, symbolic links are copied as links. DST must not
exist yet. SRC stays.

A file gets its name when it is complete and durable; until then its name begins
with .mithrilfs-part. Interrupted, it removes what is not complete.`,
		Example: `  mithrilfs pack model.safetensors packed.safetensors
  mithrilfs pack run42 run42.packed && mithrilfs verify run42.packed`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.pack(args[0], args[1])
		},
	}
}

func (a *app) pack(src, dst string) error {
	if err := outsideMount(dst); err != nil {
		return err
	}
	size, err := plainSize(src)
	if err != nil {
		return err
	}
	ctx, stop := untilInterrupted()
	defer stop()
	p := newProgress(a.stderr, size)
	err = store.Pack(ctx, src, dst, store.Options{}, p.add)
	p.clear()
	if err != nil {
		return err
	}
	s, n, err := sum(dst)
	if err != nil {
		return err
	}
	a.printf("%s: %s, %s stored in %s, ratio %s\n", printable(dst), plural(n, "file"), human(s.Logical), human(s.Stored), ratioText(total(s)))
	return nil
}

// plainSize is how many bytes the files that path names have.
func plainSize(path string) (int64, error) {
	names, err := files([]string{path}, true)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		n += st.Size()
	}
	return n, nil
}
