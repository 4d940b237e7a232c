package supervise

import (
	"encoding/json"
	"fmt"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// RunsAs is what a stack runs as, whatever its stack file says by now. It is the content of
// running.json in a form that others can keep, and request again later.
type RunsAs struct {
	// File is the stack file with every default. Its relative paths start from BaseDir.
	File    string `json:"file"`
	BaseDir string `json:"base_dir"`
	// Overrides are the operator's commands at run time.
	Overrides stack.Overrides `json:"overrides"`

	plan plan.Plan
}

// ReadRunsAs reads what the stack of a state directory runs as. In the middle of a change, part
// of that is still the former stack.
func ReadRunsAs(stateDir string) (RunsAs, error) {
	r, _, known, err := dirAt(stateDir).readRunning()
	if err == nil && !known {
		err = fmt.Errorf("%s does not say what the stack runs as: it is of another version of Holdfast", dirAt(stateDir).path(runningFile))
	}
	return RunsAs{File: r.Stack, BaseDir: r.BaseDir, Overrides: r.Overrides, plan: r.Plan}, err
}

// Stack returns the stack of the file.
func (r RunsAs) Stack() (stack.Stack, error) {
	s, _, err := stack.Parse(runningFile, []byte(r.File))
	return s, err
}

// Plan returns the plan that the stack runs by.
func (r RunsAs) Plan() plan.Plan { return r.plan }

// RedisPorts returns the ports of the redis nodes in the order of their numbers, including
// ports that the stack file leaves open.
func (r RunsAs) RedisPorts() (ports []int) {
	for i := 1; ; i++ {
		p, there := nodePlanOf(r.plan, fmt.Sprintf("redis-%d", i))
		if !there {
			return ports
		}
		_, port := splitAddress(p.process.Address)
		ports = append(ports, atoi(port))
	}
}

// Again returns the request that makes the stack, which is now as given, what r describes.
func (r RunsAs) Again(now RunsAs) Request {
	return Request{Kind: "apply", File: r.File, BaseDir: r.BaseDir, Overrides: r.Overrides.ChangeFrom(now.Overrides)}
}

// Differences returns, in words, how the stack differs now from what it was; empty: it is the
// same, node by node.
func (r RunsAs) Differences(now RunsAs) []string {
	var all []string
	differences := stack.Differences(r.plan.Stack, now.plan.Stack)
	for _, d := range differences {
		all = append(all, d.String())
	}
	if r.BaseDir != now.BaseDir {
		all = append(all, fmt.Sprintf("its file is in %s, and was in %s", now.BaseDir, r.BaseDir))
	}
	if was, is := saidOf(r.Overrides), saidOf(now.Overrides); was != is {
		all = append(all, fmt.Sprintf("what was said at run time is %s, and was %s", is, was))
	}
	for _, n := range plan.Diff(mergeHosts(r.plan.Hosts), mergeHosts(now.plan.Hosts), differences) {
		if n.Action != plan.Untouched || n.Quiet {
			all = append(all, fmt.Sprintf("%s is not what it was (%s)", n.Node, n.Action))
		}
	}
	return all
}

// saidOf returns overrides as text, without the values of environment variables.
func saidOf(o stack.Overrides) string {
	for name, p := range o.Programs {
		o.Programs = merged(o.Programs, map[string]stack.Program{name: {Command: p.Command, Dir: p.Dir}})
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // overrides are plain data
	}
	return string(b)
}
