package command

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
)

// Option returns the place of an option among a command's words; 0 if it is not there. A
// key or a value of that name counts, too, and makes an estimate less good.
func Option(cmd Command, name string) int {
	for i := len(cmd) - 1; i > 1; i-- {
		if strings.EqualFold(cmd[i], name) {
			return i
		}
	}
	return 0
}

// OptionNumber returns the number behind an option, or else byDefault.
func OptionNumber(cmd Command, name string, byDefault float64) float64 {
	if at := Option(cmd, name); at > 0 && at+1 < len(cmd) {
		return Number(cmd[at+1])
	}
	return byDefault
}

// Number returns a number among a command's words; 0 for a word that is not a number, which
// Redis refuses.
func Number(word string) float64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return 0
	}
	return float64(n)
}

// MaxNamed is how often a command may name a key that it goes through each time.
const MaxNamed = 8

// Tally counts words by their hashes. It allocates nothing. With 10,000 words, which
// a request has at most, it hardly ever takes different ones for the same.
type Tally [16384]uint8

// Add counts a word, and reports whether it has come more than MaxNamed times.
func (t *Tally) Add(word string) bool {
	n := &t[maphash.String(wordSeed, word)%uint64(len(t))]
	*n++
	return *n > MaxNamed
}

// repeats reports whether a word comes among others again and again.
func repeats(words []string) bool {
	var t Tally
	return slices.ContainsFunc(words, t.Add)
}

// SetOf returns a set of names.
func SetOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

var wordSeed = maphash.MakeSeed()
