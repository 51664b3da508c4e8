package store

import (
	"context"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// content is where a logical file's bytes are. The File that has it holds its
// lock: for writing, except for ReadAt, which runs beside other reads.
type content interface {
	// ReadAt fills p with bytes that are all within size.
	ReadAt(p []byte, off int64) (int, error)
	// ReadAtContext is ReadAt, or the error unix.EINTR.
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	size() int64
	// flush puts everything written so far into the backing file.
	flush() error
	// settle is flush and what makes the file whole for whoever opens it next,
	// a declared size among it. With seal, nobody is expected to write more.
	settle(seal bool) error
	// reader is the container's, nil for other contents.
	reader() *container.Reader
	close()
}
