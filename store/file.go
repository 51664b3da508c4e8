package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
	"github.com/mithrilfs/mithrilfs/store/patience"
)

// File is a logical file that someone has open: one for each backing inode,
// shared by all openers. All methods are safe for concurrent use; a write is
// whole for every read that begins after it.
type File struct {
	store   *Store
	key     Key
	name    string // as it was opened, for messages
	opens   int    // guarded by store.mu
	writers int    // guarded by store.mu

	inspected atomic.Pointer[snapshot]

	mu      rwLock // guards what follows
	backing *backing
	content content // nil only while it is being opened, or could not be
	// mtime is the modification time that clients know, while frames that are
	// written later would change the backing's. Zero: the backing's is true.
	mtime unix.Timespec
	// at is the name in the store by which it was last opened or renamed. A
	// directory on the way may have been renamed since.
	at string
	// version counts what clients changed.
	version uint64
	// synced: an fsync promised that what is in the backing file stays there.
	synced bool
	lost   error // the sync that failed
	broken error // the write that failed since the file was emptied
	// replacing: the name still leads to the inode that was there before the
	// file was emptied, and backing is the sibling that will take its place.
	replacing *replacement
	// kept are inodes without a name that must not go as long as the file is
	// open: their number is the one that clients know.
	kept []*backing
	// dir is the directory in which the name is not durable yet, or nil.
	dir *os.File
}

// Name is the path by which the file was first opened.
func (f *File) Name() string { return f.name }

// Key names the backing inode.
func (f *File) Key() Key { return f.key }

// Size is the logical size.
func (f *File) Size() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.content.size()
}

// Changing says whether anybody has the file open for writing.
func (f *File) Changing() bool {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return f.writers > 0
}

// ReadAt fills p from off on, as io.ReaderAt has it.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return f.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext is ReadAt, or an error that matches unix.EINTR when ctx ended
// while the disk hung.
func (f *File) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	if err := f.mu.RLockContext(ctx); err != nil {
		return 0, f.fail("read", err)
	}
	defer f.mu.RUnlock()
	left := f.content.size() - off
	if left <= 0 {
		return 0, io.EOF
	}
	short := int64(len(p)) > left
	if short {
		p = p[:left]
	}
	n, err := f.content.ReadAtContext(ctx, p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, f.fail("read", err)
	}
	if short || n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// View returns n bytes from off on where they lie, if that can be, and nil where
// ReadAtContext must be used. Its errors are those of ReadAtContext.
func (f *File) View(ctx context.Context, off int64, n int) (*container.View, error) {
	if err := f.mu.RLockContext(ctx); err != nil {
		return nil, f.fail("read", err)
	}
	defer f.mu.RUnlock()
	s, ok := f.content.(*sealed)
	if !ok {
		return nil, nil
	}
	v, err := s.r.View(ctx, off, n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.fail("read", err)
	}
	return v, err
}

// WriteAt writes all of p at off. p is not kept.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	return f.WriteAtContext(context.Background(), p, off)
}

// WriteAtContext is WriteAt, or an error that matches unix.EINTR when ctx ended
// while the disk hung. Then the bytes may still be written, but before those of
// any later write.
func (f *File) WriteAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	if err := f.mu.LockContext(ctx); err != nil {
		return 0, f.fail("write", err)
	}
	if s, ok := f.content.(*saving); ctx.Done() == nil || ok && off == s.next && s.w.Modified() {
		defer f.mu.Unlock()
		return f.write(ctx, p, off)
	}
	own := ownBuffer(len(p))
	copy(own.B, p)
	return patience.Do(ctx, func(ctx context.Context) (int, error) {
		defer waiting.Put(own)
		defer f.mu.Unlock()
		return f.write(ctx, own.B, off)
	}, nil)
}

// write is WriteAt under the lock.
func (f *File) write(ctx context.Context, p []byte, off int64) (int, error) {
	if err := f.unshare(); err != nil {
		return 0, f.fail("write", err)
	}
	if len(p) >= savingLeast {
		f.store.written.Store(time.Now().UnixNano())
	}
	done := 0
	for done < len(p) {
		n, err := f.writeContent(ctx, p[done:], off+int64(done))
		done += n
		if errors.Is(err, ErrMagic) {
			err = f.goContainer() // and then it takes the write
		}
		if h, ok := f.content.(*head); ok && err == nil && (done < len(p) || h.decided()) {
			err = f.decide(h)
		}
		if err != nil {
			f.touch()
			if !errors.Is(err, unix.EINTR) { // a client that is interrupted knows what it has written
				f.broken = err
			}
			return done, f.fail("write", err)
		}
	}
	f.touch()
	if s, ok := f.content.(*saving); ok && s.bloated() {
		return done, f.fail("write", f.goPlain())
	}
	return done, nil
}

func (f *File) writeContent(ctx context.Context, p []byte, off int64) (int, error) {
	if s, ok := f.content.(*saving); ok {
		return s.WriteAtContext(ctx, p, off)
	}
	return f.content.WriteAt(p, off)
}

// touch notes that a client changed the file now.
func (f *File) touch() {
	f.version++
	f.mtime = unix.NsecToTimespec(time.Now().UnixNano())
}

// decide turns a head into what it has shown itself to be. The caller holds mu.
func (f *File) decide(h *head) error {
	w := container.Create(f.backing, f.store.cache, f.store.encoders)
	s := newSaving(w, 0)
	if f.store.durability == DurabilityRename {
		s.beforeIndex = func() error { return f.syncPromised(s) }
	}
	s.length = h.length
	s.layout = h.choose(&arriving{s, h})
	promised := f.synced && h.through
	if s.layout == nil || promised {
		w.Close()
		if promised && h.looksLikeContainer() {
			return f.goContainer()
		}
		return f.decidePlain(h)
	}
	if h.through {
		if err := f.backing.Truncate(0); err != nil {
			return err
		}
	}
	f.content = s
	f.backing.mark()
	f.store.log.Debug("writing a container", "file", f.name, "format", s.layout.Format())
	_, err := s.WriteAt(h.buf, 0)
	return err
}

// arriving is a layout.Source of a file whose head moves into a saving: the
// declared size counts from the beginning.
type arriving struct {
	*saving
	head *head
}

// Size is the declared size, or -1 when the head has all that is known.
func (a *arriving) Size() int64 {
	if a.saving.length > max(a.saving.next, int64(len(a.head.buf))) {
		return a.saving.length
	}
	return -1
}

func (f *File) decidePlain(h *head) error {
	if err := h.settle(true); err != nil {
		return err
	}
	f.content = newPlain(f.backing, 0)
	return nil
}

// decideEnough decides a head that is about to be put into the backing file,
// unless it is so small that it goes there as it is.
func (f *File) decideEnough() error {
	h, ok := f.content.(*head)
	if !ok || len(h.buf) < containerMin && !h.looksLikeContainer() {
		return nil
	}
	return f.decide(h)
}

// Truncate sets the logical size. To 0, it begins a new file.
func (f *File) Truncate(ctx context.Context, size int64) error {
	if size < 0 {
		return unix.EINVAL
	}
	err := f.mu.LockContext(ctx)
	if err != nil {
		return f.fail("truncate", err)
	}
	defer f.mu.Unlock()
	if err := f.unshare(); err != nil {
		return f.fail("truncate", err)
	}
	if size == 0 {
		err = f.restart()
	} else {
		err = f.plainly(func() error { return f.content.Truncate(size) })
	}
	if err != nil {
		return f.fail("truncate", err)
	}
	f.touch()
	return nil
}

// Allocate is fallocate(2) with mode 0 or, with keepSize, FALLOC_FL_KEEP_SIZE.
// Only a plain file can have its space reserved: what a compressed one will
// take is not known.
func (f *File) Allocate(ctx context.Context, off, length int64, keepSize bool) error {
	if off < 0 || length <= 0 || off > math.MaxInt64-length {
		return unix.EINVAL
	}
	err := f.mu.LockContext(ctx)
	if err != nil {
		return f.fail("fallocate", err)
	}
	defer f.mu.Unlock()
	if err := f.unshare(); err != nil {
		return f.fail("fallocate", err)
	}
	err = f.plainly(func() error {
		if p, ok := f.content.(*plain); ok {
			return p.allocate(off, length, keepSize)
		}
		if !keepSize && off+length > f.content.size() {
			return f.content.Truncate(off + length)
		}
		return nil
	})
	if err != nil {
		return f.fail("fallocate", err)
	}
	f.touch()
	return nil
}

// restart makes the file empty and new. The caller holds mu.
func (f *File) restart() error {
	if err := f.unshare(); err != nil {
		return err
	}
	if s, ok := f.content.(*saving); ok {
		_ = s.w.Drain() // what is on its way must not arrive afterwards
	}
	if err := f.backing.Truncate(0); err != nil {
		return err
	}
	if f.content != nil {
		f.content.close()
	}
	f.backing.unmark()
	f.content = &head{backing: f.backing}
	f.synced, f.lost, f.broken = false, nil, nil
	f.touch()
	return nil
}

// Flush puts everything written so far into the backing file and reports what
// went wrong with it. It is for every close of a descriptor, of which there can
// be many before the last.
func (f *File) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail("write", f.keepTimes(func() error {
		if err := f.decideEnough(); err != nil {
			return err
		}
		return f.content.flush()
	}))
}

// Sync makes everything written so far durable, and with metadata the times
// and the mode too.
func (f *File) Sync(metadata bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.keepTimes(func() error {
		if err := f.decideEnough(); err != nil {
			return err
		}
		return f.content.settle(false)
	})
	if err == nil {
		err = f.syncBacking(metadata)
	}
	if err == nil {
		err = f.publish()
	}
	if err == nil {
		err = f.syncName()
	}
	f.synced = f.synced || err == nil
	return f.fail("sync", err)
}

// lostError is the sync that failed: what it lost must not get a name.
func (f *File) lostError() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.fail("sync", f.lost)
}

// syncPromised makes the frames of a new file durable before its index, if what
// was there before them may not be lost: an fsync has promised it, or it was
// sealed, before a rename perhaps. The caller holds mu.
func (f *File) syncPromised(s *saving) error {
	if !f.synced && !s.sealed {
		return nil
	}
	return f.syncBacking(false)
}

// syncBacking fails for ever once it has failed: the kernel reports lost pages
// once, and forgets them.
func (f *File) syncBacking(metadata bool) error {
	if f.lost == nil {
		if f.lost = f.backing.sync(metadata); f.lost != nil {
			f.store.counters.syncFailures.Add(1)
		}
	}
	return f.lost
}

// Seal makes the file whole for whoever opens it next. Writing may go on.
func (f *File) Seal() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.content == nil {
		return nil // it could not be opened
	}
	seal := func() error {
		if h, ok := f.content.(*head); ok {
			if err := f.decide(h); err != nil {
				return err
			}
		}
		if err := f.content.settle(true); err != nil {
			return err
		}
		return f.publish()
	}
	return f.fail("seal", f.keepCtime(func() error { return f.keepTimes(seal) }))
}

// keepTimes runs do, which writes to the backing file what clients wrote
// before, and then sets the modification time that clients know.
func (f *File) keepTimes(do func() error) error {
	if f.mtime == (unix.Timespec{}) {
		return do() // nothing was written, so nothing changes
	}
	err := do()
	if e := f.backing.setMtime(f.mtime); err == nil && e != nil {
		f.store.log.Warn("can't keep the modification time", "file", f.name, "error", e)
	}
	return err
}

// Release ends one Open or Create. The last writer's seals the file.
func (f *File) Release(write bool) error {
	var err error
	if write {
		f.store.mu.Lock()
		f.writers--
		last := f.writers == 0
		f.store.mu.Unlock()
		if last {
			err = f.Seal()
			f.sealed(err)
			if err == nil {
				f.reconsider()
			}
		}
	}
	f.store.drop(f)
	return err
}

// sealed notes how the seal at the last close ended, or the sync before that
// failed.
func (f *File) sealed(err error) {
	f.store.failures.note(f.key, errors.Join(err, f.lostError()))
	if err != nil {
		f.store.counters.sealFailures.Add(1)
	} else {
		f.store.counters.sealed.Add(1)
		f.store.keeper.wake()
	}
}

// Info describes the file as it is now.
func (f *File) Info() (Info, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	st, err := f.store.statVisible(f.backing)
	if err != nil {
		return Info{}, f.fail("stat", err)
	}
	i := infoOf(&st)
	i.Key = f.key
	f.store.show(&i)
	i.setSize(f.content.size())
	if f.mtime != (unix.Timespec{}) {
		i.Mtime = unix.StatxTimestamp{Sec: f.mtime.Sec, Nsec: uint32(f.mtime.Nsec)}
	}
	return i, nil
}

// fail names the file in an error. For a damaged frame it names the tensor too.
func (f *File) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	var pathErr *os.PathError
	if errors.As(err, &pathErr) && !errors.Is(err, container.ErrBase) { // that is about another file
		err = pathErr.Err
	}
	var damage *container.DamageError
	if errors.As(err, &damage) && damage.Frame != nil {
		if r := f.content.reader(); r != nil {
			if t := tensorsOf(r.Log().Tensors, damage.Frame); t != "" {
				return fmt.Errorf("%s %s: tensor %s: %w", op, f.name, t, err)
			}
		}
	}
	return fmt.Errorf("%s %s: %w", op, f.name, err)
}
