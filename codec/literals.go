package codec

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Errors of decodeLiterals; callers say where.
var (
	errStreamShort  = errors.New("stream cut short")
	errStreamEnd    = errors.New("stream does not end with its last code")
	errStreamLength = errors.New("streams of wrong lengths")
)

const (
	// lookUps is how many entries of a table are looked up for one word of
	// input. They take 55 bits at most, and 57 can be read at once.
	lookUps = 5

	// manySymbols is the number of bytes from which on a table of several bytes
	// an entry is worth its making.
	manySymbols = 4 << 10
)

// fourStreams are the states of four streams: how many bits each has left,
// counted from the start of all input; and where its next byte goes.
type fourStreams [8]int

// A stream is a part of the input, from bit start to bit pos, that is decoded to
// a part of the output.
type stream struct {
	start, pos int // bits of the input; the next to be read is below pos
	out, end   int // bytes of the output
}

// decodeLiterals fills out, as long as the block's content, from its table and
// streams.
func (d *Decoder) decodeLiterals(out []byte, blk *block) error {
	t := &d.table
	rest, err := t.read(blk.coded)
	if err != nil {
		return err
	}
	src := blk.coded
	from := len(src) - len(rest)
	var streams [4]stream
	if blk.streams == 1 {
		streams[0], err = newStream(src, from, len(src), 0, len(out))
	} else {
		streams, err = fourOf(src, from, len(out))
	}
	if err != nil {
		return err
	}
	if f, ok := t.field(); ok {
		for _, s := range streams[:blk.streams] {
			if s.pos-s.start != f.bits*(s.end-s.out) {
				return errStreamEnd
			}
			f.unpack(out[s.out:s.end], src[s.start/8:(s.pos+7)/8])
		}
		return nil
	}
	if len(out) >= manySymbols {
		t.build(mostSymbols)
	} else {
		t.build(1)
	}
	if blk.streams == 4 {
		decodeFour(out, src, t, &streams)
	}
	for _, s := range streams[:blk.streams] {
		if err := s.decode(out, src, t); err != nil {
			return err
		}
	}
	return nil
}

// newStream returns the stream in the bytes from to to of src: it ends before
// the highest 1 bit of the last byte.
func newStream(src []byte, from, to, out, end int) (stream, error) {
	if from >= to || src[to-1] == 0 {
		return stream{}, errStreamShort
	}
	return stream{start: 8 * from, pos: 8*(to-1) + bits.Len8(src[to-1]) - 1, out: out, end: end}, nil
}

// fourOf returns the four streams of size bytes after the jump table at from.
func fourOf(src []byte, from, size int) (s [4]stream, err error) {
	if len(src)-from < jumpTable {
		return s, errStreamShort
	}
	jump := src[from:]
	from += jumpTable
	part := (size + 3) / 4
	for k := range 4 {
		to, end := len(src), size
		if k < 3 {
			to, end = from+int(binary.LittleEndian.Uint16(jump[2*k:])), (k+1)*part
		}
		if to > len(src) || end > size || end < k*part {
			return s, errStreamLength
		}
		if s[k], err = newStream(src, from, to, k*part, end); err != nil {
			return s, err
		}
		from = to
	}
	return s, nil
}

// decodeFour decodes most of four streams.
func decodeFour(dst, src []byte, t *decodeTable, streams *[4]stream) {
	for {
		var f fourStreams
		rounds := len(dst)
		for k, s := range streams {
			rounds = min(rounds, s.rounds())
			f[k], f[4+k] = s.pos, s.out
		}
		if rounds == 0 {
			return
		}
		if !decodeFourVector(dst, src, t, &f, rounds) {
			decodeFourGo(dst, src, &t.entries, &f, rounds)
		}
		for k := range streams {
			streams[k].pos, streams[k].out = f[k], f[4+k]
		}
	}
}

// rounds returns how many rounds of lookUps the stream surely has: each stores
// within its output, and loads within the input.
func (s *stream) rounds() int {
	if s.pos-s.start < 64 {
		return 0
	}
	return min((s.pos-s.start-64)/(lookUps*tableBits)+1, (s.end-s.out)/(lookUps*mostSymbols))
}

// decodeFourGo makes rounds of lookUps in each of four streams. For each there
// are 64 bits of input when a round begins, and lookUps*mostSymbols bytes of
// output. The streams' outputs do not overlap.
func decodeFourGo(dst, src []byte, entries *[1 << tableBits]uint64, f *fourStreams, rounds int) {
	for range rounds {
		for k := range 4 {
			f[k], f[4+k] = decodeRound(dst, src, entries, f[k], f[4+k])
		}
	}
}

// decodeRound makes lookUps for the bits below pos, and returns the new pos and
// out.
func decodeRound(dst, src []byte, entries *[1 << tableBits]uint64, pos, out int) (int, int) {
	end := (pos + 7) >> 3
	word := binary.LittleEndian.Uint64(src[end-8:end]) << (-pos & 7)
	for range lookUps {
		e := entries[word>>(64-tableBits)]
		word <<= e & 63
		pos -= int(e & 63)
		binary.LittleEndian.PutUint32(dst[out:out+4], uint32(e>>32))
		out += int(e >> 8 & 0xff)
	}
	return pos, out
}

// decode decodes the rest of the stream, which must end with the output.
func (s *stream) decode(dst, src []byte, t *decodeTable) error {
	for n := s.rounds(); n > 0; n = s.rounds() {
		for range n {
			s.pos, s.out = decodeRound(dst, src, &t.entries, s.pos, s.out)
		}
	}
	for s.out < s.end {
		v := byte(t.entries[s.peek(src)] >> 32)
		s.pos -= int(t.lengths[v])
		if s.pos < s.start {
			return errStreamEnd
		}
		dst[s.out] = v
		s.out++
	}
	if s.pos != s.start {
		return errStreamEnd
	}
	return nil
}

// peek returns the next tableBits bits; those after the end are zero.
func (s *stream) peek(src []byte) uint64 {
	var word uint64
	end := (s.pos + 7) >> 3
	if end >= 8 {
		word = binary.LittleEndian.Uint64(src[end-8 : end])
	} else {
		for i, b := range src[:end] {
			word |= uint64(b) << (8 * (8 - end + i))
		}
	}
	word <<= -s.pos & 7
	word >>= 64 - tableBits
	if left := s.pos - s.start; left < tableBits {
		word &^= 1<<(tableBits-left) - 1
	}
	return word
}
