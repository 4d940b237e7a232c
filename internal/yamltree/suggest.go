package yamltree

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the known word that a word most likely stands for, or "" if none is near.
func Nearest(word string, known []string) string {
	plain := Normal(word)
	best, bestDistance := "", 1+len(plain)/4
	for _, k := range slices.Sorted(slices.Values(known)) {
		if Normal(k) == plain {
			return k
		}
		if d := levenshtein.ComputeDistance(plain, Normal(k)); d < bestDistance || d == bestDistance && best == "" {
			// Words that differ in every letter are not alike, however short they are.
			if d < len(plain) {
				best, bestDistance = k, d
			}
		}
	}

	if best != "" {
		return best
	}

	// TERM for SIGTERM: the only known word that begins or ends with this one.
	var within []string
	for _, k := range known {
		if n := Normal(k); len(plain) >= 3 && (strings.HasPrefix(n, plain) || strings.HasSuffix(n, plain)) {
			within = append(within, k)
		}
	}

	if len(within) == 1 {
		return within[0]
	}

	return ""
}

// Normal returns a key in our spelling: it undoes stop_signal and stopSignal.
func Normal(word string) string {
	var b strings.Builder
	for i, c := range word {
		switch {
		case c == '_' || c == ' ' || c == '.':
			b.WriteByte('-')
		case unicode.IsUpper(c):
			if i > 0 && !strings.HasSuffix(b.String(), "-") && strings.ToUpper(word) != word {
				b.WriteByte('-')
			}
			b.WriteRune(unicode.ToLower(c))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// DidYouMean returns the end of a message about an unknown word, or "" if no known word is near.
func DidYouMean(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// Listed returns "a, b or c".
func Listed(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}
