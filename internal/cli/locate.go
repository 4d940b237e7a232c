package cli

import (
	"errors"
	"fmt"

	"holdfast/internal/private"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// locate loads the stack, as loadStack does, and finds its state directory.
func locate(g *globals) (s stack.Stack, baseDir, state string, err error) {
	if s, baseDir, err = loadStack(g); err != nil {
		return s, "", "", err
	}
	state, err = stateDir(g, s.Name)
	return s, baseDir, state, err
}

// locateRunnable is locate for a command that starts the stack, or has it become what
// the stack file says.
func locateRunnable(g *globals) (s stack.Stack, baseDir, state string, err error) {
	if s, baseDir, state, err = locate(g); err == nil {
		err = refuseHosts(s)
	}
	return s, baseDir, state, err
}

// refuseHosts refuses a stack of several hosts.
func refuseHosts(s stack.Stack) error {
	if len(s.Hosts) > 0 {
		return usageError{supervise.ErrSeveralHosts}
	}
	return nil
}

// mistakenFile is the error of a stack file that has mistakes.
type mistakenFile struct {
	error
	name string // the stack's; empty: the file does not tell
}

func (e *mistakenFile) Unwrap() error { return e.error }

// locateRunning is locate for a command that looks at what runs, or acts on it. Where
// the stack file has mistakes, such a command uses the file with which the stack runs:
// somebody may be at work on the file while another one has to look or to act.
func locateRunning(g *globals) (s stack.Stack, baseDir, state string, err error) {
	s, baseDir, state, err = locate(g)
	var mistaken *mistakenFile
	if !errors.As(err, &mistaken) || g.state == "" && mistaken.name == "" {
		return s, baseDir, state, err
	}
	state, stateErr := stateDir(g, mistaken.name)
	if stateErr != nil || private.CheckDir(state) != nil {
		return s, baseDir, "", err
	}
	running, runningDir, known := supervise.LastFile(state)
	if !known {
		return s, baseDir, "", err
	}
	if g.mistakes == nil {
		fmt.Fprintf(g.stderr, "warning: %s\nwarning: so this goes by the file that the stack %s runs by, without what was changed in it since\n", g.say(mistaken.Error()), running.Name)
	}
	g.mistakes = mistaken
	return running, runningDir, state, nil
}
