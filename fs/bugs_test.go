package fs

// What is known to be wrong. Tests look away from just that; set one to false
// when it is mended, and remove it.
const (
	// The name of a file that replaced another, by O_TRUNC or because it was
	// stored anew, is not durable when its fsync returns: the directory is not
	// synced, and the old file comes back after a power cut.
	bugReplacementNotDurable = false
	// fdatasync makes a name durable only if the file had it from this open on: a
	// file that was renamed while nobody had it open may be back under its old name
	// after a power cut.
	bugEarlierNameNotDurable = true
	// The note of a sibling may be empty after a power cut, since its content is
	// written back later than its name. Recovery then looks in the wrong
	// directory, removes the note, and the sibling stays for ever.
	bugNoteNotDurable = false
	// A size set by truncate(2) is kept only in memory while the last RELEASE of
	// another descriptor is on its way, and lost if the daemon is killed, or the
	// file written over, before that comes.
	bugTruncateNotAtOnce = false
	// A file that is opened while a sibling takes its name may be the one that has
	// lost it: what is written to it then is gone.
	bugOpenWhilePublishing = false
	// A container whose first page was not written before a power cut, but later
	// ones were, is taken for a plain file: clients read zeros and compressed
	// bytes.
	bugHeaderNotDurable = false
	// A plain file that is written over an older one takes its place even if
	// writing it failed.
	bugFailedWritePublished = false
	// On a full disk there is no room for a sibling's note, so the old file is
	// emptied in place, and lost.
	bugFullDiskEmptiesInPlace = false
)
