package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A Decoder reads frames. It keeps scratch memory between them, and then
// allocates nothing: 70 KiB and as much as the longest frame of up to 1 MiB; from
// the first frame that needs a general decoder on 1 MiB more. It must not be used
// by two goroutines at once; make one for each. The zero value is ready for use.
type Decoder struct {
	content []byte // planes of the frame at hand
	table   decodeTable
	general *zstd.Decoder // nil until needed
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder { return &Decoder{} }

// DecodeFrame fills dst with the logical bytes of frame. frame is exactly one
// zstd frame whose content size is len(dst), which is at most [MaxContent];
// plan is what [Encoder.AppendFrame] returned with it. dst must not overlap
// frame.
//
// Whatever frame holds, DecodeFrame decodes no more than len(dst) bytes, and
// needs no more memory than that and a fixed amount. Its error matches
// [ErrCorrupt] ([CorruptError] has the details), or [ErrPlan] for an invalid
// plan; the content of dst is then undefined. Damage that leaves a valid frame
// goes unnoticed, and so does a wrong plan: callers keep a checksum of the
// logical bytes.
func (d *Decoder) DecodeFrame(dst, frame []byte, plan Plan) error {
	if !plan.Valid() {
		return fmt.Errorf("%w: 0x%02x", ErrPlan, uint8(plan))
	}
	if len(dst) > MaxContent {
		return corrupt(0, fmt.Sprintf("a frame of %d bytes, the most is %d", len(dst), MaxContent), nil)
	}
	info, err := scanFrame(frame, len(dst))
	if err != nil {
		return err
	}
	if info.end != len(frame) {
		return corrupt(info.end, "bytes after the frame", nil)
	}
	if plan == 0 {
		return d.decode(dst, frame, info, nil)
	}

	d.content = resize(d.content, len(dst))
	defer func() { d.content = release(d.content) }()
	w := plan.Width()
	n := len(dst) / w
	var planes [maxWidth][]byte
	for k := range w {
		planes[k] = d.content[k*n : (k+1)*n]
	}
	if err := d.decode(d.content, frame, info, planes[:w]); err != nil {
		return err
	}
	plan.merge(dst, &planes, d.content[w*n:])
	return nil
}

// decode writes the content of frame to dst, except for planes that lie within
// one raw block: those entries of planes are set to where they are in frame.
func (d *Decoder) decode(dst, frame []byte, info frameInfo, planes [][]byte) error {
	if !info.simple {
		return d.decodeGeneral(dst, frame)
	}
	pos, off := info.blocks, 0
	for last := false; !last; {
		blk, next, err := nextBlock(frame, pos)
		if err != nil {
			return err
		}
		out := dst[off : off+blk.size : off+blk.size]
		switch blk.kind {
		case blockRaw:
			from, to := borrow(planes, blk.body, off)
			copy(out[:from], blk.body[:from])
			copy(out[to:], blk.body[to:])
		case blockRLE:
			fill(out, blk.body[0])
		default:
			if err := d.decodeLiterals(out, &blk); err != nil {
				return corrupt(pos, "bad Huffman literals", err)
			}
		}
		off += blk.size
		pos, last = next, blk.last
	}
	return nil
}

// borrow points the planes that are whole within raw, which stands at off in
// the content, into raw. It returns the range of raw that they cover.
func borrow(planes [][]byte, raw []byte, off int) (from, to int) {
	if len(planes) == 0 || len(planes[0]) == 0 {
		return 0, 0
	}
	n := len(planes[0])
	k := (off + n - 1) / n
	from = k*n - off
	if from > len(raw) {
		return 0, 0
	}
	for to = from; k < len(planes) && to+n <= len(raw); k++ {
		planes[k] = raw[to : to+n]
		to += n
	}
	return from, to
}

// decodeGeneral fills dst with the content of frame by a general zstd decoder.
func (d *Decoder) decodeGeneral(dst, frame []byte) error {
	if d.general == nil {
		d.general = newGeneralDecoder()
	}
	got, err := d.general.DecodeAll(frame, dst[:0:len(dst)])
	if err != nil {
		return corrupt(0, "zstd", err)
	}
	if len(got) != len(dst) {
		return corrupt(0, fmt.Sprintf("%d bytes instead of %d", len(got), len(dst)), nil)
	}
	if len(got) > 0 && &got[0] != &dst[0] {
		copy(dst, got) // DecodeAll may return other memory
	}
	return nil
}

// newGeneralDecoder returns a decoder that starts no goroutines and decodes
// into the buffers that it is given, never beyond their capacity.
func newGeneralDecoder() *zstd.Decoder {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxContent),
		zstd.WithDecodeAllCapLimit(true),
	)
	if err != nil {
		panic(err) // constant options
	}
	return z
}

// fill sets every byte of b to v.
func fill(b []byte, v byte) {
	if v == 0 {
		clear(b)
		return
	}
	if len(b) == 0 {
		return
	}
	b[0] = v
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}
