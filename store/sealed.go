package store

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// sealed is a container that nobody writes. It need not be sealed: one that a
// killed daemon left is read as far as it goes.
type sealed struct{ r *container.Reader }

func (s *sealed) ReadAt(p []byte, off int64) (int, error) { return s.r.ReadAt(p, off) }
func (s *sealed) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	return s.r.ReadAtContext(ctx, p, off)
}
func (s *sealed) WriteAt([]byte, int64) (int, error) { return 0, unix.EBADF }
func (s *sealed) Truncate(int64) error               { return unix.EBADF }
func (s *sealed) size() int64                        { return s.r.Size() }
func (s *sealed) flush() error                       { return nil }
func (s *sealed) settle(bool) error                  { return nil }
func (s *sealed) reader() *container.Reader          { return s.r }
func (s *sealed) close()                             { s.r.Close() }
