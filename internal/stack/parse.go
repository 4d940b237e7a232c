package stack

import "holdfast/internal/yamltree"

// format is what a stack file may have beside its keys.
var format = yamltree.Format{
	Name:   "a stack file",
	Second: ": a stack file is one; put each stack into a file of its own",
}

// maxSize is the largest size of a stack file, in bytes.
const maxSize = 64 << 10

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
	if len(r.Mistakes) > 0 {
		return Stack{}, nil, r.Mistakes.Sorted()
	}
	fill(&s, r.has)
	advise(r, s)
	return s, Warnings(r.warnings.Sorted()), nil
}

// Mistakes are all mistakes in a stack file, in the order of the file.
type Mistakes = yamltree.Mistakes

// Mistake is one mistake in a stack file.
type Mistake = yamltree.Mistake

// Warnings are about what is allowed but seldom meant.
type Warnings []Mistake

// readTree turns a stack file into a tree. It returns nil for an empty file, and after a mistake.
func (r *reader) readTree(data []byte) *yamltree.Node {
	if len(data) > maxSize {
		r.ReportOnce(yamltree.Pos{}, "the file has %d bytes: a stack file has at most %d", len(data), maxSize)
		return nil
	}
	return r.ReadTree(data, format)
}
