package token

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// place returns where a value is in the file.
func place(n ast.Node) mistake {
	if n == nil {
		return mistake{}
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key // a block begins with its first key, not with the colon after it
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		n = m.Key
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return mistake{line: tk.Position.Line, column: tk.Position.Column}
	}
	return mistake{}
}

// pairs returns the keys and values of a mapping, or false for any other node.
func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// document reads the whole file.
func (r *reader) document(body ast.Node) {
	top, ok := pairs(body)
	if !ok {
		r.wrong(place(body), "a token file begins with the key tokens")
		return
	}
	for _, pair := range top {
		if key := keyOf(pair); key != "tokens" {
			r.wrong(place(pair), "a token file has the key tokens alone, not %.40q", key)
			continue
		}
		list, ok := pair.Value.(*ast.SequenceNode)
		if !ok {
			r.wrong(place(pair.Value), "tokens has to be a list, each entry with a name and a hash")
			continue
		}
		for _, n := range list.Values {
			r.entry(n)
		}
	}
}

// entry reads one token.
func (r *reader) entry(n ast.Node) {
	fields, ok := pairs(n)
	if !ok {
		r.wrong(place(n), "a token is given by a name and the hash of it, not by a text")
		return
	}

	begun := len(r.mistakes)
	whole := place(n)
	e, at := Entry{}, places{whole: whole, name: whole, hash: whole, mode: whole}
	seen := map[string]bool{}
	for _, pair := range fields {
		key := keyOf(pair)
		if seen[key] {
			r.wrong(place(pair), "%s is given twice", key)
		}
		seen[key] = true
		switch key {
		case "name":
			e.Name, at.name = r.scalar(pair.Value, key), place(pair.Value)
		case "hash":
			e.Hash, at.hash = r.scalar(pair.Value, key), place(pair.Value)
		case "mode":
			e.Mode, at.mode = r.scalar(pair.Value, key), place(pair.Value)
		case "prefixes":
			e.Prefixes, at.prefixes = r.scalars(pair.Value, key)
		case "commands":
			e.Commands, at.commands = r.scalars(pair.Value, key)
		default:
			r.wrong(place(pair), "a token has no key %.40q; there are name, hash, mode, prefixes and commands", key)
		}
	}

	for _, key := range []string{"name", "hash"} {
		if !seen[key] {
			r.wrong(whole, "the token has no %s", key)
		}
	}

	if len(r.mistakes) == begun {
		r.add(e, at)
	}
}

func keyOf(pair *ast.MappingValueNode) string {
	if pair.Key == nil || pair.Key.GetToken() == nil {
		return ""
	}
	return pair.Key.GetToken().Value
}

// scalar reads one text.
func (r *reader) scalar(n ast.Node, key string) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		// A hash may consist of decimal digits; the text counts as it is written.
		return n.GetToken().Value
	}
	r.wrong(place(n), "%s has to be a text", key)
	return ""
}

// scalars reads a list of texts.
func (r *reader) scalars(n ast.Node, key string) ([]string, []mistake) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.wrong(place(n), "%s has to be a list of texts", key)
		return nil, nil
	}
	if len(list.Values) == 0 {
		// An empty list must not be mistaken for "none".
		r.wrong(place(n), "%s is empty; leave it out to allow all", key)
	}
	var texts []string
	var at []mistake
	for _, item := range list.Values {
		texts = append(texts, r.scalar(item, key))
		at = append(at, place(item))
	}
	return texts, at
}
