//go:build !amd64

package delta

func measureVector[T ordinal](*features[T], *params, *float, int, int) (sum uint64, ok bool) {
	return 0, false
}

func orderVector([]uint16, []byte) int { return 0 }

func unorderVector([]byte, []uint16) int { return 0 }

func addDirectVector[T ordinal]([]T, []uint8, []uint8) int { return 0 }
