package supervise

import (
	"maps"
	"slices"

	"holdfast/internal/stack"
)

// RunTime is what operators asked for while the stack ran, and its file does not have.
type RunTime struct {
	// Nodes has the number of nodes by application.
	Nodes map[string]int `json:"nodes,omitempty"`
	// Programs has the programs that applications run, by application.
	Programs map[string]RunTimeProgram `json:"programs,omitempty"`
	// Drained are the nodes that are out of rotation.
	Drained []string `json:"drained,omitempty"`
}

// RunTimeProgram is a program that a rollout brought. Of the environment it has only the names,
// because a value may be a secret.
type RunTimeProgram struct {
	Command []string `json:"command"`
	Dir     string   `json:"dir,omitempty"`
	Env     []string `json:"env,omitempty"`
}

func runTime(l layout) *RunTime {
	o := l.overrides
	if len(o.Nodes)+len(o.Programs)+len(o.Drained) == 0 {
		return nil
	}
	r := &RunTime{Nodes: o.Nodes, Drained: slices.Sorted(maps.Keys(o.Drained))}
	for name, p := range o.Programs {
		if r.Programs == nil {
			r.Programs = map[string]RunTimeProgram{}
		}
		r.Programs[name] = shownProgram(p)
	}
	return r
}

func shownProgram(p stack.Program) RunTimeProgram {
	return RunTimeProgram{Command: p.Command, Dir: p.Dir, Env: slices.Sorted(maps.Keys(p.Env))}
}
