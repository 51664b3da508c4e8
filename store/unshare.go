package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// A client may change a file whose inode is pinned. What dependents need is
// copied first, and the pin leads to the copy from then on. So the file keeps its
// inode, all its names and whoever has it open.

// unshare makes sure that no pin leads to the file's inode, the bytes of which are
// about to be changed. The caller holds mu.
func (f *File) unshare() error {
	s := f.store
	if s.pins.count.Load() == 0 {
		return nil
	}
	key, err := f.backing.inode()
	if err != nil || !s.pins.has(key) {
		return err
	}
	s.pins.change.Lock()
	defer s.pins.change.Unlock()
	for g, pinned := range s.pins.all() {
		if pinned != key {
			continue
		}
		if err := s.copyPin(g, f.backing); err != nil {
			return fmt.Errorf("copying what other checkpoints are coded against: %w", err)
		}
		s.counters.unshared.Add(1)
		s.log.Info("copied a base before an edit", "file", f.name)
	}
	return nil
}

// copyPin lets the pin g lead to a copy of the file from, as it is on the disk.
// The caller holds pins.change.
func (s *Store) copyPin(g container.Generation, from *backing) error {
	temp := s.tempPin()
	file, err := s.root.openFile(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	to := newBacking(file, s.root.sys)
	key, err := to.inode()
	old, oldErr := from.inode()
	if err = errors.Join(err, oldErr); err == nil {
		err = copyBacking(from, to)
	}
	if err == nil {
		err = to.sync(true)
	}
	if err != nil {
		return errors.Join(err, s.root.unlink(temp), to.close())
	}
	s.pins.mu.Lock()
	s.pins.link(key)
	s.pins.mu.Unlock()
	if err := s.renamePin(temp, key, g); err != nil {
		return errors.Join(err, to.close())
	}
	if err := s.syncDir(basesDir); err != nil {
		s.pins.mu.Lock()
		s.pins.put(g, old) // a power cut may bring it back, so nobody may change it yet
		s.pins.mu.Unlock()
		return errors.Join(err, to.close())
	}
	s.bases.moved(g, to)
	s.keeper.bases.moved(g, to)
	return to.close()
}

// copyBacking copies all bytes, by reference where the filesystem can.
func copyBacking(from, to *backing) error {
	if unix.IoctlFileClone(to.fd(), from.fd()) == nil {
		return nil
	}
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := from.ReadAt(buf, off)
		if n > 0 {
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				return err
			}
			off += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// openPin opens what the pin g leads to.
func (s *Store) openPin(g container.Generation) (*os.File, error) {
	return s.root.openFile(path.Clean(pinName(g)), unix.O_RDONLY|unix.O_NONBLOCK, 0)
}
