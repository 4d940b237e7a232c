package stack

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Parse reads a stack file. The name is for messages. Its error is a Mistakes
// that names every mistake at once, in the order of the file; of what is not
// YAML, only the first. Warnings come only with a stack that has no mistake. An
// empty file is Default.
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

// Mistakes are all that is wrong with a stack file, in the order of the file.
type Mistakes []Mistake

// Warnings are what is allowed but seldom meant.
type Warnings []Mistake

// Mistake is one thing that is wrong with a stack file.
type Mistake struct {
	File         string
	Line, Column int    // from 1; 0 where the whole file is meant
	What         string // what is wrong and what would be right
}

// Error is "file:line:column: what".
func (m Mistake) Error() string {
	if m.Line == 0 {
		return fmt.Sprintf("%s: %s", m.File, m.What)
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.What)
}

// Error is "file:line:column: what", one mistake a line.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts mistakes into the order of the file, each said once: what an
// alias repeats is one mistake.
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
