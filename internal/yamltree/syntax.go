package yamltree

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

// maxDepth is how deep sections and lists may be within each other. The parser is recursive, so
// this limits its memory.
const maxDepth = 32

// ReadTree turns a file into a tree, and reports what is wrong with its YAML. It returns nil for an
// empty file, and after such a mistake, with which the file cannot be read at all.
func (r *Reader) ReadTree(data []byte, f Format) *Node {
	for i, line := range strings.Split(string(data), "\n") {
		if !utf8.ValidString(line) {
			r.ReportOnce(Pos{i + 1, 1}, "the line is not UTF-8: save the file as UTF-8 text")
			return nil
		}
		// Every level of a block takes a column, so this limits the depth.
		if len(line)-len(strings.TrimLeft(line, " -?:\t")) > 10*maxDepth {
			r.ReportOnce(Pos{i + 1, 1}, "the line is indented too deeply: %s needs no more than %d columns", f.Name, 10*maxDepth)
			return nil
		}
	}

	source := strings.TrimPrefix(string(data), "\ufeff")
	tokens := lexer.Tokenize(source)
	if !r.oneDocument(tokens, f) {
		return nil
	}

	file, err := parse(tokens)
	if err != nil {
		r.reportSyntax(source, err)
		return nil
	}

	t := &treeMaker{r: r, format: f, anchors: map[string]*Node{}}
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
func (r *Reader) oneDocument(tokens token.Tokens, f Format) bool {
	headers, depth, ended := 0, 0, false
	for _, tk := range tokens {
		at := Pos{tk.Position.Line, tk.Position.Column}
		if ended && tk.Type != token.CommentType {
			r.ReportOnce(at, "a second YAML document begins%s", f.Second)
			return false
		}
		switch tk.Type {
		case token.DoubleQuoteType:
			// The scanner turns half a surrogate pair (\uDC00) into U+FFFD, and joins several
			// tokens into one text. Origin has only the characters that were not escaped.
			if strings.Count(tk.Value, "\uFFFD") > strings.Count(tk.Origin, "\uFFFD") {
				r.ReportOnce(at, "an escape in the text stands for no character: write the character itself")
				return false
			}
		case token.DocumentHeaderType:
			if headers++; headers > 1 || tk.Prev != nil && !precedes(tk.Prev) {
				if f.SecondAtContent {
					if tk.Next == nil {
						continue // nothing is in it
					}
					at = Pos{tk.Next.Position.Line, tk.Next.Position.Column}
				}
				r.ReportOnce(at, "a second YAML document begins%s", f.Second)
				return false
			}
		case token.DocumentEndType:
			ended = true
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				r.ReportOnce(at, "brackets within more than %d others: no key of %s is that deep", maxDepth, f.Name)
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
func (r *Reader) reportSyntax(source string, err error) {
	var at Pos
	what := err.Error()
	var located yaml.Error
	if errors.As(err, &located) {
		what = located.GetMessage()
		if tk := located.GetToken(); tk != nil && tk.Position != nil {
			at = Pos{tk.Position.Line, tk.Position.Column}
		}
	}

	line := ""
	if lines := strings.Split(source, "\n"); at.Line >= 1 && at.Line <= len(lines) {
		line = strings.TrimRight(lines[at.Line-1], "\r")
	}

	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if i := strings.IndexByte(indent, '\t'); i >= 0 {
		r.ReportOnce(Pos{at.Line, i + 1}, "a tab indents the line: YAML is indented with spaces only")
		return
	}
	if next, deeper := deeperLine(source, at.Line); deeper && strings.Contains(line, ": ") {
		r.ReportOnce(next, "not YAML: the line is indented deeper than the one above, which has its value already; begin both in the same column")
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

	r.ReportOnce(at, "not YAML: %s", what)
}

// deeperLine returns the next line that is not empty after a line (from 1), and whether it is
// indented more.
func deeperLine(source string, line int) (Pos, bool) {
	lines := strings.Split(source, "\n")
	if line < 1 || line > len(lines) {
		return Pos{}, false
	}
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }
	for i, l := range lines[line:] {
		if t := strings.TrimSpace(l); t != "" && t[0] != '#' {
			return Pos{line + i + 1, indent(l) + 1}, indent(l) > indent(lines[line-1])
		}
	}
	return Pos{}, false
}
