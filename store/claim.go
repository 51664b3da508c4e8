package store

import (
	"os"
	"path/filepath"
)

// claim makes the directory known as a Store's, for UsedAsBacking.
func (s *Store) claim() {
	if err := s.root.mkdirs(privateDir); err != nil {
		s.log.Debug("can't mark the directory as a backing directory", "error", err)
	}
}

// UsedAsBacking says whether a directory is a Store's: one that was packed, or was
// mounted and something saved there.
func UsedAsBacking(dir string) bool {
	st, err := os.Lstat(filepath.Join(dir, privateDir))
	return err == nil && st.IsDir()
}
