package main

import (
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// privateDir is where a backing directory keeps what is not a logical file.
const privateDir = ".mithrilfs"

// files lists the files that paths name: a directory stands for the regular
// files in it, sorted, and with recursive for those below it too. What can't be
// listed is left out and told in the error.
func files(paths []string, recursive bool) ([]string, error) {
	var list []string
	var errs []error
	for _, path := range paths {
		st, err := os.Stat(path)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !st.IsDir():
			list = append(list, path)
		default:
			below, err := filesBelow(path, recursive)
			list, errs = append(list, below...), append(errs, err)
		}
	}
	return list, errors.Join(errs...)
}

func filesBelow(dir string, recursive bool) ([]string, error) {
	var list []string
	var errs []error
	root := dir
	if st, err := os.Lstat(dir); err == nil && st.Mode()&os.ModeSymlink != 0 {
		root += "/" // WalkDir follows no link otherwise
	}
	err := filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		path = filepath.Clean(path)
		switch {
		case err != nil:
			errs = append(errs, err)
			if d != nil && d.IsDir() {
				return iofs.SkipDir
			}
		case d.IsDir() && path != filepath.Clean(dir) && (!recursive || d.Name() == privateDir):
			return iofs.SkipDir
		case d.Type().IsRegular():
			list = append(list, path)
		}
		return nil
	})
	return list, errors.Join(append(errs, err)...)
}
