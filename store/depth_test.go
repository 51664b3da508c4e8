package store

import (
	"fmt"
	"testing"
)

// TestLongestChain: the end of the longest chain that can be asked for reads, and
// so does one that is twice as long.
func TestLongestChain(t *testing.T) {
	s, err := Open(t.TempDir(), Options{still: true, Series: SeriesOptions{Depth: 255}})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	depth := s.keeper.options.Depth
	r := newRun(t, 3, 40<<10)
	files := make(map[string][]byte)
	for i := range 2*depth + 1 {
		name := fmt.Sprintf("ck%d", i)
		files[name] = r.save()
		r.step()
		storeFile(t, s, name, files[name])
		if i > 0 {
			must(t, recode(t, s, fmt.Sprintf("ck%d", i-1), name))
		}
	}
	expect(t, s, map[string][]byte{"ck0": files["ck0"]})
}
