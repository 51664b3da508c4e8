package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// refusing is a system that does not open some names.
type refusing struct {
	kernel
	refuse func(name string) error
}

func (x *refusing) openat2(dirfd int, name string, how *unix.OpenHow) (int, error) {
	if err := x.refuse(name); err != nil {
		return -1, err
	}
	return x.kernel.openat2(dirfd, name, how)
}

// TestInterruptedOpeningOfBases: many bases on a disk that hangs, and clients who
// do not wait for them.
func TestInterruptedOpeningOfBases(t *testing.T) {
	hang := make(chan struct{})
	var reached sync.WaitGroup
	const many = maxIdleBases + 8
	reached.Add(many)
	x := &refusing{refuse: func(name string) error {
		if strings.HasPrefix(name, basesDir+"/") {
			reached.Done()
			<-hang
		}
		return nil
	}}
	s, err := Open(t.TempDir(), Options{sys: x, still: true})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if _, _, err := s.bases.Resolve(ctx, container.Generation{byte(i)}); !errors.Is(err, unix.EINTR) {
				t.Errorf("base %d: %v", i, err)
			}
		})
	}
	reached.Wait()
	cancel()
	all.Wait()
	close(hang)
	eventually(t, func() bool {
		s.bases.mu.Lock()
		defer s.bases.mu.Unlock()
		return len(s.bases.m) == 0
	})
	must(t, s.Close())
}

// TestBaseOfOpenFile: who has a file open reads on, whatever becomes of its bases:
// of one that was coded anew, the old form may be in use, and what that needs.
func TestBaseOfOpenFile(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	files := make(map[string][]byte)
	for i, data := range savesOf(t, 1, 3) {
		files[fmt.Sprintf("ck%d", i)] = data
		storeFile(t, s, fmt.Sprintf("ck%d", i), data)
	}
	// The first frame of ck1 is full, and the second one needs ck2.
	d := alike(logOf(t, s, "ck1"), logOf(t, s, "ck2"))
	half := (d.Segments[0].Begin + d.Segments[0].End) / 2
	d.Segments[0].Begin, d.Segments[0].Offset = half, half
	_, err = s.keeper.recoding().recode(memberOf(t, s, "ck1"), []member{memberOf(t, s, "ck2")}, d, 1<<40)
	must(t, err)
	must(t, recode(t, s, "ck0", "ck1"))
	held, err := s.Open(context.Background(), "ck0", Read)
	must(t, err)
	b := make([]byte, 1000)
	_, err = held.ReadAt(b, 10_000)
	must(t, err)
	must(t, recode(t, s, "ck1"))
	must(t, s.Unlink("ck2"))
	s.keeper.tidy()
	at := int64(len(files["ck0"]) - 1000)
	if _, err := held.ReadAt(b, at); err != nil || !bytes.Equal(b, files["ck0"][at:]) {
		t.Errorf("who has ck0 open reads something else: %v", err)
	}
	must(t, held.Release(false))
	s.keeper.tidy()
	if n := len(pinsOf(t, s.Path())); n != 1 {
		t.Errorf("there are %d pins", n)
	}
}

// TestReplacedBasesTakeNoSpace: the former inodes of what was coded anew are not
// kept by whoever was its dependent's reader once.
func TestReplacedBasesTakeNoSpace(t *testing.T) {
	s, files := chain(t, Options{}, 3)
	defer func() { must(t, s.Close()) }()
	expect(t, s, files)
	data := savesOf(t, 1, 4)[3]
	storeFile(t, s, "run/ck3", data)
	must(t, recode(t, s, "run/ck2", "run/ck3"))
	for _, name := range openButGone(t, s.Path()) {
		t.Errorf("open, though it has no name: %s", name)
	}
}

// openButGone lists what this process has open below dir and has no name.
func openButGone(t *testing.T, dir string) (gone []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		name, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(name, dir+"/") && strings.HasSuffix(name, " (deleted)") {
			gone = append(gone, name)
		}
	}
	return gone
}
