package safetensors

import (
	"fmt"
	"io"
	"strconv"
)

// ErrShort says that the input ends inside the header: the file is still being
// written, or was cut. It wraps [io.ErrUnexpectedEOF] and never accompanies a
// [*HeaderError].
var ErrShort = fmt.Errorf("safetensors: the input ends inside the header: %w", io.ErrUnexpectedEOF)

// Rule names a rule that a header can break. It is an error, so that
//
//	errors.Is(err, safetensors.RuleOverlap)
//
// tells which one a [*HeaderError] is about.
type Rule string

// Error returns the rule's name in a sentence.
func (r Rule) Error() string { return "safetensors rule " + strconv.Quote(string(r)) }

// The rules, in the order in which they are checked. Where a header breaks
// several, the first in the file is reported.
const (
	// RuleHeaderSize: the header is at most MaxHeaderSize bytes long.
	RuleHeaderSize Rule = "header-size"
	// RuleStart: the header's first byte is '{'.
	RuleStart Rule = "start"
	// RuleJSON: the header is one JSON object, followed by nothing but white
	// space.
	RuleJSON Rule = "json"
	// RuleUTF8: the header's strings are valid UTF-8, and escaped surrogates
	// come in pairs.
	RuleUTF8 Rule = "utf-8"
	// RuleDepth: JSON values are nested at most 127 deep, as in the reference.
	RuleDepth Rule = "depth"
	// RuleBudget: parsing stays within MaxHeaderMemory.
	RuleBudget Rule = "budget"
	// RuleMetadata: "__metadata__" maps strings to strings, or is null.
	RuleMetadata Rule = "metadata"
	// RuleDuplicate: no tensor, metadata key, "__metadata__" or known field of
	// an entry occurs twice.
	RuleDuplicate Rule = "duplicate"
	// RuleEntry: a tensor's entry is an object with a string "dtype", a list
	// of whole numbers "shape" and a pair of whole numbers "data_offsets".
	// Other fields are ignored.
	RuleEntry Rule = "entry"
	// RuleOverflow: every number and every size computed from one fits in 64
	// bits, and every offset in a file.
	RuleOverflow Rule = "overflow"
	// RuleOffsets: a tensor does not end before it begins.
	RuleOffsets Rule = "offsets"
	// RuleBits: a tensor of elements smaller than a byte fills whole bytes.
	RuleBits Rule = "bits"
	// RuleExtent: a tensor's length is the product of its shape times the size
	// of its element type.
	RuleExtent Rule = "extent"
	// RuleOverlap: no tensor begins before the one in front of it ends.
	RuleOverlap Rule = "overlap"
	// RuleHole: every tensor begins where the one in front of it ends, the
	// first at the start of the data buffer.
	RuleHole Rule = "hole"
	// RulePastEnd: no tensor reaches past the end of the file.
	RulePastEnd Rule = "past-end"
	// RuleTrailing: the last tensor ends where the file ends.
	RuleTrailing Rule = "trailing"
)

// HeaderError says which rule a header breaks, and where. The bytes are there;
// reading more of the file will not mend it.
type HeaderError struct {
	Tensor string // name of the tensor concerned; "" if it is none
	Rule   Rule   // the rule, also what errors.Is compares
	Detail string // what is wrong, for a person
}

// longestQuote is how many bytes of a name an error message repeats.
const longestQuote = 120

// Error names the tensor and the rule and says what is wrong.
func (e *HeaderError) Error() string {
	if e.Tensor == "" {
		return fmt.Sprintf("safetensors: header breaks rule %q: %s", string(e.Rule), e.Detail)
	}
	return fmt.Sprintf("safetensors: tensor %s breaks rule %q: %s", quote(e.Tensor), string(e.Rule), e.Detail)
}

// Unwrap returns the rule.
func (e *HeaderError) Unwrap() error { return e.Rule }

// quote makes text from a file safe and short enough for a message.
func quote(text string) string {
	if len(text) > longestQuote {
		return strconv.Quote(text[:longestQuote]) + "..."
	}
	return strconv.Quote(text)
}
