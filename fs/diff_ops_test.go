package fs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// op is one operation of a differential test. It says everything about itself,
// so that a list of operations can be cut, printed and played again.
type op struct {
	Op    string `json:"op"`
	Path  string `json:"path,omitempty"`
	To    string `json:"to,omitempty"`
	Slot  int    `json:"slot,omitempty"` // which open file
	Slot2 int    `json:"slot2,omitempty"`
	Map   int    `json:"map,omitempty"` // which mapping
	Flags string `json:"flags,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	Off   int64  `json:"off,omitempty"`
	Off2  int64  `json:"off2,omitempty"`
	N     int    `json:"n,omitempty"`
	Data  string `json:"data,omitempty"` // which of the corpora
	At    int    `json:"at,omitempty"`   // where in it
}

const (
	diffSlots = 6 // files that are open at once
	diffMaps  = 3 // and mappings
	diffLimit = 5 << 20
)

// flagBits are open's flags by name.
var flagBits = map[string]int{
	"RDONLY": unix.O_RDONLY, "WRONLY": unix.O_WRONLY, "RDWR": unix.O_RDWR, "CREAT": unix.O_CREAT, "EXCL": unix.O_EXCL,
	"TRUNC": unix.O_TRUNC, "APPEND": unix.O_APPEND, "SYNC": unix.O_SYNC, "DSYNC": unix.O_DSYNC,
	"DIRECTORY": unix.O_DIRECTORY, "NOFOLLOW": unix.O_NOFOLLOW, "NOATIME": unix.O_NOATIME,
	"NOREPLACE": unix.RENAME_NOREPLACE, "EXCHANGE": unix.RENAME_EXCHANGE,
	"KEEP_SIZE": unix.FALLOC_FL_KEEP_SIZE, "PUNCH_HOLE": unix.FALLOC_FL_PUNCH_HOLE, "ZERO_RANGE": unix.FALLOC_FL_ZERO_RANGE,
	"COLLAPSE_RANGE": unix.FALLOC_FL_COLLAPSE_RANGE, "INSERT_RANGE": unix.FALLOC_FL_INSERT_RANGE,
	"SHARED": unix.MAP_SHARED, "PRIVATE": unix.MAP_PRIVATE, "READ": unix.PROT_READ, "WRITE": unix.PROT_WRITE,
	"SH": unix.LOCK_SH, "EX": unix.LOCK_EX, "UN": unix.LOCK_UN, "NB": unix.LOCK_NB,
	"SYMLINK_FOLLOW": unix.AT_SYMLINK_FOLLOW,
}

// bits are the flags that o names.
func (o *op) bits() int {
	bits := 0
	for name := range strings.SplitSeq(o.Flags, "|") {
		bits |= flagBits[name]
	}
	return bits
}

// corpora are what files are filled with.
type corpora map[string][]byte

// slice is o's data.
func (c corpora) slice(o *op) []byte { return c[o.Data][o.At : o.At+o.N] }

func makeCorpora(t testing.TB) corpora {
	weights := realWeights(t)
	noise := make([]byte, 4<<20)
	r := rand.New(rand.NewPCG(4, 4))
	for i := 0; i < len(noise); i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], r.Uint64())
	}
	var text strings.Builder
	for i := 0; text.Len() < 3<<20; i++ {
		fmt.Fprintf(&text, `{"step": %d, "loss": %.4f, "lr": %.2e},`+"\n", i, 2.3*r.Float64(), r.Float64()/1e4)
	}
	c := corpora{"weights": weights, "text": []byte(text.String()), "noise": noise, "zeros": make([]byte, 4<<20)}
	for _, n := range []int{40 << 10, 100 << 10, 700 << 10, 2500 << 10} {
		c[fmt.Sprintf("model%dk", n>>10)] = mixedModel(weights, n)
	}
	c["container"] = sealedContainer(t, c["model700k"])
	return c
}

// mixedModel is a safetensors file of about n bytes with tensors of several
// types and odd sizes.
func mixedModel(weights []byte, n int) []byte {
	types := []struct {
		name string
		size int
	}{{"BF16", 2}, {"F32", 4}, {"BF16", 2}, {"I64", 8}, {"U8", 1}, {"F16", 2}}
	sizes := []int{384 * 384, 768, 10_000, 1, 77, 50_000}
	var entries []string
	at := 0
	for i := 0; at < n; i++ {
		typ := types[i%len(types)]
		count := min(sizes[i%len(sizes)], (n-at)/typ.size+1)
		end := at + count*typ.size
		entries = append(entries, fmt.Sprintf(`"t%d":{"dtype":"%s","shape":[%d],"data_offsets":[%d,%d]}`, i, typ.name, count, at, end))
		at = end
	}
	header := []byte("{" + strings.Join(entries, ",") + "}")
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), weights[:at]...)
}

// generator makes operations at random, most of them such that they succeed
// in the tree as it is.
type generator struct {
	r       *rand.Rand
	corpora corpora
	queue   []op // what is to come before anything else is chosen
	count   int

	// What there is now.
	files, dirs, links []string
	sizes              map[string]int64
	slots              []openSlot
	maps               []int
}

// openSlot is a slot with a file in it.
type openSlot struct {
	slot int
	size int64
}

func newGenerator(seed uint64, c corpora) *generator {
	return &generator{r: rand.New(rand.NewPCG(seed, 0x6d697468)), corpora: c}
}

// look takes in what there is, which is the same on both sides.
func (g *generator) look(s *side) {
	g.files, g.dirs, g.links = g.files[:0], append(g.dirs[:0], ""), g.links[:0]
	g.sizes = make(map[string]int64)
	for i := 0; i < len(g.dirs); i++ {
		for _, name := range s.names(g.dirs[i]) {
			rel := path.Join(g.dirs[i], name)
			var st unix.Stat_t
			if unix.Lstat(s.path(rel), &st) != nil {
				continue
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				g.dirs = append(g.dirs, rel)
			case unix.S_IFLNK:
				g.links = append(g.links, rel)
			case unix.S_IFREG:
				g.files = append(g.files, rel)
				g.sizes[rel] = st.Size
			}
		}
	}
	g.slots, g.maps = g.slots[:0], g.maps[:0]
	for i, fd := range s.slots {
		var st unix.Stat_t
		if fd >= 0 && unix.Fstat(fd, &st) == nil {
			g.slots = append(g.slots, openSlot{i, st.Size})
		}
	}
	for i, m := range s.maps {
		if m != nil {
			g.maps = append(g.maps, i)
		}
	}
}

// choices are the operations with their weights.
var choices = []struct {
	weight int
	make   func(*generator) op
}{
	{100, (*generator).open},
	{50, (*generator).close},
	{180, (*generator).pwrite},
	{60, func(g *generator) op {
		s := g.slot()
		return g.data(op{Op: "write", Slot: s.slot}, g.length())
	}},
	{80, func(g *generator) op {
		s := g.slot()
		return op{Op: "pread", Slot: s.slot, Off: g.offset(s.size), N: g.length()}
	}},
	{30, func(g *generator) op { return op{Op: "read", Slot: g.slot().slot, N: g.length()} }},
	{20, func(g *generator) op {
		s := g.slot()
		return op{Op: "seek", Slot: s.slot, N: g.r.IntN(3), Off: g.offset(s.size) - int64(g.r.IntN(2))*s.size}
	}},
	{15, func(g *generator) op {
		s := g.slot()
		return op{Op: pick(g, "seekdata", "seekhole"), Slot: s.slot, Off: g.offset(s.size)}
	}},
	{40, func(g *generator) op {
		s := g.slot()
		return op{Op: "ftruncate", Slot: s.slot, Off: g.newSize(s.size)}
	}},
	{40, func(g *generator) op {
		p := g.file()
		return op{Op: "truncate", Path: p, Off: g.newSize(g.sizes[p])}
	}},
	{20, func(g *generator) op { return op{Op: pick(g, "fsync", "fdatasync"), Slot: g.slot().slot} }},
	{6, func(g *generator) op { return op{Op: "fsyncdir", Path: g.dir()} }},
	{60, (*generator).rename},
	{25, func(g *generator) op {
		return op{Op: "link", Path: g.any(), To: g.fresh(), Flags: pick(g, "", "", "SYMLINK_FOLLOW")}
	}},
	{15, func(g *generator) op { return op{Op: "symlink", Path: g.fresh(), To: path.Base(g.any())} }},
	{8, func(g *generator) op { return op{Op: "readlink", Path: g.any()} }},
	{25, func(g *generator) op { return op{Op: "unlink", Path: g.any()} }},
	{12, func(g *generator) op { return op{Op: "rmdir", Path: g.dirOrAny()} }},
	{25, func(g *generator) op {
		return op{Op: "mkdir", Path: g.dirName(), Mode: pick[uint32](g, 0o755, 0o700, 0o1777, 0o2775)}
	}},
	{5, func(g *generator) op { return op{Op: "mkfifo", Path: g.fresh(), Mode: 0o640} }},
	{3, func(g *generator) op {
		return op{Op: "mknod", Path: g.fresh(), Mode: pick[uint32](g, unix.S_IFSOCK, unix.S_IFREG) | 0o600}
	}},
	{4, func(g *generator) op { // a file that is open, or a directory, is about to lose its name
		return op{Op: "open", Slot: g.r.IntN(diffSlots), Path: g.dirOrAny(), Flags: "RDONLY"}
	}},
	{15, func(g *generator) op { return op{Op: "chmod", Path: g.any(), Mode: g.mode()} }},
	{8, func(g *generator) op { return op{Op: "fchmod", Slot: g.slot().slot, Mode: g.mode()} }},
	{8, func(g *generator) op {
		return op{Op: "chown", Path: g.any(), Off: pick[int64](g, -1, 0, 1000, 65534), Off2: pick[int64](g, -1, 0, 1000)}
	}},
	{15, func(g *generator) op { return op{Op: "utimens", Path: g.any(), Off: g.time(), Off2: g.time()} }},
	{10, func(g *generator) op { return op{Op: "futimens", Slot: g.slot().slot, Off: g.time(), Off2: g.time()} }},
	// All attributes of a file fit, or one alone does not: ext4 has room for some
	// 4 KiB, of which a mount's mark takes a little.
	{12, func(g *generator) op {
		return g.data(op{Op: "setxattr", Path: g.any(), To: g.attribute(), Mode: pick[uint32](g, 0, 0, 1, 2)}, pick(g, 0, 1, 20, 300, 600, 5000))
	}},
	{5, func(g *generator) op {
		return g.data(op{Op: "fsetxattr", Slot: g.slot().slot, To: g.attribute()}, pick(g, 0, 1, 20, 300))
	}},
	{5, func(g *generator) op {
		return op{Op: "getxattr", Path: g.any(), To: g.attribute(), N: pick(g, 0, 10, 4096)}
	}},
	{3, func(g *generator) op { return op{Op: "fgetxattr", Slot: g.slot().slot, To: g.attribute(), N: 4096} }},
	{3, func(g *generator) op { return op{Op: "listxattr", Path: g.any(), N: pick(g, 0, 10, 4096)} }},
	{5, func(g *generator) op { return op{Op: "removexattr", Path: g.any(), To: g.attribute()} }},
	{20, func(g *generator) op { return op{Op: "dupclose", Slot: g.slot().slot} }},
	{10, func(g *generator) op { return op{Op: "dup", Slot: g.slot().slot, Slot2: g.r.IntN(diffSlots)} }},
	{2, func(g *generator) op { return op{Op: "fork", Slot: g.slot().slot, N: g.r.IntN(2)} }},
	{30, func(g *generator) op {
		s := g.slot()
		n := max(1, int(min(s.size, 2<<20)))
		return op{Op: "mmap", Slot: s.slot, Map: g.r.IntN(diffMaps), N: 1 + g.r.IntN(n), Off: g.r.Int64N(s.size/4096+1) * 4096,
			Flags: pick(g, "SHARED|READ|WRITE", "SHARED|READ|WRITE", "SHARED|READ", "PRIVATE|READ", "PRIVATE|READ|WRITE")}
	}},
	{60, func(g *generator) op {
		return g.data(op{Op: "store", Map: g.mapping(), Off: g.r.Int64N(1 << 20)}, min(g.length(), 300<<10))
	}},
	{30, func(g *generator) op {
		return op{Op: "load", Map: g.mapping(), Off: g.r.Int64N(1 << 20), N: g.length()}
	}},
	{15, func(g *generator) op { return op{Op: "msync", Map: g.mapping()} }},
	{30, func(g *generator) op { return op{Op: "munmap", Map: g.mapping()} }},
	{12, func(g *generator) op {
		s := g.slot()
		return op{Op: "fallocate", Slot: s.slot, Off: min(g.offset(s.size), 3<<20), N: g.length(), Flags: pick(g, "", "", "KEEP_SIZE")}
	}},
	{6, func(g *generator) op {
		s := g.slot()
		return op{Op: "refusedfallocate", Slot: s.slot, Off: g.offset(s.size) &^ 4095, N: 4096 * (1 + g.r.IntN(8)),
			Flags: pick(g, "PUNCH_HOLE|KEEP_SIZE", "ZERO_RANGE", "ZERO_RANGE|KEEP_SIZE", "COLLAPSE_RANGE", "INSERT_RANGE")}
	}},
	{3, func(g *generator) op { return op{Op: "tmpfile", Path: g.dirOrAny(), Mode: 0o600} }},
	{4, func(g *generator) op { return op{Op: "clone", Slot: g.slot().slot, Slot2: g.slot().slot} }},
	{15, func(g *generator) op {
		from, to := g.slot(), g.slot()
		return op{Op: "copyrange", Slot: from.slot, Off: g.offset(from.size), Slot2: to.slot, Off2: g.offset(to.size), N: g.length()}
	}},
	{8, func(g *generator) op {
		return op{Op: "sendfile", Slot: g.slot().slot, Slot2: g.slot().slot, N: g.length()}
	}},
	{8, func(g *generator) op {
		return op{Op: "flock", Slot: g.slot().slot, Flags: pick(g, "SH|NB", "EX|NB", "UN")}
	}},
	{8, func(g *generator) op {
		return op{Op: "ofdlock", Slot: g.slot().slot, N: pick(g, unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK), Off: g.r.Int64N(3) * 100}
	}},
	{40, (*generator).save},
	{8, func(g *generator) op { return op{Op: "check"} }},
	{3, func(g *generator) op { return op{Op: "remount"} }},
}

var choicesTotal = func() int {
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	return total
}()

// checkEvery is how many operations there are at most between two comparisons
// of everything.
const checkEvery = 120

// next makes one operation. s is the side that shows what there is.
func (g *generator) next(s *side) op {
	g.count++
	if g.count%checkEvery == 0 {
		return op{Op: "check"}
	}
	if len(g.queue) > 0 {
		o := g.queue[0]
		g.queue = g.queue[1:]
		return o
	}
	g.look(s)
	if len(g.files) > 20 && g.r.IntN(2) == 0 {
		return op{Op: "unlink", Path: pick(g, g.files...)}
	}
	if len(g.slots) == 0 && g.r.IntN(3) > 0 {
		return g.open()
	}
	n := g.r.IntN(choicesTotal)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.make(g)
		}
	}
	panic("not reached")
}

func pick[T any](g *generator, from ...T) T { return from[g.r.IntN(len(from))] }

// data gives o something to write.
func (g *generator) data(o op, n int) op {
	o.Data = pick(g, "weights", "weights", "model100k", "model700k", "model2500k", "text", "noise", "zeros", "container", "container")
	all := len(g.corpora[o.Data])
	o.N = min(n, all)
	if g.r.IntN(3) > 0 {
		o.At = g.r.IntN(all - o.N + 1)
	}
	return o
}

// length is how much to read or write: most is little.
func (g *generator) length() int {
	switch g.r.IntN(12) {
	case 0, 1, 2:
		return 1 + g.r.IntN(16)
	case 3, 4, 5:
		return 1 + g.r.IntN(5000)
	case 6, 7:
		return 4096 * (1 + g.r.IntN(16))
	case 8:
		return 256<<10 + g.r.IntN(5) - 2
	case 9, 10:
		return 1 + g.r.IntN(1500<<10)
	case 11:
		return g.r.IntN(2) * 64 << 10
	}
	return 1 + g.r.IntN(200_000)
}

// offset is somewhere in a file of that size, or past its end.
func (g *generator) offset(size int64) int64 {
	off := int64(0)
	switch g.r.IntN(12) {
	case 0, 1:
	case 2, 3:
		off = size
	case 4:
		off = size + g.r.Int64N(9) - 4
	case 5:
		off = size + g.r.Int64N(400_000)
	case 6:
		off = g.r.Int64N(8)*256<<10 + g.r.Int64N(5) - 2
	case 7:
		off = g.r.Int64N(size/4096+2) * 4096
	case 8:
		off = 64<<10 + g.r.Int64N(5) - 2
	case 9:
		off = 1<<20 + g.r.Int64N(5) - 2
	default:
		off = g.r.Int64N(size + 1)
	}
	return max(0, min(off, diffLimit))
}

// newSize is what to truncate to.
func (g *generator) newSize(size int64) int64 {
	switch g.r.IntN(40) {
	case 0:
		return -1
	case 1:
		return 1 << 62 // no filesystem can
	case 2, 3:
		return 0
	case 8, 9:
		return size
	}
	return g.offset(size)
}

func (g *generator) slot() openSlot {
	if len(g.slots) == 0 {
		return openSlot{slot: g.r.IntN(diffSlots)}
	}
	return pick(g, g.slots...)
}

func (g *generator) mapping() int {
	if len(g.maps) == 0 {
		return g.r.IntN(diffMaps)
	}
	return pick(g, g.maps...)
}

// leaves are the names that files get. A hidden sibling's name must not grow
// with the longest.
var leaves = []string{"a", "b", "c", "model.safetensors", "ü.json", longest, "d"}

func (g *generator) dir() string {
	if g.r.IntN(30) == 0 {
		return pick(g, "nowhere", "d/nowhere")
	}
	return pick(g, g.dirs...)
}

func (g *generator) dirName() string { return path.Join(g.dir(), pick(g, "d", "e", "d", "e", "a")) }

// fresh is a name that may well be free.
func (g *generator) fresh() string {
	if g.r.IntN(60) == 0 {
		return path.Join(g.dir(), tooLong)
	}
	return path.Join(g.dir(), pick(g, leaves...))
}

func (g *generator) file() string {
	if len(g.files) == 0 || g.r.IntN(12) == 0 {
		return g.any()
	}
	return pick(g, g.files...)
}

// any is any name at all.
func (g *generator) any() string {
	switch g.r.IntN(12) {
	case 0:
		return g.fresh()
	case 1:
		return g.dir()
	case 2:
		if len(g.links) > 0 {
			return pick(g, g.links...)
		}
	case 3:
		if len(g.files) > 0 {
			return pick(g, g.files...) + pick(g, "/", "/x")
		}
	}
	if len(g.files) == 0 {
		return g.fresh()
	}
	return pick(g, g.files...)
}

func (g *generator) dirOrAny() string {
	if g.r.IntN(4) == 0 {
		return g.any()
	}
	return g.dir()
}

func (g *generator) mode() uint32 {
	return pick[uint32](g, 0o644, 0o600, 0o755, 0o444, 0, 0o4755, 0o2755, 0o1644, 0o666)
}

func (g *generator) attribute() string {
	return pick(g, "user.a", "user.b", "user.comment", "user."+strings.Repeat("x", 200), "nonsense.a", "trusted.a")
}

// Times that a test sets lie long ago: a time of today says that something
// changed the file since. Two of them stand for now and for leaving it.
const (
	timeOmit = int64(-1)
	timeNow  = int64(-2)
)

func (g *generator) time() int64 {
	switch g.r.IntN(8) {
	case 0:
		return timeOmit
	case 1:
		return timeNow
	}
	return g.r.Int64N(1_500_000_000)*1_000_000_000 + g.r.Int64N(1_000_000_000)
}

func (g *generator) open() op {
	flags := pick(g, "RDONLY", "WRONLY", "RDWR", "RDWR", "RDWR")
	p := g.file()
	if g.r.IntN(3) == 0 {
		p = g.fresh()
	}
	for _, f := range []struct {
		name   string
		chance int
	}{{"CREAT", 50}, {"EXCL", 8}, {"TRUNC", 20}, {"APPEND", 15}, {"SYNC", 1}, {"DSYNC", 1}, {"DIRECTORY", 1}, {"NOFOLLOW", 4}, {"NOATIME", 4}} {
		if g.r.IntN(100) < f.chance {
			flags += "|" + f.name
		}
	}
	return op{Op: "open", Slot: g.r.IntN(diffSlots), Path: p, Flags: flags, Mode: pick[uint32](g, 0o644, 0o600, 0o666, 0o400, 0o755)}
}

func (g *generator) close() op { return op{Op: "close", Slot: g.slot().slot} }

func (g *generator) pwrite() op {
	s := g.slot()
	return g.data(op{Op: "pwrite", Slot: s.slot, Off: g.offset(s.size)}, g.length())
}

func (g *generator) rename() op {
	o := op{Op: "rename", Path: g.any(), To: g.any(), Flags: pick(g, "", "", "", "", "NOREPLACE", "EXCHANGE")}
	switch g.r.IntN(10) {
	case 0:
		o.To = o.Path
	case 1, 2:
		o.Path, o.To = g.dir(), g.dirName()
	case 3, 4, 5:
		o.To = g.fresh()
	}
	return o
}

// save writes a whole file as programs do. It comes as several operations.
func (g *generator) save() op {
	o := op{Data: pick(g, "model40k", "model100k", "model700k", "model700k", "model2500k", "weights", "container", "text", "noise", "zeros")}
	all := min(len(g.corpora[o.Data]), 3<<20)
	slot := g.r.IntN(diffSlots)
	name, final := g.fresh(), g.file()
	var ops []op
	add := func(o op) { ops = append(ops, o) }
	style := g.r.IntN(5)
	switch style {
	case 0: // in place
		add(op{Op: "open", Slot: slot, Path: final, Flags: "WRONLY|CREAT|TRUNC", Mode: 0o644})
	case 1:
		add(op{Op: "open", Slot: slot, Path: name, Flags: "RDWR|CREAT|TRUNC", Mode: 0o644})
	default: // under a temporary name, its length declared
		add(op{Op: "unlink", Path: name})
		add(op{Op: "open", Slot: slot, Path: name, Flags: "RDWR|CREAT|EXCL", Mode: 0o600})
		if style > 2 {
			add(op{Op: "ftruncate", Slot: slot, Off: int64(all)})
		}
	}
	for at := 0; at < all; {
		n := min(all-at, pick(g, 8, 80, 8112, 100_000, 1<<20, 1<<20, 1<<20, 3<<20))
		add(op{Op: "write", Slot: slot, Data: o.Data, At: at, N: n})
		if at += n; g.r.IntN(15) == 0 {
			add(op{Op: pick(g, "fsync", "dupclose", "check"), Slot: slot})
		}
	}
	if style > 1 {
		add(op{Op: "rename", Path: name, To: final})
	}
	if g.r.IntN(4) > 0 {
		add(op{Op: "close", Slot: slot})
	}
	if g.r.IntN(8) == 0 {
		add(op{Op: "remount"})
	}
	g.queue = append(g.queue, ops[1:]...)
	return ops[0]
}
