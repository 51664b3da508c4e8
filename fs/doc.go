// Package fs serves a store as a FUSE filesystem: it translates the kernel's
// requests into calls on package store, and errors into errnos. Nothing here
// knows how a file is kept.
//
// Mount and Server are the life of a mount (mount.go, server.go); what can be
// wrong with a mount point is in mountpoint.go. A node is an inode (node.go for
// names, attr.go for attributes), a handle is an open file (handle.go). All
// errnos come from errno.go.
//
// Other processes ask about files by ioctls: control.go answers, remote.go asks.
// The process that serves a mount must never touch it through the kernel.
package fs
