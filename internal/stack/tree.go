package stack

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// pos is a place in a file, line and column from 1. The zero pos is no place.
type pos struct{ line, column int }

func (p pos) before(q pos) bool {
	return p.line < q.line || p.line == q.line && p.column < q.column
}

// shape is the kind of a YAML value.
type shape int

const (
	empty shape = iota // null, or nothing at all
	text
	number
	boolean
	list
	section
	broken // a mistake was reported for it already
)

// node is a YAML value with its place. Anchors, aliases, merge keys and tags are resolved.
type node struct {
	pos
	shape   shape
	text    string  // of a scalar, without quotes
	items   []*node // of a list
	entries []entry // of a section
}

// entry is one key of a section.
type entry struct {
	key   string
	at    pos
	value *node
}

// Limits of a stack file. The parser is recursive, so both limit its memory.
const (
	maxSize  = 64 << 10 // bytes; the parser is quadratic on some files
	maxDepth = 32       // nesting depth of sections and lists
)

// readTree turns a file into a tree. It returns nil for an empty file, and after a mistake.
func (r *reader) readTree(data []byte) *node {
	if len(data) > maxSize {
		r.reportOnce(pos{}, "the file has %d bytes: a stack file has at most %d", len(data), maxSize)
		return nil
	}

	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.reportOnce(pos{i + 1, 1}, "the line is not UTF-8: save the file as UTF-8 text")
			return nil
		}
		// Every level of a block takes a column, so this limits the depth.
		if len(line)-len(strings.TrimLeft(line, " -?:\t")) > 10*maxDepth {
			r.reportOnce(pos{i + 1, 1}, "the line is indented too deeply: a stack file needs no more than %d columns", 10*maxDepth)
			return nil
		}
	}

	source := strings.TrimPrefix(string(data), "\ufeff")
	tokens := lexer.Tokenize(source)
	if !r.oneDocument(tokens) {
		return nil
	}

	file, err := parse(tokens)
	if err != nil {
		r.reportSyntax(source, err)
		return nil
	}

	t := &treeMaker{r: r, anchors: map[string]*node{}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType || doc.Body.Type() == ast.CommentType {
			continue
		}
		return t.node(doc.Body)
	}
	return nil
}

// parse returns an error where the YAML parser panics. A file that makes it panic is a broken file,
// and no reason to stop the program.
func parse(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the YAML parser gave up on it (%v)", p)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// oneDocument reports whether the file is one YAML document that the recursive parser can read. It
// complains of a second document, of deep nesting, and of escapes that stand for no character.
func (r *reader) oneDocument(tokens token.Tokens) bool {
	headers, depth, ended := 0, 0, false
	for _, tk := range tokens {
		at := pos{tk.Position.Line, tk.Position.Column}
		if ended && tk.Type != token.CommentType {
			r.reportOnce(at, "a second YAML document begins: a stack file is one; put each stack into a file of its own")
			return false
		}
		switch tk.Type {
		case token.DoubleQuoteType:
			// The scanner turns half a surrogate pair (\uDC00) into U+FFFD, and joins several
			// tokens into one text. Origin has only the characters that were not escaped.
			if strings.Count(tk.Value, "\uFFFD") > strings.Count(tk.Origin, "\uFFFD") {
				r.reportOnce(at, "an escape in the text stands for no character: write the character itself")
				return false
			}
		case token.DocumentHeaderType:
			if headers++; headers > 1 || tk.Prev != nil && !precedes(tk.Prev) {
				r.reportOnce(at, "a second YAML document begins: a stack file is one; put each stack into a file of its own")
				return false
			}
		case token.DocumentEndType:
			ended = true
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				r.reportOnce(at, "brackets within more than %d others: no key of a stack file is that deep", maxDepth)
				return false
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
	}
	return true
}

// precedes reports whether everything up to a token may come before the first "---": comments and
// directives.
func precedes(tk *token.Token) bool {
	for ; tk != nil; tk = tk.Prev {
		if tk.Type == token.DirectiveType {
			return true
		}
		if tk.Type != token.CommentType {
			for p := tk.Prev; p != nil && p.Position.Line == tk.Position.Line; p = p.Prev {
				if p.Type == token.DirectiveType {
					return true
				}
			}
			return false
		}
	}
	return true
}

// reportSyntax reports a mistake in the YAML itself. The parser stops at the first one.
func (r *reader) reportSyntax(source string, err error) {
	var at pos
	what := err.Error()
	var located yaml.Error
	if errors.As(err, &located) {
		what = located.GetMessage()
		if tk := located.GetToken(); tk != nil && tk.Position != nil {
			at = pos{tk.Position.Line, tk.Position.Column}
		}
	}

	line := ""
	if lines := strings.Split(source, "\n"); at.line >= 1 && at.line <= len(lines) {
		line = strings.TrimRight(lines[at.line-1], "\r")
	}

	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if i := strings.IndexByte(indent, '\t'); i >= 0 {
		r.reportOnce(pos{at.line, i + 1}, "a tab indents the line: YAML is indented with spaces only")
		return
	}
	if next, deeper := deeperLine(source, at.line); deeper && strings.Contains(line, ": ") {
		r.reportOnce(next, "not YAML: the line is indented deeper than the one above, which has its value already; begin both in the same column")
		return
	}

	_, value, _ := strings.Cut(line, ": ")
	value = strings.TrimSpace(value)
	switch {
	case value != "" && strings.ContainsRune("@`%&*!|>", rune(value[0])):
		what += fmt.Sprintf("; quote a value that begins with %c", value[0])
	case strings.Contains(value, ": "):
		what += "; quote a value that has a colon and a space in it, or begin a new line"
	case value != "" && strings.ContainsRune(`"'[{`, rune(value[0])):
		what += "; close every quote and bracket"
	default:
		what += "; every line is `key: value`, and the keys of one section begin in the same column"
	}

	r.reportOnce(at, "not YAML: %s", what)
}

// deeperLine returns the next line that is not empty after a line (from 1), and whether it is
// indented more.
func deeperLine(source string, line int) (pos, bool) {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return pos{}, false
	}
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }
	for i, l := range lines[line:] {
		if t := strings.TrimSpace(l); t != "" && t[0] != '#' {
			return pos{line + i + 1, indent(l) + 1}, indent(l) > indent(lines[line-1])
		}
	}
	return pos{}, false
}

// treeMaker converts the parser's tree into ours.
type treeMaker struct {
	r       *reader
	anchors map[string]*node
}

func place(n ast.Node) pos {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return pos{tk.Position.Line, max(tk.Position.Column, 1)}
	}
	return pos{}
}

func (t *treeMaker) node(n ast.Node) *node {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		out := &node{shape: empty}
		if n != nil {
			out.pos = place(n)
		}
		return out
	case *ast.StringNode:
		return &node{pos: place(n), shape: text, text: n.Value}
	case *ast.LiteralNode:
		return &node{pos: place(n), shape: text, text: n.Value.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &node{pos: place(n), shape: number, text: n.GetToken().Value}
	case *ast.BoolNode:
		return &node{pos: place(n), shape: boolean, text: n.GetToken().Value}
	case *ast.SequenceNode:
		out := &node{pos: place(n), shape: list}
		for _, v := range n.Values {
			if joined := joinedPair(v); joined != nil {
				out.items = append(out.items, joined)
				continue
			}
			out.items = append(out.items, t.node(v))
		}
		return out
	case *ast.MappingNode:
		return t.section(place(n), n.Values)
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
		t.r.reportOnce(place(n), "*%s refers to an anchor that no line above defines%s", name, didYouMean(name, names))
		return &node{pos: place(n), shape: broken}
	case *ast.TagNode:
		return t.tagged(n)
	}

	t.r.reportOnce(place(n), "%s has no meaning in a stack file: write a plain value", n.Type().YAMLName())
	return &node{pos: place(n), shape: broken}
}

// joinedPair corrects how the parser reads {servers: [localhost:80]}: in a list within braces it
// takes a colon without a space for the end of a key (YAML 1.2.2, section 7.3.3, does not). It
// returns nil for any other node.
func joinedPair(n ast.Node) *node {
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
	return &node{pos: pos{at.Line, at.Column}, shape: text, text: key.Value + ":" + value.Value}
}

// tagged handles YAML's own tags. All except !!str only repeat what a value looks like.
func (t *treeMaker) tagged(n *ast.TagNode) *node {
	tag := n.Start.Value
	out := t.node(n.Value)
	switch tag {
	case "!!str":
		if out.shape == number || out.shape == boolean {
			return &node{pos: out.pos, shape: text, text: out.text}
		}
		return out
	case "!!int", "!!float", "!!bool", "!!map", "!!seq", "!!null":
		return out
	}
	t.r.reportOnce(place(n), "the tag %s has no meaning in a stack file: remove it", tag)
	return &node{pos: place(n), shape: broken}
}

func (t *treeMaker) section(at pos, values []*ast.MappingValueNode) *node {
	out := &node{pos: at, shape: section}
	seen := map[string]pos{}
	var merged []*node
	for i, v := range values {
		k := ast.Node(v.Key)
		if asked, ok := k.(*ast.MappingKeyNode); ok {
			k = asked.Value
		}
		keyAt := place(v.Key)
		if i == 0 {
			out.pos = keyAt // the parser has the place of the colon
		}
		if v.Key.IsMergeKey() {
			merged = append(merged, t.node(v.Value))
			continue
		}
		key := t.node(k)
		value := t.node(v.Value)
		if key.shape != text && key.shape != number && key.shape != boolean {
			if key.shape != broken {
				t.r.reportOnce(keyAt, "a key is %s: write a name", key.describe())
			}
			continue
		}
		if first, ok := seen[key.text]; ok {
			t.r.report(keyAt, "the key %q stands on line %d already: keep one of the two", key.text, first.line)
			continue
		}
		seen[key.text] = keyAt
		if value.shape == empty {
			value.pos = keyAt
		}
		out.entries = append(out.entries, entry{key.text, keyAt, value})
	}

	for _, m := range merged {
		t.merge(out, m, seen)
	}
	return out
}

// merge adds the entries behind a "<<" key, except those that the section has itself. Among several
// sections the first one wins (yaml.org/type/merge.html).
func (t *treeMaker) merge(into, from *node, seen map[string]pos) {
	switch from.shape {
	case section:
		for _, e := range from.entries {
			if _, ok := seen[e.key]; !ok {
				seen[e.key] = e.at
				into.entries = append(into.entries, e)
			}
		}
	case list:
		for _, item := range from.items {
			if item.shape == list {
				t.r.reportOnce(item.pos, "<< takes a section, or a list of sections")
				continue
			}
			t.merge(into, item, seen)
		}
	case broken:
	default:
		t.r.reportOnce(from.pos, "<< takes a section, or a list of sections; this is %s", from.describe())
	}
}

// describe returns what a value looks like, for a message that something else was expected.
func (n *node) describe() string {
	switch n.shape {
	case empty:
		return "nothing"
	case text:
		return fmt.Sprintf("the text %s", quoted(n.text))
	case number:
		return "the number " + n.text
	case boolean:
		return n.text
	case list:
		return "a list"
	case section:
		return "a section"
	}
	return "broken"
}

// quoted returns a text of the file for a message: short, on one line.
func quoted(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:57]) + "..."
	}
	return fmt.Sprintf("%q", s)
}
