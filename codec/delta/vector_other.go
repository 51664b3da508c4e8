//go:build !amd64

package delta

func measureVector[T ordinal](*features[T], *params, *float, int, int, int) (sum uint64, ok bool) {
	return 0, false
}

func (*scoring) cellsVector(_, _, _, _, _ []uint8, _ activeScores, _ int) bool { return false }

func orderVector[T ordinal]([]T, []byte) int { return 0 }

func unorderVector[T ordinal]([]byte, []T) int { return 0 }

func addDirectVector[T ordinal]([]T, []uint8, []uint8) int { return 0 }

func symbolsVector(_, _ []uint8, _ []entry, _ []byte, _ *[states]uint32) (done, used int) {
	return 0, 0
}
