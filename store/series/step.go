package series

import (
	"strconv"
	"strings"
)

// sign is what a number in a path is taken for. Of those that tell a step, higher
// ones are better.
type sign uint8

const (
	unknown sign = iota
	bare         // perhaps a step: a directory of digits, or the digits at a name's end
	epoch        // epoch=3
	save         // checkpoint-120
	step         // step_120, iter_0000120
	counter      // consumed_samples=512, loss=0.31: it changes with the step, and is not it
	label        // rank_3: it tells files of one step apart
)

// words are those before a number, or glued behind it, that tell what it is.
var words = map[string]sign{
	"epoch": epoch, "epochs": epoch, "ep": epoch,
	"adapter":    epoch, // of torchtune
	"checkpoint": save, "ckpt": save, "chkpt": save,
	"step": step, "steps": step, "globalstep": step, "iter": step, "iters": step,
	"iteration": step, "iterations": step, "update": step, "updates": step, "batch": step,
	"samples": counter, "tokens": counter,
	"rank": label, "shard": label, "part": label, "of": label, "fsdp": label, "tp": label, "pp": label,
	"dp": label, "mp": label, "cp": label, "gpu": label, "node": label, "worker": label, "process": label,
	"host": label, "expert": label, "experts": label, "layer": label, "layers": label, "stage": label,
	"v": label, "version": label, "run": label, "seed": label, "fold": label, "trial": label, "job": label,
	"exp": label, "consolidated": label, "bf": label, "fp": label, "int": label, "uint": label, "float": label,
}

// several are words before a number that, if it is short, says which of several
// objects of one step the file is, as accelerate names them: model_1, optimizer_1.
var several = map[string]bool{
	"model": true, "optimizer": true, "optim": true, "opt": true, "scheduler": true, "state": true, "states": true,
	"sampler": true,
}

// longNumber is from how many digits on model_0100 is a step nevertheless.
const longNumber = 4

// ParseStep finds the training step that a path names, and the place: the path
// with "*" for whatever changes from step to step. Without a step, which is
// NoStep then, the place is the path.
//
// A word tells what the number behind it is, or letters glued to the number's
// end: "step_120", "global_step120", "checkpoint-120", "epoch=3", "120steps",
// "ckpt_10k". A step or an iteration is better than a save's number, which is
// better than an epoch; of several the last one is it. A directory of digits, and
// two or more digits at the end of a file's name, are better than nothing. Numbers
// of ranks, shards, layers and versions are no steps.
//
// It is a guess, by the ways in which common programs name their files. What a
// series is, data tell in the end.
func ParseStep(rel string) (number int64, place string) {
	var all []token
	best := unknown
	for from := 0; from <= len(rel); {
		to := len(rel)
		if i := strings.IndexByte(rel[from:], '/'); i >= 0 {
			to = from + i
		}
		for _, t := range readName(rel[from:to], to == len(rel)) {
			if t.sign == unknown || t.sign == label {
				continue
			}
			if t.sign != counter {
				best = max(best, t.sign)
			}
			t.from, t.to = t.from+from, t.to+from
			all = append(all, t)
		}
		from = to + 1
	}
	if best == unknown {
		return NoStep, rel
	}
	var b strings.Builder
	at := 0
	for _, t := range all {
		if t.sign == bare && best > bare {
			continue
		}
		if t.sign == best {
			number = t.value
		}
		b.WriteString(rel[at:t.from])
		b.WriteByte('*')
		at = t.to
	}
	return number, b.String() + rel[at:]
}

// token is a word or a number in a name.
type token struct {
	from, to int
	text     string // in lower case
	number   bool
	glued    bool // nothing is between it and the token before
	assigned bool // a "=" is directly before
	decimal  bool // a number such as 0.31
	value    int64
	sign     sign // of a number
}

// readName returns the numbers of one name, with what they are.
func readName(name string, file bool) []token {
	if file {
		name = name[:len(name)-len(extension(name))]
	}
	tokens := tokenize(name)
	var numbers []token
	for i := range tokens {
		if t := &tokens[i]; t.number {
			t.sign = signOf(tokens, i)
			if t.sign == unknown && mayBeStep(tokens, i, len(name), file) {
				t.sign = bare
			}
			numbers = append(numbers, *t)
		}
	}
	return numbers
}

// extension is what ends a file's name and is no part of its stem: a dot, a
// letter, and letters and digits.
func extension(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 1 || i+1 == len(name) || !isLetter(name[i+1]) {
		return ""
	}
	for _, c := range []byte(name[i+1:]) {
		if !isLetter(c) && !isDigit(c) {
			return ""
		}
	}
	return name[i:]
}

// tokenize finds the words and numbers of a name.
func tokenize(name string) []token {
	var list []token
	end := -1 // of the token before
	for i := 0; i < len(name); {
		j := i
		t := token{from: i, glued: i == end, assigned: i > 0 && name[i-1] == '='}
		switch {
		case isLetter(name[i]):
			for j < len(name) && isLetter(name[j]) {
				j++
			}
		case isDigit(name[i]):
			t.number = true
			for j < len(name) && isDigit(name[j]) {
				j++
			}
			if j+1 < len(name) && name[j] == '.' && isDigit(name[j+1]) {
				t.decimal = true
				for j++; j < len(name) && isDigit(name[j]); j++ {
				}
			}
		default:
			i++
			continue
		}
		t.to, t.text = j, strings.ToLower(name[i:j])
		if t.number && !t.decimal {
			v, err := strconv.ParseInt(t.text, 10, 64)
			t.value, t.decimal = v, err != nil // one that is too large is no step either
		}
		list = append(list, t)
		i, end = j, j
	}
	return list
}

// signOf says what the i-th token, a number, is by the words around it.
func signOf(tokens []token, i int) sign {
	t := &tokens[i]
	suffix := ""
	if i+1 < len(tokens) && tokens[i+1].glued {
		suffix = tokens[i+1].text
	}
	if isShard(tokens, i) {
		return label
	}
	if i > 0 && tokens[i-1].number {
		if before := tokens[i-1].sign; !t.decimal && before != counter && before != bare {
			return afterNumber(tokens, i, before)
		}
		return unknown
	}
	by := unknown
	if i > 0 {
		by = words[tokens[i-1].text]
		if i > 1 && tokens[i-1].text == "model" && (tokens[i-2].text == "meta" || tokens[i-2].text == "torchtune") {
			by = epoch
		}
	}
	if s := words[suffix]; !t.decimal && s >= epoch && s <= step && (by == unknown || by == label) {
		return s
	}
	switch {
	case by == label:
		return label
	case t.assigned && (t.decimal || by == unknown):
		return counter
	case t.decimal:
		return unknown
	case by == unknown:
		return unknown
	case suffix == "k":
		t.value = min(t.value, 1<<40) * 1_000
	case suffix == "m":
		t.value = min(t.value, 1<<40) * 1_000_000
	}
	return by
}

// isShard says whether the i-th token is the first number of 00001-of-00004.
func isShard(tokens []token, i int) bool {
	return i+2 < len(tokens) && tokens[i+1].text == "of" && tokens[i+2].number
}

// afterNumber says what a number is that follows another directly: more of the
// same, as in checkpoint_3_5000 and mp_rank_00_003. torchtune's hf_model_0001_3 is
// a shard and an epoch.
func afterNumber(tokens []token, i int, before sign) sign {
	if i > 2 && tokens[i-2].text == "model" && tokens[i-3].text == "hf" {
		return epoch
	}
	return before
}

// mayBeStep says whether the i-th token may be a step although no word says so:
// a directory, or a whole stem, that is nothing else, or the end of a stem.
func mayBeStep(tokens []token, i, length int, file bool) bool {
	t := &tokens[i]
	switch {
	case t.decimal:
		return false
	case t.from == 0 && t.to == length:
		return true
	case !file || t.to != length || i == 0:
		return false
	case several[tokens[i-1].text]:
		return t.to-t.from >= longNumber && !(i > 1 && tokens[i-2].text == "hf")
	}
	// Without any word, as in DCP's __0_12, they are ranks.
	return t.to-t.from >= 2 && (i > 1 || !tokens[0].number)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
