package testweights

import (
	"bytes"
	"math"
	"testing"
)

// TestFill: weights have the deviation of trained ones, and are the same again for
// the same block, and for no other.
func TestFill(t *testing.T) {
	block := func(seed, number uint64) []byte {
		b := make([]byte, Block)
		Fill(b, seed, number)
		return b
	}
	b := block(1, 2)
	var squares float64
	for i := 0; i < len(b); i += 2 {
		x := float64(math.Float32frombits(uint32(b[i])<<16 | uint32(b[i+1])<<24))
		squares += x * x
	}
	if d := math.Sqrt(squares / (Block / 2)); math.Abs(d/deviation-1) > 0.02 {
		t.Errorf("the deviation is %v", d)
	}
	if bytes.Equal(b[:Block/2], b[Block/2:]) || !bytes.Equal(b, block(1, 2)) {
		t.Error("a block repeats itself, or is another the next time")
	}
	if bytes.Equal(b, block(1, 3)) || bytes.Equal(b, block(2, 2)) {
		t.Error("two blocks are the same")
	}
	odd := make([]byte, 1003)
	Fill(odd, 1, 2)
	if !bytes.Equal(odd[:1000], b[:1000]) {
		t.Error("a shorter piece begins in another way")
	}
}
