//go:build !amd64

package delta

func measureVector[T ordinal](*features[T], *params, *float, int, int) (sum uint64, ok bool) {
	return 0, false
}
