// Package container is the on-disk format of a compressed file, and nothing
// about directories: docs/format.md has every byte of it.
//
// A container is a log. A frame record says which logical bytes the zstd frame
// after it holds; a size record changes the logical size; later records win.
// Sealing adds an index, which is the log replayed, so that opening is fast,
// and the seek table that makes the whole a file of the zstd seekable format:
//
//	header | record frame | record frame | … | index trailer | seek table
//
// Start with Log, which is what the records add up to. Open reads a Log, from
// the index or by replay, and gives a Reader of the logical bytes; a Cache
// keeps decoded frames for all Readers. Create and OpenWriter give a Writer,
// which encodes Chunks in parallel with the Encoders that all Writers share.
//
// # Writing
//
// A Writer's goroutines take chunks off its queue, code them with one of the
// Encoders (encoders.go) and append them in order (writer.go). While they code,
// they leave the processor to whoever brings more (timeslice.go).
//
// # Reading
//
// A request takes the frames that it covers from the Cache (view.go); those that
// are not there and lie side by side are read at once (fullframe.go), past the
// page cache where the Storage is a Lender. While a reader goes on in order
// (readahead.go), its next frames are decoded before it asks (ahead.go). No more
// requests decode at the same time than processors can serve (Cache.admission).
//
// # Dependents
//
// Frames of a dependent hold differences from the logical bytes of other
// containers, its bases, which its Dependence names by their last generations.
// A Resolver, which a Cache is given, finds these, and a Reader decodes what a
// frame needs of them, down to frames that need nothing. A DeltaWriter makes a
// container that depends on bases, or stands alone again, from one that exists:
// its generation, and so what it is as a base, stays.
//
// # Trust
//
// Nothing that is read from a container is trusted: lengths are checked against
// the file before they are used, and a frame's bytes against a checksum that
// covers the logical bytes, their place, and the generation that wrote them. A
// wrong base is found out by that, too.
package container
