package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Options are what a Store can be told. The zero value is a writable store
// that logs nothing.
type Options struct {
	ReadOnly   bool
	Logger     *slog.Logger // nil: nothing is logged
	Workers    int          // frames encoded at once; 0: one a processor
	CacheBytes int64        // decoded frames kept for readers; 0: 64 MiB
	QueueBytes int64        // logical and encoded bytes waiting to be written; 0: 48 MiB
	Durability Durability
	Series     SeriesOptions

	sys   system // nil: the kernel
	still bool   // the keeper does only what a test tells it to
}

// Durability says what the store makes durable on its own account.
type Durability uint8

const (
	// DurabilityRename makes a file durable before it replaces another one, by
	// rename or by O_TRUNC.
	DurabilityRename Durability = iota
	// DurabilityFsync leaves it to clients, who call fsync.
	DurabilityFsync
)

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.sys == nil {
		o.sys = kernel{}
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 48 << 20
	}
}

// Store is a backing directory in use. All methods are safe for concurrent
// use.
type Store struct {
	root     *root
	readOnly bool
	log      *slog.Logger
	cache    *container.Cache
	encoders *container.Encoders
	sizes    sizes
	ids      identities
	failures failures
	counters counters
	orphans  orphans
	pins     pins
	bases    bases
	keeper   *keeper
	// dependents are the inodes of all files that need pins, nil while they are
	// not known.
	dependents atomic.Pointer[map[Key]bool]

	// moves counts names that clients gave or changed: a census meanwhile may have
	// missed what had them.
	moves      atomic.Uint64
	written    atomic.Int64 // when a client last wrote much at once, in nanoseconds of the epoch
	workers    int          // of Options
	undurable  atomic.Bool  // a sync failed on which letting go of bases depends
	unpinnable atomic.Bool  // hard links can't be made, and the log says so
	missing    atomic.Bool  // a pin was not there, and nobody has looked for its content
	durability Durability
	instance   string // of this process, in the names of siblings

	// names is held for writing while the store itself lets a file take
	// another's name, and for reading by what clients do to names.
	names sync.RWMutex

	background sync.WaitGroup // files that are being stored anew

	mu      sync.Mutex // guards what follows, and File.opens and File.writers
	files   map[Key]*File
	closing bool // nothing new is begun in the background
	hurry   bool // and what was begun is given up
}

// Open opens a directory. Unless it is read-only, no other Store may have it
// open: the error is ErrInUse.
func Open(dir string, o Options) (*Store, error) {
	o.setDefaults()
	r, err := openRoot(o.sys, dir)
	if err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if err := errors.Join(inside(dir), lock(r)); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	s := &Store{
		root: r, readOnly: o.ReadOnly, log: o.Logger, durability: o.Durability, instance: instance(), workers: o.Workers,
		cache:    container.NewCache(o.CacheBytes),
		encoders: container.NewEncoders(o.Workers, o.QueueBytes),
		files:    make(map[Key]*File),
	}
	s.bases.store, s.bases.cache = s, s.cache
	s.cache.SetResolver(&s.bases)
	s.keeper = newKeeper(s, o.Series)
	if err := s.loadPins(); err != nil {
		if !o.ReadOnly {
			return nil, errors.Join(fmt.Errorf("looking for what files depend on: %w (read-only it can be used)", err), r.close())
		}
		s.log.Warn("can't look for pinned bases", "error", err)
	}
	if !o.ReadOnly {
		s.recover()
		if !o.still {
			s.keeper.start()
		}
	}
	return s, nil
}

// inside is an error for a directory of which one above has pins: some may lead to
// its files, and an edit would change in place what others are coded against.
func inside(dir string) error {
	above, err := dirsAbove(dir)
	if err != nil {
		return err
	}
	for _, at := range above {
		if pins, err := os.ReadDir(filepath.Join(at, basesDir)); err == nil && len(pins) > 0 {
			return fmt.Errorf("%s: %w: %s", dir, ErrInside, at)
		}
	}
	return nil
}

// lock takes the directory for this process. The lock goes with the
// descriptor, so a daemon that dies leaves none behind.
func lock(r *root) error {
	err := unix.Flock(r.fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", r.path, ErrInUse)
	}
	return r.fail("lock", "", err)
}

// Close ends what goes on in the background, seals every file that is still
// open and closes the directory. The errors of all files are joined.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.keeper.close()
	s.background.Wait()
	s.orphans.close()
	err := s.SealAll()
	if s.counters.sealed.Load() > 0 {
		s.claim()
	}
	s.bases.dropAll()
	return errors.Join(err, s.root.close())
}

// Hurry gives up what goes on in the background, for a Close that must not take
// long. Nothing is lost by it: files stay as they are.
func (s *Store) Hurry() {
	s.keeper.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing, s.hurry = true, true
}

// stopped says whether nothing new is to be begun.
func (s *Store) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Store) hurried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hurry
}

// SealAll seals every file that is open. Writing to them may go on.
func (s *Store) SealAll() error {
	var errs []error
	for _, f := range s.holdAll() {
		errs = append(errs, f.Seal())
		s.drop(f)
	}
	return errors.Join(errs...)
}

// holdAll returns the open files, each held until drop.
func (s *Store) holdAll() []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]*File, 0, len(s.files))
	for _, f := range s.files {
		f.opens++
		open = append(open, f)
	}
	return open
}

// Path is the directory as the user named it.
func (s *Store) Path() string { return s.root.path }

// privateDir, at the root, is where the store keeps what is not a logical file.
const privateDir = ".mithrilfs"

// hidden says whether rel is not to be seen by clients.
func (s *Store) hidden(rel string) bool {
	return rel == privateDir || strings.HasPrefix(rel, privateDir+"/") ||
		strings.HasPrefix(path.Base(rel), siblingPrefix)
}

// writable is the error of any change to a read-only store or a hidden name.
func (s *Store) writable(op string, rels ...string) error {
	for _, rel := range rels {
		if s.hidden(rel) {
			return fmt.Errorf("%s %s: %w", op, s.root.name(rel), ErrHidden)
		}
		if s.readOnly {
			return fmt.Errorf("%s %s: %w", op, s.root.name(rel), ErrReadOnly)
		}
	}
	return nil
}
