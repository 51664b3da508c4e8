package series

import (
	"time"

	"github.com/mithrilfs/mithrilfs/store/container"
)

// Key names a backing inode: number, device, and birth time, since filesystems
// give the number of a deleted file to the next one. It is a store.Key.
type Key struct {
	Device uint64
	Inode  uint64
	Born   int64 // nanoseconds, 0 where the filesystem does not keep it
}

// NoStep is the step of a file whose path names none.
const NoStep = -1

// Member is one sealed container that may belong to a series.
type Member struct {
	Rel        string // path below the backing directory, with slashes
	Key        Key
	Generation container.Generation // the last one: it names the content, in whatever form
	Size       int64                // logical bytes
	Stored     int64                // bytes of the backing file
	Mtime      time.Time
	Step       int64  // of training, by the path; or NoStep
	Place      string // the path without the step: "run/checkpoint-*/model.safetensors"
	Format     string // as package layout calls it
	Tensors    []container.Tensor
	Layout     Fingerprint // of Format and Tensors
	Bases      []container.Base
	Links      uint32 // names of the inode, without its pin
}

// Full says whether the member can be read without any other.
func (m *Member) Full() bool { return len(m.Bases) == 0 }

// fixed says whether the member must stay in the form that it has: a file that
// has several names is never replaced.
func (m *Member) fixed() bool { return m.Links > 1 }

// Relation is why a Leaf depends on a member of a family.
type Relation uint8

// The relations.
const (
	Copy   Relation = iota // of the same layout, and close to it: a copy, "best", "last"
	Export                 // the same elements in a narrower type
)

// String is the relation in one word.
func (r Relation) String() string {
	if r == Export {
		return "export"
	}
	return "copy"
}

// Leaf is a file that depends on a member of a family, and on which nothing
// depends.
type Leaf struct {
	Member
	Of       container.Generation // the member that it is closest to
	Relation Relation
}

// Family is one series of checkpoints of one run.
type Family struct {
	Members []Member // oldest first
	Leaves  []Leaf   // in the order of their paths
	// Gains are what bases are worth in this family: Gains[0] is the fraction by
	// which a member becomes smaller than its full form when it has one base, and
	// Gains[k] that by which the k+1st base makes it smaller still. A Gains[0] of 0
	// says that nothing was measured, and a Gains[2] of 0 that this was not.
	Gains [container.MaxBases]float64
}

// Files returns how many files belong to the family.
func (f *Family) Files() int { return len(f.Members) + len(f.Leaves) }
