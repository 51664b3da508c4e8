package codec

import (
	"bytes"
	"errors"
	"testing"
)

func TestByteGroup(t *testing.T) {
	for _, width := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 1000} {
		for _, n := range lengths() {
			src := randomBytes(n, 1)
			want := make([]byte, 0, n)
			for k := range width {
				for i := k; i < n/width*width; i += width {
					want = append(want, src[i])
				}
			}
			want = append(want, src[n/width*width:]...)

			got := make([]byte, n)
			if err := ByteGroup(got, src, width); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("width %d, %d bytes: other bytes, error %v", width, n, err)
			}
			back := make([]byte, n)
			if err := ByteUngroup(back, got, width); err != nil || !bytes.Equal(back, src) {
				t.Fatalf("width %d, %d bytes: not undone, error %v", width, n, err)
			}
		}
	}
}

func TestByteGroupErrors(t *testing.T) {
	for _, f := range []func(dst, src []byte, width int) error{ByteGroup, ByteUngroup} {
		for _, width := range []int{0, -1} {
			if err := f(make([]byte, 4), make([]byte, 4), width); !errors.Is(err, ErrPlan) {
				t.Errorf("width %d: error is %v", width, err)
			}
		}
		for _, n := range []int{3, 5} {
			if err := f(make([]byte, n), make([]byte, 4), 2); !errors.Is(err, ErrLength) {
				t.Errorf("dst of %d bytes: error is %v", n, err)
			}
		}
	}
}
