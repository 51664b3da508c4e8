package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store"
)

func (a *app) unpackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpack SRC DST",
		Short: "Copy a file or directory out of containers, without a mount",
		Long: `unpack copies SRC, a file or a directory that holds containers, to DST, with every
file as it was before it was stored. Every frame is checked; the first damaged one
ends it with a message that names it. DST must not exist yet. SRC stays.

A file gets its name when it is complete and durable; until then its name begins
with .mithrilfs-part. Interrupted, it removes what is not complete.`,
		Example: `  mithrilfs unpack packed.safetensors model.safetensors
  mithrilfs unpack run42.packed run42`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.unpack(args[0], args[1])
		},
	}
}

func (a *app) unpack(src, dst string) error {
	ctx, stop := untilInterrupted()
	defer stop()
	p := newProgress(a.stderr, 0)
	err := store.Unpack(ctx, src, dst, p.add)
	p.clear()
	if err != nil {
		return err
	}
	size, err := plainSize(dst)
	if err != nil {
		return fmt.Errorf("after unpacking: %w", err)
	}
	a.printf("%s: %s\n", printable(dst), human(size))
	return nil
}
