package stack

import (
	"fmt"
	"slices"

	"holdfast/internal/yamltree"
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
	if near := yamltree.Nearest(word, known); near != "" {
		return near
	}
	for _, s := range synonyms[yamltree.Normal(word)] {
		if slices.Contains(known, s) {
			return s
		}
	}
	return ""
}

// didYouMean returns the end of a message about an unknown word, or "" if no known word is near.
func didYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}
