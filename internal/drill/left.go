package drill

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/internal/private"
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
	l := Left{Running: underWay(state)}
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

// underWay reports whether somebody has the drill's place. It takes the lock as
// one of many readers, so that a drill which begins meanwhile finds it free a moment
// later.
func underWay(state string) bool {
	f, err := private.Open(filepath.Join(state, lockName), os.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}
