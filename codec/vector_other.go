//go:build !amd64

package codec

func splitVector(*[maxWidth][]byte, []byte, int, int) int { return 0 }

func mergeVector([]byte, *[maxWidth][]byte, int, int) int { return 0 }

func (*huffman) encodeStreamVector(_, src []byte) (rest, pos int, acc uint64, n uint) {
	return len(src), 0, 0, 0
}

func decodeFourVector(_, _ []byte, _ *decodeTable, _ *fourStreams, _ int) bool { return false }

func countOthersVector(_ *[256]uint32, _ []byte, _ *[256]uint32) bool { return false }

func (field) packVector(_, src []byte) (rest, pos int) { return len(src), 0 }

func (field) unpackVector(_, _ []byte) int { return 0 }
