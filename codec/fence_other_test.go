//go:build !linux

package codec

// fencedMemory returns size bytes. Here nothing but comparison shows a store
// beyond a buffer.
func fencedMemory(size int) []byte {
	return make([]byte, size+2*fenceGuard)[fenceGuard : fenceGuard+size]
}
