package token

import (
	"strings"

	"holdfast/internal/yamltree"
)

// format is what a token file may have beside its keys. It is plain: no message about an anchor, an
// alias or a tag quotes what may be a token that was given by mistake.
var format = yamltree.Format{
	Name:            "a token file",
	Second:          "; a token file is one",
	SecondAtContent: true,
	Plain:           true,
}

// start returns where a value begins in the file.
func start(n *yamltree.Node) yamltree.Pos {
	if n.Brace != (yamltree.Pos{}) {
		return n.Brace
	}
	return n.Pos
}

// document reads the whole file.
func (r *reader) document(root *yamltree.Node) {
	if root.Shape != yamltree.Section {
		r.Report(start(root), "a token file begins with the key tokens")
		return
	}
	for _, e := range root.Entries {
		if e.Key != "tokens" {
			r.Report(e.At, "a token file has the key tokens alone, not %.40q", e.Key)
			continue
		}
		if e.Value.Shape != yamltree.List {
			r.Report(start(e.Value), "tokens has to be a list, each entry with a name and a hash")
			continue
		}
		for _, n := range e.Value.Items {
			r.entry(n)
		}
	}
}

// entry reads one token.
func (r *reader) entry(n *yamltree.Node) {
	if n.Shape != yamltree.Section {
		r.Report(start(n), "a token is given by a name and the hash of it, not by a text")
		return
	}

	begun := len(r.Mistakes)
	whole := start(n)
	token, at := Entry{}, places{whole: whole, name: whole, hash: whole, mode: whole}
	seen := map[string]bool{}
	for _, e := range n.Entries {
		seen[e.Key] = true
		switch e.Key {
		case "name":
			token.Name, at.name = r.scalar(e.Value, e.Key), start(e.Value)
		case "hash":
			token.Hash, at.hash = r.scalar(e.Value, e.Key), start(e.Value)
		case "mode":
			token.Mode, at.mode = r.scalar(e.Value, e.Key), start(e.Value)
		case "prefixes":
			token.Prefixes, at.prefixes = r.scalars(e.Value, e.Key)
		case "commands":
			token.Commands, at.commands = r.scalars(e.Value, e.Key)
		default:
			r.Report(e.At, "a token has no key %.40q; there are name, hash, mode, prefixes and commands", e.Key)
		}
	}

	for _, key := range []string{"name", "hash"} {
		if !seen[key] {
			r.Report(whole, "the token has no %s", key)
		}
	}

	if len(r.Mistakes) == begun {
		r.add(token, at)
	}
}

// scalar reads one text.
func (r *reader) scalar(n *yamltree.Node, key string) string {
	switch n.Shape {
	case yamltree.Text, yamltree.Number, yamltree.Boolean:
		// A hash may consist of decimal digits; the text counts as it is written.
		if n.Block {
			return strings.TrimSpace(n.Text)
		}
		return n.Text
	}
	r.Report(start(n), "%s has to be a text", key)
	return ""
}

// scalars reads a list of texts.
func (r *reader) scalars(n *yamltree.Node, key string) ([]string, []yamltree.Pos) {
	if n.Shape != yamltree.List {
		r.Report(start(n), "%s has to be a list of texts", key)
		return nil, nil
	}
	if len(n.Items) == 0 {
		// An empty list must not be mistaken for "none".
		r.Report(n.Pos, "%s is empty; leave it out to allow all", key)
	}
	var texts []string
	var at []yamltree.Pos
	for _, item := range n.Items {
		texts = append(texts, r.scalar(item, key))
		at = append(at, start(item))
	}
	return texts, at
}
