package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast/internal/host"
	"holdfast/internal/private"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// locate loads the stack as loadStack does, and finds its state directory. On a host of several and
// without a stack file, it returns the stack that runs.
func locate(g *globals) (s stack.Stack, baseDir, state string, err error) {
	if stackFile(g.file) == "" {
		state, self, joined, err := joinedState(g)
		if err != nil {
			return s, "", "", err
		}
		if joined {
			s, baseDir = lastStack(state, self)
			return s, baseDir, state, nil
		}
	}
	if s, baseDir, err = loadStack(g); err != nil {
		return s, "", "", err
	}
	state, err = stateDir(g, s.Name)
	return s, baseDir, state, err
}

// lastStack returns the stack that runs on a host, as far as the host knows. A host that has
// learned nothing yet knows only the stack's name.
func lastStack(state string, self host.Self) (s stack.Stack, baseDir string) {
	if s, baseDir, known := supervise.LastFile(state); known {
		return s, baseDir
	}
	s = stack.Default()
	s.Name = self.Stack
	return s, filepath.Dir(state)
}

// isJoined reports whether a state directory belongs to a host of several.
func isJoined(state string) bool {
	_, err := host.ReadSelf(state)
	return !errors.Is(err, host.ErrNotJoined)
}

// locateKeepingPages is locate for a command that starts a stack, or looks at one that runs. If the
// file of a page (entry.errors) is missing or broken, it uses the page that the stack has had
// before: the answer to a failure must not keep the stack from starting.
func locateKeepingPages(g *globals) (s stack.Stack, baseDir, state string, err error) {
	s, baseDir, state, err = locate(g)
	var mistaken *mistakenFile
	if !errors.As(err, &mistaken) || len(mistaken.pages) == 0 {
		return s, baseDir, state, err
	}

	former, _, state, known := mistaken.lastFile(g)
	if !known {
		return s, baseDir, "", err
	}

	with := mistaken.stack
	for _, page := range mistaken.pages {
		var kept bool
		if with, kept = with.KeepPage(page.Reference, former); !kept {
			return s, baseDir, "", err
		}
	}

	if g.keptPages == nil {
		fmt.Fprintf(g.stderr, "warning: %s\nwarning: so the page stays that the stack %s had before; 'holdfast apply' takes up another one\n", g.renderMessage(mistaken.Error()), mistaken.name)
	}
	g.keptPages = mistaken.pages
	return with, mistaken.baseDir, state, nil
}

// locateRunnable is locate for a command that makes the stack what the stack file says. It keeps
// the pages of before: see locateKeepingPages.
func locateRunnable(g *globals) (s stack.Stack, baseDir, state string, err error) {
	if s, baseDir, state, err = locateKeepingPages(g); err == nil && len(s.Hosts) > 0 && !isJoined(state) {
		err = usagef("the stack file has hosts, and this machine is none of them yet: 'holdfast up' makes it the first one, or run it at one that is")
	}
	if err == nil {
		for _, a := range supervise.AdviseCertificates(s, baseDir) {
			fmt.Fprintf(g.stderr, "warning: %s\n", g.renderMessage(a.Error()))
		}
	}
	return s, baseDir, state, err
}

// mistakenFile is the error of a stack file that has mistakes.
type mistakenFile struct {
	error
	name string // the stack's name; empty: the file does not tell
	// pages are the files of pages that are missing or broken, if nothing else is wrong. stack and
	// baseDir are then what the stack file says without these pages.
	pages   []*supervise.ReferenceError
	stack   stack.Stack
	baseDir string
}

func (e *mistakenFile) Unwrap() error { return e.error }

// lastFile returns the stack file that the stack has run by, its directory, and the state directory.
// known is false if there is none, or if another user could change the state directory.
func (e *mistakenFile) lastFile(g *globals) (s stack.Stack, baseDir, state string, known bool) {
	state, err := stateDir(g, e.name)
	if err != nil || private.CheckDir(state) != nil {
		return s, "", "", false
	}
	s, baseDir, known = supervise.LastFile(state)
	return s, baseDir, state, known
}

// locateRunning is locate for a command that looks at what runs, or acts on it. If the stack file
// has mistakes, it uses the file that the stack runs with: one person may be editing the file while
// another needs to look or act.
func locateRunning(g *globals) (s stack.Stack, baseDir, state string, err error) {
	s, baseDir, state, err = locateKeepingPages(g)
	var mistaken *mistakenFile
	if !errors.As(err, &mistaken) || g.state == "" && mistaken.name == "" {
		return s, baseDir, state, err
	}
	running, runningDir, state, known := mistaken.lastFile(g)
	if !known {
		return s, baseDir, "", err
	}
	if g.mistakes == nil {
		fmt.Fprintf(g.stderr, "warning: %s\nwarning: so this goes by the file that the stack %s runs by, without what was changed in it since\n", g.renderMessage(mistaken.Error()), running.Name)
	}
	g.mistakes = mistaken
	return running, runningDir, state, nil
}
