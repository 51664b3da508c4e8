// Command mithrilfs mounts directories that keep model checkpoints compressed
// without loss, and looks into them without a mount.
//
// Every command has a file of its own, which parses its flags, calls fs, store
// or codec, and prints. run is the whole program; its result is a code of
// exitcodes.go. Standard output gets results only. Messages and, on a terminal,
// progress go to standard error.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
