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
// Inspect and Pack work on single files, without a Store.
package store
