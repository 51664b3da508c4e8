package store

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/series"
)

// samples reads pieces of containers, to find out which of them belong together.
// It takes no lock of theirs: what a client changes meanwhile does not match its
// checksum, or what the census found.
type samples struct {
	store *Store
	cache *container.Cache
	open  map[container.Generation]*sampled
}

type sampled struct {
	reader  *container.Reader
	backing *backing
}

// maxSampled bounds how many containers are open at once.
const maxSampled = 16

var _ series.Sampler = (*samples)(nil)

// ReadSample fills p with logical bytes of a member.
func (x *samples) ReadSample(ctx context.Context, m *series.Member, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := x.open[m.Generation]
	if o == nil {
		if len(x.open) >= maxSampled {
			x.close()
		}
		var err error
		if o, err = x.openMember(m); err != nil {
			return err
		}
		x.open[m.Generation] = o
	}
	return readWhole(o.reader, p, off)
}

func (x *samples) openMember(m *series.Member) (*sampled, error) {
	f, err := x.store.root.openFile(m.Rel, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	b := newBacking(f, x.store.root.sys)
	st, err := b.stat()
	if err == nil && keyOf(&st) != Key(m.Key) {
		err = errChanged
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	r, err := container.Open(b, int64(st.Size), x.cache)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return &sampled{r, b}, nil
}

// close closes all containers.
func (x *samples) close() {
	for _, o := range x.open {
		o.reader.Close()
		_ = o.backing.close() // opened for reading
	}
	clear(x.open)
}
