// Package store is the backing directory: it gives logical files, whose bytes
// may be kept in containers, to whoever asks, a mount or a command.
//
// A Store is one directory, opened once and reached only through its
// descriptor, so that it may be mounted over. Names are relative to it, with
// slashes; "" is the directory itself. Open and Create return a File, which all
// openers of one backing inode share.
//
// A File's bytes are in one of four places (content.go): a new file's first
// bytes are in memory (head.go) until they show what the file is; then it is a
// plain file (plain.go), or a container that is being written (saving.go). A
// container that nobody writes is read through sealed.go. A file moves from one
// form to another in a sibling (sibling.go) that takes its name: when it is
// emptied (replace.go), when another form is better (rewrite.go), or when a plain
// file is about to look like a container (convert.go).
//
// # Series
//
// Checkpoints of one run are coded against each other in the background. The
// keeper (keeper.go) is the goroutine that does it: it takes a census of all
// containers (census.go), lets package series group them and plan, and carries out
// the plan (compact.go) at the pace that clients leave it (pacer.go), or at once
// where somebody asked for it (order.go). A file is coded anew in a sibling, like
// any other change of its form (recode.go).
//
// What others need is pinned: .mithrilfs/bases has a hard link to it, named by the
// generation of its content (pin.go), through which dependents are read (base.go).
// These hold always, whatever crashes:
//
//   - A pin, and what it leads to, is durable before a dependent that needs it has
//     its name.
//   - What a pin leads to is never changed in place. A client that changes a pinned
//     file gives the pin a copy first (unshare.go).
//   - A pin goes only when a census that missed nothing says that no file with a
//     name, and none that is open, needs it, by itself or through others; and when
//     what was coded anew without it is durable under its name.
//   - Nothing depends on itself: whoever is coded against others is not among what
//     their pins lead to.
//
// A pin that leads elsewhere than the file with its content, after a crash or a
// copy, is mended (mend.go).
//
// Inspect and Pack work on single files, without a Store.
package store
