package codec_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"math"

	"github.com/mithrilfs/mithrilfs/codec"
)

// halves returns n bf16 numbers between 0.5 and 1.
func halves(n int) []byte {
	var b []byte
	for i := range n {
		x := math.Float32bits(0.5 + float32(i%100)/200)
		b = binary.LittleEndian.AppendUint16(b, uint16(x>>16))
	}
	return b
}

func ExampleByteGroup() {
	src := []byte{0xa0, 0xa1, 0xb0, 0xb1, 0xc0, 0xc1, 0xff}
	dst := make([]byte, len(src))
	if err := codec.ByteGroup(dst, src, 2); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("% x\n", dst)

	back := make([]byte, len(dst))
	if err := codec.ByteUngroup(back, dst, 2); err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Equal(back, src))
	// Output:
	// a0 b0 c0 a1 b1 c1 ff
	// true
}

func ExampleCompress() {
	tensor := halves(10000)
	stream, err := codec.Compress(nil, tensor, codec.BF16)
	if err != nil {
		log.Fatal(err)
	}
	back, err := codec.Decompress(nil, stream, codec.BF16, len(tensor))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stream) < len(tensor)/2, bytes.Equal(back, tensor))
	// Output: true true
}

func ExampleEncoder() {
	tensor := halves(1000)
	frame, plan := codec.NewEncoder().AppendFrame(nil, tensor, codec.BF16)
	fmt.Println(plan)

	// The length and the plan are recorded with the frame.
	back := make([]byte, len(tensor))
	if err := codec.NewDecoder().DecodeFrame(back, frame, plan); err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Equal(back, tensor))
	// Output:
	// planes of 2, rotated 1
	// true
}

func ExampleMakePlan() {
	// Floats of 4 bytes: rotated by one bit, the exponent is the highest byte.
	plan, err := codec.MakePlan(4, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("0x%02x: %v\n", uint8(plan), plan)
	// Output: 0x06: planes of 4, rotated 1
}
