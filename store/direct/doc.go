// Package direct is what direct I/O takes: a descriptor that goes past the
// kernel's page cache, and memory that a disk can use as it is.
//
// The frames of a checkpoint are read once: what is decoded from them stays in the
// page cache of the mount. Keeping both would take two thirds more memory, and
// taking that memory from the kernel, a page at a time, costs more than the disk
// does. What is written
// goes through the page cache: clients need not wait for the disk, and a buffer of
// its own would cost a copy.
//
// All of it only saves time. Where direct I/O is not to be had, the caller does
// without.
package direct
