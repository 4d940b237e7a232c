package yamltree

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// treeMaker converts the parser's tree into ours.
type treeMaker struct {
	r       *Reader
	format  Format
	anchors map[string]*Node
}

// place returns where a value is in the file.
func place(n ast.Node) Pos {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return Pos{tk.Position.Line, max(tk.Position.Column, 1)}
	}
	return Pos{}
}

func (t *treeMaker) node(n ast.Node) *Node {
	if t.format.Plain {
		switch n.(type) {
		case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
			return &Node{Pos: place(n), Shape: Other}
		}
	}

	switch n := n.(type) {
	case nil, *ast.NullNode:
		out := &Node{Shape: Empty}
		if n != nil {
			out.Pos = place(n)
		}
		return out
	case *ast.StringNode:
		return &Node{Pos: place(n), Shape: Text, Text: n.Value}
	case *ast.LiteralNode:
		return &Node{Pos: place(n), Shape: Text, Text: n.Value.Value, Block: true}
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &Node{Pos: place(n), Shape: Number, Text: n.GetToken().Value}
	case *ast.BoolNode:
		return &Node{Pos: place(n), Shape: Boolean, Text: n.GetToken().Value}
	case *ast.SequenceNode:
		out := &Node{Pos: place(n), Shape: List}
		for _, v := range n.Values {
			if joined := joinedPair(v); joined != nil {
				out.Items = append(out.Items, joined)
				continue
			}
			out.Items = append(out.Items, t.node(v))
		}
		return out
	case *ast.MappingNode:
		out := t.section(place(n), n.Values)
		if n.IsFlowStyle {
			out.Brace = place(n)
		}
		return out
	case *ast.MappingValueNode:
		return t.section(place(n), []*ast.MappingValueNode{n})
	case *ast.AnchorNode:
		out := t.node(n.Value)
		if n.Name != nil {
			t.anchors[n.Name.GetToken().Value] = out
		}
		return out
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		if out, ok := t.anchors[name]; ok {
			return out
		}
		names := make([]string, 0, len(t.anchors))
		for a := range t.anchors {
			names = append(names, a)
		}
		t.r.ReportOnce(place(n), "*%s refers to an anchor that no line above defines%s", name, DidYouMean(name, names))
		return &Node{Pos: place(n), Shape: Broken}
	case *ast.TagNode:
		return t.tagged(n)
	}

	t.r.ReportOnce(place(n), "%s has no meaning in %s: write a plain value", n.Type().YAMLName(), t.format.Name)
	return &Node{Pos: place(n), Shape: Broken}
}

// joinedPair corrects how the parser reads {servers: [localhost:80]}: in a list within braces it
// takes a colon without a space for the end of a key (YAML 1.2.2, section 7.3.3, does not). It
// returns nil for any other node.
func joinedPair(n ast.Node) *Node {
	m, ok := n.(*ast.MappingNode)
	if !ok || len(m.Values) != 1 || m.GetToken().Type != token.MappingValueType {
		return nil
	}
	key, value, colon := m.Values[0].Key.GetToken(), m.Values[0].Value.GetToken(), m.GetToken()
	for _, tk := range []*token.Token{key, value} {
		if tk.Type != token.StringType && tk.Type != token.IntegerType && tk.Type != token.FloatType {
			return nil
		}
	}
	at, to := key.Position, value.Position
	if at.Line != to.Line || colon.Position.Column != at.Column+utf8.RuneCountInString(key.Value) || to.Column != colon.Position.Column+1 {
		return nil
	}
	return &Node{Pos: Pos{at.Line, at.Column}, Shape: Text, Text: key.Value + ":" + value.Value}
}

// tagged handles YAML's own tags. All except !!str only repeat what a value looks like.
func (t *treeMaker) tagged(n *ast.TagNode) *Node {
	tag := n.Start.Value
	out := t.node(n.Value)
	switch tag {
	case "!!str":
		if out.Shape == Number || out.Shape == Boolean {
			return &Node{Pos: out.Pos, Shape: Text, Text: out.Text}
		}
		return out
	case "!!int", "!!float", "!!bool", "!!map", "!!seq", "!!null":
		return out
	}
	t.r.ReportOnce(place(n), "the tag %s has no meaning in %s: remove it", tag, t.format.Name)
	return &Node{Pos: place(n), Shape: Broken}
}

func (t *treeMaker) section(at Pos, values []*ast.MappingValueNode) *Node {
	out := &Node{Pos: at, Shape: Section}
	seen := map[string]Pos{}
	var merged []*Node
	for i, v := range values {
		k := ast.Node(v.Key)
		if asked, ok := k.(*ast.MappingKeyNode); ok {
			k = asked.Value
		}
		keyAt := place(v.Key)
		if i == 0 {
			out.Pos = keyAt // the parser has the place of the colon
		}
		if v.Key.IsMergeKey() && !t.format.Plain {
			merged = append(merged, t.node(v.Value))
			continue
		}
		key := t.key(k)
		value := t.node(v.Value)
		if key.Shape != Text && key.Shape != Number && key.Shape != Boolean {
			if key.Shape != Broken {
				t.r.ReportOnce(keyAt, "a key is %s: write a name", key.Describe())
			}
			continue
		}
		if first, ok := seen[key.Text]; ok {
			t.r.Report(keyAt, "the key %q stands on line %d already: keep one of the two", key.Text, first.Line)
			continue
		}
		seen[key.Text] = keyAt
		if value.Shape == Empty && !t.format.Plain {
			value.Pos = keyAt
		}
		out.Entries = append(out.Entries, Entry{key.Text, keyAt, value})
	}

	for _, m := range merged {
		t.merge(out, m, seen)
	}
	return out
}

// key returns a key. In a plain file every key is the text that it is written as.
func (t *treeMaker) key(n ast.Node) *Node {
	if t.format.Plain && n.GetToken() != nil {
		return &Node{Pos: place(n), Shape: Text, Text: n.GetToken().Value}
	}
	return t.node(n)
}

// merge adds the entries behind a "<<" key, except those that the section has itself. Among several
// sections the first one wins (yaml.org/type/merge.html).
func (t *treeMaker) merge(into, from *Node, seen map[string]Pos) {
	switch from.Shape {
	case Section:
		for _, e := range from.Entries {
			if _, ok := seen[e.Key]; !ok {
				seen[e.Key] = e.At
				into.Entries = append(into.Entries, e)
			}
		}
	case List:
		for _, item := range from.Items {
			if item.Shape == List {
				t.r.ReportOnce(item.Pos, "<< takes a section, or a list of sections")
				continue
			}
			t.merge(into, item, seen)
		}
	case Broken:
	default:
		t.r.ReportOnce(from.Pos, "<< takes a section, or a list of sections; this is %s", from.Describe())
	}
}
