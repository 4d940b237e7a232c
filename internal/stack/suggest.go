package stack

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/agnivade/levenshtein"
)

// synonyms are words of similar tools, and what they are called here.
var synonyms = map[string][]string{
	"address":      {"listen"},
	"applications": {"apps"},
	"args":         {"command"},
	"backend":      {"app"},
	"backends":     {"servers", "apps"},
	"bind":         {"listen"},
	"cmd":          {"command"},
	"cookie":       {"sticky"},
	"count":        {"nodes"},
	"directory":    {"dir", "files"},
	"environment":  {"env"},
	"headers":      {"header"},
	"healthcheck":  {"health"},
	"instances":    {"nodes"},
	"inter":        {"interval"},
	"ip":           {"address"},
	"kinds":        {"only"},
	"machines":     {"hosts"},
	"maxconn":      {"connections"},
	"maxmemory":    {"memory"},
	"path":         {"path-prefix"},
	"path-beg":     {"path-begins"},
	"placement":    {"on"},
	"prefix":       {"path-prefix"},
	"replicas":     {"nodes"},
	"root":         {"files"},
	"scale":        {"nodes"},
	"services":     {"apps"},
	"signal":       {"stop-signal"},
	"static":       {"files"},
	"strip-path":   {"strip-prefix"},
	"stats":        {"statistics"},
	"suffix":       {"path-suffix"},
	"workdir":      {"dir"},
}

// nearest returns the known word that a word most likely stands for, or "" if none is near.
func nearest(word string, known []string) string {
	plain := normal(word)
	best, bestDistance := "", 1+len(plain)/4
	for _, k := range slices.Sorted(slices.Values(known)) {
		if normal(k) == plain {
			return k
		}
		if d := levenshtein.ComputeDistance(plain, normal(k)); d < bestDistance || d == bestDistance && best == "" {
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
		if n := normal(k); len(plain) >= 3 && (strings.HasPrefix(n, plain) || strings.HasSuffix(n, plain)) {
			within = append(within, k)
		}
	}

	if len(within) == 1 {
		return within[0]
	}

	for _, s := range synonyms[plain] {
		if slices.Contains(known, s) {
			return s
		}
	}
	return ""
}

// normal returns a key in our spelling: it undoes stop_signal and stopSignal.
func normal(word string) string {
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

// didYouMean returns the end of a message about an unknown word, or "" if no known word is near.
func didYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// listed returns "a, b or c".
func listed(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}
