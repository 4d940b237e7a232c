package stack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Parse reads a stack file. The name is for messages. An empty file gives Default.
//
// Its error is a Mistakes with every mistake in the order of the file, or with the first one only
// if the file is not YAML. Warnings are returned only with a stack that has no mistake.
func Parse(name string, data []byte) (Stack, Warnings, error) {
	r := newReader(name)
	s := base()
	if root := r.readTree(data); root != nil {
		readKeys(r, "", root, stackKeys, &s)
		fill(&s, r.has)
		validate(r, s)
	}
	if len(r.mistakes) > 0 {
		return Stack{}, nil, r.mistakes.sorted()
	}
	fill(&s, r.has)
	advise(r, s)
	return s, Warnings(r.warnings.sorted()), nil
}

// Mistakes are all mistakes in a stack file, in the order of the file.
type Mistakes []Mistake

// Warnings are about what is allowed but seldom meant.
type Warnings []Mistake

// Mistake is one mistake in a stack file.
type Mistake struct {
	File         string
	Line, Column int    // from 1; 0 for the file as a whole
	What         string // what is wrong, and what would be right
}

// Error returns "file:line:column: what".
func (m Mistake) Error() string {
	if m.Line == 0 {
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

// sorted returns the mistakes in the order of the file, each once. An alias can repeat a mistake.
func (m Mistakes) sorted() Mistakes {
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
