package main

import (
	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/fs"
)

func (a *app) umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "Unmount, and wait until everything is written",
		Long: `umount ends the mount at MOUNTPOINT and returns when every file is sealed and the
backing directory is free. It works for the user who mounted and for root, and also
where the process that served the mount is gone. With files open in the mount it
changes nothing and ends with code 4.`,
		Example:           `  mithrilfs umount ckpt`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirs,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := fs.Unmount(args[0]); err != nil {
				return mountError{err}
			}
			return nil
		},
	}
}

func completeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}
