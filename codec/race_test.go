//go:build race

package codec

// raceEnabled says that the race detector allocates on its own account.
const raceEnabled = true
