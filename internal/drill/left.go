package drill

import (
	"path/filepath"

	"holdfast/internal/supervise"
)

// Left is what a drill of a stack has left to undo.
type Left struct {
	// Running is true while a drill is under way, which undoes it.
	Running bool
	// Broken are the things that are still broken, and Keys those that are only
	// keys in Redis, each in words.
	Broken, Keys []string
}

// LeftIn looks for what a drill has left in a state directory. It changes nothing.
func LeftIn(state string) (Left, error) {
	l := Left{}
	l.Running, _ = supervise.Drilled(state)
	j, err := openJournal(filepath.Join(state, journalName))
	if err != nil {
		return l, err
	}
	for _, s := range j.steps {
		if s.Keys != nil {
			l.Keys = append(l.Keys, s.Why)
		} else {
			l.Broken = append(l.Broken, s.Why)
		}
	}
	return l, nil
}
