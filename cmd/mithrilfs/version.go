package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// version is set by the linker.
var version string

// versionName is what was built, as well as it is known.
func versionName() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	return fmt.Sprintf("mithrilfs %s, container format %d, %s %s/%s", v, container.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and the container format that it writes",
		Long:    "version prints this program's version, the version of the container format that it\nreads and writes, and what it was built with.",
		Example: "  mithrilfs version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.printf("%s\n", versionName())
			return nil
		},
	}
}
