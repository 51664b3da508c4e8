package codec

import (
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"
)

// fencedMemory returns size bytes, a multiple of any page, between pages that
// cannot be touched.
func fencedMemory(size int) []byte {
	const page = 64 << 10 // the largest of any architecture
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	for _, fence := range [][]byte{all[:page], all[page+size:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			panic(err)
		}
	}
	return all[page : page+size : page+size]
}

// TestFences proves that the memory beside a buffer cannot be touched.
func TestFences(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	all := fences()[0]
	for _, beside := range []unsafe.Pointer{unsafe.Add(unsafe.Pointer(&all[0]), -1), unsafe.Add(unsafe.Pointer(&all[0]), len(all))} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%p can be read", beside)
				}
			}()
			t.Log(*(*byte)(beside))
		}()
	}
}
