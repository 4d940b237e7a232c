// Package yamltree reads a file of YAML into a tree that knows the place of every key and value, and
// collects all that is wrong with the file: its reader reports a mistake and goes on, so that one
// message has them all.
//
// What the keys mean is not known here: packages stack and token say that.
package yamltree

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a file, line and column from 1. The zero Pos is no place.
type Pos struct{ Line, Column int }

// Before reports whether p comes before q in the file.
func (p Pos) Before(q Pos) bool {
	return p.Line < q.Line || p.Line == q.Line && p.Column < q.Column
}

// Shape is the kind of a YAML value.
type Shape int

// The shapes of values.
const (
	Empty Shape = iota // null, or nothing at all
	Text
	Number
	Boolean
	List
	Section
	Broken // a mistake was reported for it already
	Other  // what a plain file does not have: an anchor, an alias or a tag
)

// Node is a YAML value with its place. Anchors, aliases, merge keys and tags are resolved.
type Node struct {
	Pos
	Shape   Shape
	Text    string  // of a scalar, without quotes
	Block   bool    // a text below a | or >, so that it ends with a line break
	Items   []*Node // of a list
	Entries []Entry // of a section
	Brace   Pos     // where a section begins that is written in braces; Pos has its first key
}

// Entry is one key of a section.
type Entry struct {
	Key   string
	At    Pos
	Value *Node
}

// Format is what distinguishes the kinds of file.
type Format struct {
	Name string // as messages have it, such as "a stack file"
	// Second is the end of the message that a second document begins. SecondAtContent reports it
	// where the content of that document begins, otherwise it is where its "---" is.
	Second          string
	SecondAtContent bool
	// Plain files have no anchors, aliases, merge keys and tags: those are values of shape Other, and
	// "<<" is a key like any other. A value that is missing is where it would be; in other files it is
	// where its key is.
	Plain bool
}

// Reader collects the mistakes of one file. Whoever uses it checks the file's size first: the parser
// is quadratic on some files.
type Reader struct {
	File     string
	Mistakes Mistakes

	unreadable map[Pos]bool // values that ReportOnce has reported
}

// ReportOnce reports a value that cannot be read. It does so once, even if several aliases lead to
// the value.
func (r *Reader) ReportOnce(at Pos, format string, args ...any) {
	if r.unreadable[at] {
		return
	}
	if r.unreadable == nil {
		r.unreadable = map[Pos]bool{}
	}
	r.unreadable[at] = true
	r.Report(at, format, args...)
}

// Report reports something that can be read but cannot be right.
func (r *Reader) Report(at Pos, format string, args ...any) {
	r.Mistakes = append(r.Mistakes, r.Mistake(at, format, args...))
}

// Mistake returns a mistake in the file without collecting it.
func (r *Reader) Mistake(at Pos, format string, args ...any) Mistake {
	return Mistake{r.File, at.Line, at.Column, fmt.Sprintf(format, args...)}
}

// Unreadable reports whether ReportOnce has reported the value at a place.
func (r *Reader) Unreadable(at Pos) bool { return r.unreadable[at] }

// Mistakes are all mistakes in a file.
type Mistakes []Mistake

// Mistake is one mistake in a file.
type Mistake struct {
	File         string // empty: what is read is no file
	Line, Column int    // from 1; 0 for the file as a whole
	What         string // what is wrong, and what would be right
}

// Error returns "file:line:column: what".
func (m Mistake) Error() string {
	switch {
	case m.File == "":
		return m.What
	case m.Line == 0:
		return fmt.Sprintf("%s: %s", m.File, m.What)
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.What)
}

// Error returns "file:line:column: what" for each mistake, one a line.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Sorted returns the mistakes in the order of the file, each once. An alias can repeat a mistake.
func (m Mistakes) Sorted() Mistakes {
	slices.SortStableFunc(m, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	said := map[Mistake]bool{}
	return slices.DeleteFunc(m, func(one Mistake) bool {
		was := said[one]
		said[one] = true
		return was
	})
}

// With returns these mistakes and more ones, in the order of the file.
func (m Mistakes) With(more ...Mistake) Mistakes {
	return append(slices.Clone(m), more...).Sorted()
}

// Describe returns what a value looks like, for a message that something else was expected.
func (n *Node) Describe() string {
	switch n.Shape {
	case Empty:
		return "nothing"
	case Text:
		return fmt.Sprintf("the text %s", Quoted(n.Text))
	case Number:
		return "the number " + n.Text
	case Boolean:
		return n.Text
	case List:
		return "a list"
	case Section:
		return "a section"
	}
	return "broken"
}

// Quoted returns a text of the file for a message: short, on one line.
func Quoted(s string) string {
	if runes := []rune(s); len(runes) > 60 {
		s = string(runes[:57]) + "..."
	}
	return fmt.Sprintf("%q", s)
}
