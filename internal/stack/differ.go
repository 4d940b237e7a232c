package stack

import (
	"fmt"
	"strings"
)

// Difference is a key of the stack file in which two stacks differ.
type Difference struct {
	// Key is the key's path, such as apps.web.kv.hold. A list of sections, such as routes, is one
	// key.
	Key string `json:"key"`
	// Old and New are the values in the form of the file. They are empty where a stack does not
	// have the key, and for values that are long or may be secret.
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// String returns "key: old → new".
func (d Difference) String() string {
	switch {
	case d.Old == "" && d.New == "":
		return d.Key
	case d.Old == "":
		return d.Key + ": " + d.New
	case d.New == "":
		return d.Key + ": no longer " + d.Old
	}
	return d.Key + ": " + d.Old + " → " + d.New
}

// Differences returns the keys that have different values in the new stack, defaults included, in
// the order of the file.
func Differences(old, now Stack) []Difference {
	was, is := flatten(old), flatten(now)
	var all []Difference
	for _, p := range is {
		if before, there := find(was, p.key); !there || before != p.value {
			all = append(all, difference(p.key, before, p.value))
		}
	}
	for _, p := range was {
		if _, there := find(is, p.key); !there {
			all = append(all, difference(p.key, p.value, nil))
		}
	}
	return all
}

// longest is the longest value that a difference shows.
const longest = 60 // bytes

func difference(key string, old, now any) Difference {
	d := Difference{Key: key}
	show := func(v any) string {
		text, _ := v.(string)
		if len(text) > longest || strings.Contains(text, "\n") {
			return ""
		}
		return text
	}
	d.Old, d.New = show(old), show(now)
	// A variable may be a secret, and a route or a token is not a single value.
	if strings.Contains(key, ".env.") || strings.HasPrefix(d.Old, "- ") || strings.HasPrefix(d.New, "- ") {
		d.Old, d.New = "", ""
	}
	return d
}

func find(all []pair, key string) (value any, there bool) {
	for _, p := range all {
		if p.key == key {
			return p.value, true
		}
	}
	return nil, false
}

// flatten returns a stack as pairs of full keys and texts, without sections.
func flatten(s Stack) (all []pair) {
	var add func(prefix string, m mapping)
	add = func(prefix string, m mapping) {
		for _, p := range m {
			key := prefix + p.key
			if below, section := p.value.(mapping); section && len(below) > 0 {
				add(key+".", below)
				continue
			}
			all = append(all, pair{key: key, value: plainText(p.value)})
		}
	}
	add("", showKeys(stackKeys, &s))
	return all
}

// plainText returns a value as one text. The text of a list of sections begins with "- ".
func plainText(v any) string {
	switch v := v.(type) {
	case mapping:
		var all []string
		for _, p := range v {
			all = append(all, p.key+": "+plainText(p.value))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case []any:
		var all []string
		for _, item := range v {
			if _, section := item.(mapping); section {
				all = append(all, "- "+plainText(item))
				continue
			}
			all = append(all, plainText(item))
		}
		if len(all) > 0 && strings.HasPrefix(all[0], "- ") {
			return strings.Join(all, " ")
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v)
}
