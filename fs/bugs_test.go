package fs

// What is known to be wrong. Tests look away from just that; set one to false
// when it is mended, and remove it.
const (
	// A size set by truncate(2) is kept only in memory while the last RELEASE of
	// another descriptor is on its way, and lost if the daemon is killed, or the
	// file written over, before that comes.
	bugTruncateNotAtOnce = false
	// A container whose daemon is killed between marking it and writing its header
	// is an empty file that can't be opened.
	bugEmptyMarked = false
)
