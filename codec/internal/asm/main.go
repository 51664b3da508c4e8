// Command asm writes the assembly kernels of package codec. It is a module of
// its own, so that package codec does not depend on the assembler. From the
// directory of package codec:
//
//	go generate
package main

import (
	. "github.com/mmcloughlin/avo/build"
)

func main() {
	ConstraintExpr("amd64")

	for _, width := range []int{2, 4, 8} {
		splitKernel(avx512, width)
		splitKernel(avx2, width)
		mergeKernel(avx512, width)
		mergeKernel(avx2, width)
	}
	othersKernel()
	packKernel()
	unpackKernel()
	packBMI2Kernel()
	unpackBMI2Kernel()
	encodeKernel()
	encodeScalarKernel()
	decodeKernel()

	Generate()
}
