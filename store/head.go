package store

import (
	"bytes"
	"context"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/layout"
)

const (
	// headMax is how many first bytes decide what a file is.
	headMax = 1 << 20
	// containerMin is the size below which a file stays plain.
	containerMin = 64 << 10
)

// head is a new file of which too little has been written to tell what it is.
// Its bytes are in memory; flush writes them to the backing file too, as a
// plain file has them.
type head struct {
	backing *backing
	buf     []byte
	length  int64 // logical size: len(buf), or more where it was declared
	through bool  // the backing file has bytes, or a length
}

// write takes as much of p as fits and belongs into the first headMax bytes.
func (h *head) write(p []byte, off int64) int {
	if off >= headMax || off > int64(len(h.buf)) {
		return 0 // a hole: not a file written from its beginning on
	}
	n := min(len(p), headMax-int(off))
	if end := int(off) + n; end > len(h.buf) {
		h.buf = append(h.buf, make([]byte, end-len(h.buf))...)
	}
	copy(h.buf[off:], p[:n])
	h.length = max(h.length, int64(len(h.buf)))
	return n
}

// decided says whether what is there suffices to tell.
func (h *head) decided() bool {
	if h.length < containerMin {
		return false
	}
	return len(h.buf) == headMax || layout.Early(h.buf, h.length)
}

// choose returns how the file is to be stored: nil for plain.
func (h *head) choose(src layout.Source) layout.Layout {
	if h.looksLikeContainer() {
		return layout.Bytes() // never plain, whatever its size
	}
	if h.length < containerMin {
		return nil
	}
	return layout.Detect(h.buf, src)
}

// looksLikeContainer says whether the file would be taken for a container if it
// were plain. What is declared counts: it becomes zeros.
func (h *head) looksLikeContainer() bool {
	return beginsLikeContainer(&edited{file: bytes.NewReader(h.buf)}, h.length) || endsLikeContainer(bytes.NewReader(h.buf), int64(len(h.buf)))
}

func (h *head) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(h.buf)) {
		n = copy(p, h.buf[off:])
	}
	clear(p[n:])
	return len(p), nil
}

// WriteAt takes a prefix of p; the File turns a head into something else when
// it takes less than all.
func (h *head) WriteAt(p []byte, off int64) (int, error) { return h.write(p, off), nil }

func (h *head) ReadAtContext(_ context.Context, p []byte, off int64) (int, error) {
	return h.ReadAt(p, off)
}

func (h *head) Truncate(size int64) error {
	if size < int64(len(h.buf)) {
		h.buf = h.buf[:size]
	}
	h.length = size
	if !h.through {
		return nil
	}
	st, err := h.backing.stat()
	if err != nil || size >= int64(st.Size) {
		return err // a longer one is declared only: settle makes it
	}
	return h.backing.Truncate(size)
}

func (h *head) size() int64 { return h.length }

func (h *head) flush() error {
	if len(h.buf) == 0 && !h.through {
		return nil
	}
	h.through = true
	_, err := h.backing.WriteAt(h.buf, 0)
	return err
}

// settle leaves the file plain, with its declared size.
func (h *head) settle(bool) error {
	if err := h.flush(); err != nil {
		return err
	}
	if h.length > int64(len(h.buf)) {
		h.through = true
		return h.backing.Truncate(h.length)
	}
	return nil
}

func (h *head) reader() *container.Reader { return nil }
func (h *head) close()                    {}
