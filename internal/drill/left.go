package drill

import (
	"path/filepath"

	"holdfast/internal/supervise"
)

// Left describes what a drill of a stack has left to undo.
type Left struct {
	// Running is true while a drill is under way, which will undo it.
	Running bool
	// Broken describes the things that are still broken. Keys describes leftovers that are only
	// keys in Redis.
	Broken, Keys []string
}

// LeftIn returns what a drill has left in a state directory. It changes nothing.
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
