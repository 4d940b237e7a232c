package stack

// Default is the stack of an empty file: the topology of a two-node web
// application on Redis with a master and two replicas.
func Default() Stack { panic("todo") }

// Parse reads a stack file. The name is for messages. Its error is a Mistakes
// that names every mistake at once.
func Parse(name string, data []byte) (Stack, Warnings, error) { panic("todo") }

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

// Error is "file:line:column: what", one mistake a line.
func (m Mistakes) Error() string { panic("todo") }

// Show prints the stack as a stack file with every default filled in, that
// Parse reads back as the same stack.
func (s Stack) Show() []byte { panic("todo") }

// Schema is a JSON Schema (draft 2020-12) of the stack file, for editors.
func Schema() []byte { panic("todo") }
