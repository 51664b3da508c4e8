//go:build race

package delta

// raceEnabled says that the race detector allocates on its own account.
const raceEnabled = true
