package stack

import (
	"maps"
	"slices"
	"time"

	"holdfast/internal/yamltree"
)

// key is one key of a section of the stack file, with all that reading, showing and the JSON Schema
// need to know about it. T is the struct that has the value.
type key[T any] struct {
	name string
	// doc explains the key. It is the description in the schema and the comment that Show writes.
	doc string
	// kinds are the kinds of application that may have the key; nil: all.
	kinds []Kind

	read   func(r *reader, p path, n *yamltree.Node, t *T)
	show   func(t *T) any // returns an int, a bool, a string, []any or mapping; nil: Show leaves the key out
	schema func() schema
}

// mapping is a section for Show to write, in order.
type mapping []pair

type pair struct {
	key   string
	doc   string
	value any
}

// schema is a JSON Schema.
type schema map[string]any

// only limits a key to some kinds of application.
func (k key[T]) only(kinds ...Kind) key[T] {
	k.kinds = kinds
	return k
}

// numberKey returns the key of a whole number from low to high.
func numberKey[T any](name string, low, high int, at func(*T) *int, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			if v, ok := r.readNumber(p, n, low, high); ok {
				*at(t) = v
			}
		},
		show:   func(t *T) any { return *at(t) },
		schema: func() schema { return schema{"type": "integer", "minimum": low, "maximum": high} },
	}
}

// textKey returns the key of a text that follows a rule.
func textKey[T any](name string, rule rule, at func(*T) *string, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			if v, ok := r.readText(p, n, rule); ok {
				*at(t) = v
			}
		},
		show: func(t *T) any {
			switch v := *at(t); {
			case v == "" && rule.none:
				return "none"
			case v == "":
				return nil
			default:
				return v
			}
		},
		schema: rule.schema,
	}
}

// durationKey returns the key of a time of at least low.
func durationKey[T any](name string, low time.Duration, at func(*T) *time.Duration, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			if v, ok := r.readDuration(p, n, low); ok {
				*at(t) = v
			}
		},
		show: func(t *T) any { return shortDuration(*at(t)) },
		schema: func() schema {
			return schema{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(h|ms|m|s))+$`, "examples": []any{"500ms", "10s", "1m"}}
		},
	}
}

// textsKey returns the key of a list of texts that follow a rule. A single text can be written
// without a list. Show writes an empty list only if mayBeEmpty.
func textsKey[T any](name string, rule rule, mayBeEmpty bool, at func(*T) *[]string, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			var out []string
			if n.Shape == yamltree.List && len(n.Items) == 0 && !mayBeEmpty {
				r.ReportOnce(n.Pos, "%s is an empty list: write %s, or remove the key", p, rule.what)
			}
			for i, item := range r.readItems(p, n, rule.what) {
				if v, ok := r.readText(p.item(i), item, rule); ok {
					out = append(out, v)
				}
			}
			*at(t) = out
		},
		show: func(t *T) any {
			if len(*at(t)) == 0 && !mayBeEmpty {
				return nil
			}
			return anys(*at(t))
		},
		schema: func() schema {
			one := rule.schema()
			return schema{"anyOf": []any{one, schema{"type": "array", "items": one}}}
		},
	}
}

// portsKey returns the key of a list of ports. A single port can be written without a list.
func portsKey[T any](name string, at func(*T) *[]int, doc string) key[T] {
	return numbersKey(name, 1, 65535, "ports such as [5001, 5002]", at, doc)
}

// numbersKey returns the key of a list of whole numbers from low to high. A single number can be
// written without a list.
func numbersKey[T any](name string, low, high int, what string, at func(*T) *[]int, doc string) key[T] {
	one := schema{"type": "integer", "minimum": low, "maximum": high}
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			var out []int
			for i, item := range r.readItems(p, n, what) {
				v, ok := r.readNumber(p.item(i), item, low, high)
				if !ok {
					v = 0 // keeps the following values in their places: the i-th port is the i-th node's
				}
				out = append(out, v)
			}
			*at(t) = out
		},
		show: func(t *T) any {
			if len(*at(t)) == 0 {
				return nil
			}
			return anys(*at(t))
		},
		schema: func() schema {
			return schema{"anyOf": []any{one, schema{"type": "array", "items": one, "uniqueItems": true}}}
		},
	}
}

// sectionKey returns the key of a section with keys of its own.
func sectionKey[T, U any](name string, keys []key[U], at func(*T) *U, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read:   func(r *reader, p path, n *yamltree.Node, t *T) { readKeys(r, p, n, keys, at(t)) },
		show:   func(t *T) any { return showKeys(keys, at(t)) },
		schema: func() schema { return sectionSchema(keys) },
	}
}

// sectionsKey returns the key of a list of sections.
func sectionsKey[T, U any](name string, keys []key[U], at func(*T) *[]U, doc string) key[T] {
	return key[T]{
		name: name, doc: doc,
		read: func(r *reader, p path, n *yamltree.Node, t *T) {
			var out []U
			switch n.Shape {
			case yamltree.Empty:
				return
			case yamltree.List:
				for i, item := range n.Items {
					var u U
					r.spots[p.item(i)] = spot{item.Pos, item.Pos}
					if item.Shape == yamltree.Empty {
						r.reportType(p, item, "keys such as %s", yamltree.Listed([]string{keys[0].name, keys[len(keys)-1].name}, "and"))
					}
					readKeys(r, p.item(i), item, keys, &u)
					out = append(out, u)
				}
			default:
				r.reportType(p, n, "a list: a dash before the first key of each, such as \"- %s: …\"", keys[0].name)
			}
			*at(t) = out
		},
		show: func(t *T) any {
			if len(*at(t)) == 0 {
				return nil
			}
			var out []any
			for i := range *at(t) {
				out = append(out, showKeys(keys, &(*at(t))[i]))
			}
			return out
		},
		schema: func() schema {
			return schema{"type": []any{"array", "null"}, "items": objectSchema(keys)}
		},
	}
}

// showKeys returns a section's keys with their values.
func showKeys[T any](keys []key[T], t *T) mapping {
	out := mapping{}
	for _, k := range keys {
		if v := k.show(t); v != nil {
			out = append(out, pair{k.name, k.doc, v})
		}
	}
	return out
}

// objectSchema returns the schema of a section. sectionSchema returns that of a section that may be
// left empty.
func objectSchema[T any](keys []key[T]) schema {
	properties := schema{}
	for _, k := range keys {
		s := schema{"description": k.doc}
		maps.Copy(s, k.schema())
		properties[k.name] = s
	}
	return schema{"type": "object", "properties": properties, "additionalProperties": false}
}

func sectionSchema[T any](keys []key[T]) schema {
	s := objectSchema(keys)
	s["type"] = []any{"object", "null"}
	return s
}

// schema returns the schema of a text that follows the rule.
func (ru rule) schema() schema {
	s := schema{"type": "string"}
	switch {
	case ru.loose:
		s["type"] = []any{"string", "number", "boolean"}
	case ru.values != nil:
		s = schema{"enum": anys(ru.values)}
	case ru.pattern != nil && ru.none:
		s["anyOf"] = []any{schema{"pattern": ru.pattern.String()}, schema{"enum": []any{"", "none"}}}
	case ru.pattern != nil:
		s["pattern"] = ru.pattern.String()
	default:
		s["minLength"] = 1
	}
	return s
}

// anys returns a list as []any, for showing and for JSON.
func anys[E any](in []E) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}

// where is the keys of one section, with the words that tell a user where a key belongs.
type where struct {
	where string
	keys  []string
}

func names[T any](keys []key[T]) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k.name)
	}
	return out
}

// elsewhere are all sections, the likeliest first, for a message about a key in the wrong section.
var elsewhere []where

// The tables refer to the functions that read them, and those refer to all tables, so this needs
// init.
func init() {
	elsewhere = []where{
		{"at the top level", names(stackKeys)},
		{"to an application", names(appKeys)},
		{"to a host", names(hostKeys)},
		{"under redis", names(redisKeys)},
		{"under timeouts", names(timeoutKeys)},
		{"under backup", names(backupKeys)},
		{"under backup.s3", names(s3Keys)},
		{"under rollout", names(rolloutKeys)},
		{"to an application's health", names(healthKeys)},
		{"under an application's redis", names(programRedisKeys)},
		{"under an application's timeouts", names(appTimeoutKeys)},
		{"under an application's kv", names(kvKeys)},
		{"under an application's kv.limits", names(kvLimitKeys)},
		{"to a token", names(tokenKeys)},
		{"to a route", names(routeKeys)},
		{"under entry", names(entryKeys)},
		{"under entry.limits", names(limitKeys)},
		{"under entry.virtual", names(virtualKeys)},
		{"under entry.tls", names(tlsKeys)},
		{"under a tcp entry's tls", names(tcpTLSKeys)},
		{"to a tcp entry", names(tcpKeys)},
	}
}

// fits reports whether a kind of application may have the key.
func (k key[T]) fits(kind Kind) bool {
	return k.kinds == nil || slices.Contains(k.kinds, kind)
}
