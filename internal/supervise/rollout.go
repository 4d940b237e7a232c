package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A rollout is a change that gives the nodes of one application another version of
// its program. It may wait after some nodes (a canary); while it does, it is the one
// change that is under way, under this supervisor and the next.

// Rollout is what somebody wants of an application's program.
type Rollout struct {
	App string `json:"app"`
	// Command and Dir are the new ones; empty: as they are. Env is added to what the
	// program has.
	Command []string          `json:"command,omitempty"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	// Only is after how many nodes the rollout waits; 0: it does not.
	Only int `json:"only,omitempty"`
	// Undo brings back the version before, and Continue goes on with a rollout that
	// waits.
	Undo     bool `json:"undo,omitempty"`
	Continue bool `json:"continue,omitempty"`
}

// settles is the application whose waiting rollout a request decides about; empty:
// none.
func (r *Rollout) settles() string {
	if r != nil && (r.Undo || r.Continue) {
		return r.App
	}
	return ""
}

// rolledOut are the overrides that a rollout means.
func (s *Supervisor) rolledOut(now layout, r Rollout) (stack.Overrides, error) {
	app, there := now.stack().Apps[r.App]
	switch {
	case !there:
		return stack.Overrides{}, &UnknownAppError{r.App, now.stack().AppNames()}
	case app.Kind() != stack.Command:
		return stack.Overrides{}, badArgument("%s is of kind %s, and has no program of yours: 'holdfast apply' changes its settings, 'holdfast upgrade' brings another version of Holdfast", r.App, app.Kind())
	case r.Only < 0 || r.Only > max(1, app.Nodes-1):
		return stack.Overrides{}, badArgument("%s has %d nodes: --only has to be from 1 to %d", r.App, app.Nodes, max(1, app.Nodes-1))
	case r.Undo:
		return s.versionBefore(now, r.App)
	}
	p := stack.Program{Command: app.Command, Dir: app.Dir, Env: app.Env}
	if len(r.Command) > 0 {
		p.Command = r.Command
	}
	if r.Dir != "" {
		p.Dir = r.Dir
	}
	if len(r.Env) > 0 {
		p.Env = with(p.Env, r.Env)
	}
	return stack.Overrides{Programs: map[string]stack.Program{r.App: unlessDeclared(now.file.Apps[r.App], p)}}, nil
}

// unlessDeclared is a program as an override: none where the stack file has the same.
func unlessDeclared(app stack.App, p stack.Program) stack.Program {
	if slices.Equal(app.Command, p.Command) && app.Dir == p.Dir && maps.Equal(app.Env, p.Env) {
		return stack.Program{}
	}
	return p
}

// UnknownAppError reports that a stack has no application of that name.
type UnknownAppError struct {
	App  string
	Apps []string
}

func (e *UnknownAppError) Error() string {
	return fmt.Sprintf("no application is called %q; the applications are %s", e.App, join(e.Apps))
}

// settleHeld decides about the rollout that waits. It goes on with it, or returns what
// the request is to take back: then it waits still, until that has begun.
func (s *Supervisor) settleHeld(r Rollout, waits bool) (*changeRun, changeRecord, error) {
	record, _, err := s.dir.readChange()
	if err != nil {
		return nil, record, err
	}
	if !waits || !record.Held {
		return nil, record, refused("no rollout of %s waits: 'holdfast rollout %s' begins one", r.App, r.App)
	}
	if !r.Continue {
		return nil, record, nil
	}
	final, err := s.layoutOf(record)
	if err != nil {
		return nil, record, err
	}
	record.Held, record.Only = false, 0
	return &changeRun{sup: s, record: record, final: final}, record, s.dir.writeChange(record)
}

// heldOnDisk is the rollout that waits, as it is written down; nil: none does.
func (s *Supervisor) heldOnDisk() *ChangeStatus {
	record, _, err := s.dir.readChange()
	if err != nil || !record.Held {
		return nil
	}
	return record.heldStatus()
}

// inPlace are the nodes that a rollout starts anew although nothing about them
// changes: those of a program whose files are used where they lie.
func (s *Supervisor) inPlace(r *Rollout) (names []string) {
	if r == nil || r.Undo || r.Continue || len(r.Command) > 0 || r.Dir != "" || len(r.Env) > 0 {
		return nil
	}
	if app := s.stack().Apps[r.App]; app.Kind() != stack.Command || app.Release != "" {
		return nil
	}
	return s.nodesOf(r.App)
}

// nodesOf are the nodes of an application.
func (s *Supervisor) nodesOf(app string) (names []string) {
	for _, p := range s.processes() {
		if p.App == app && p.Kind == plan.Web {
			names = append(names, p.Node)
		}
	}
	return names
}

// hold writes down that the rollout waits. One of which that cannot be is stopped: the
// next supervisor would go on without waiting.
func (c *changeRun) hold() error {
	c.record.Held = true
	if err := errors.Join(c.sup.saveRunning(), c.sup.dir.writeChange(c.record)); err != nil {
		c.record.Held = false
		return fmt.Errorf("that the rollout waits cannot be written down: %w", err)
	}
	c.sup.log.Info("the rollout waits", "app", c.record.App, "nodes", c.renewed)
	return nil
}

// heldStatus is what has the place of the one change after this one; nil: nothing.
func (c *changeRun) heldStatus(r Result) *ChangeStatus {
	if !r.Held {
		return nil
	}
	return c.record.heldStatus()
}

func (r changeRecord) heldStatus() *ChangeStatus {
	return &ChangeStatus{ID: r.ID, Kind: r.Kind, Began: r.Began, Held: r.App}
}

// renews reports whether a step gives a node of the rollout's application its new
// version.
func (c *changeRun) renews(step plan.Step) bool {
	to, there := c.final.part(step.Node)
	if !there { // one that serves meanwhile
		n := c.sup.node(step.Node)
		return n != nil && n.spec().App == c.record.App && step.Action == plan.Start
	}
	return to.process.App == c.record.App && (step.Action == plan.Restart || step.Action == plan.Start)
}

// renewedNodes is how many nodes of the rollout's application have their new version
// when it begins or goes on.
func (c *changeRun) renewedNodes(now layout) (n int) {
	if c.record.App == "" {
		return 0
	}
	for _, change := range plan.Diff(now.host(), c.final.host(), nil) {
		if change.App == c.record.App && (change.Action == plan.Untouched || change.Action == plan.Stop) {
			n++
		}
	}
	return n
}

// allowed are those of the steps of a group that may be done before the rollout
// waits; none: it waits now.
func (c *changeRun) allowed(group []plan.Step) []plan.Step {
	if c.record.Only == 0 {
		return group
	}
	left := c.record.Only - c.renewed
	for i, step := range group {
		to, there := c.final.part(step.Node)
		if there && to.process.App != c.record.App {
			continue
		}
		if left <= 0 {
			return group[:i]
		}
		left--
	}
	return group
}

// halfway returns the nodes that have other settings than the stack has for them.
func (s *Supervisor) halfway() (names []string, err error) {
	now, _ := s.current()
	whole, err := s.planned(now, now.overrides.On(now.file))
	if err != nil {
		return nil, err
	}
	for _, n := range plan.Diff(now.host(), whole.host(), nil) {
		if n.Action != plan.Untouched {
			names = append(names, n.Node)
		}
	}
	return names, nil
}

// putVersionBack takes a rollout back that was stopped, so that all nodes of the
// application run the same version again.
func (s *Supervisor) putVersionBack(ctx context.Context, c *changeRun, r *Result) {
	if r.Done || r.Held || c.record.App == "" || ctx.Err() != nil || s.stopping.Load() {
		return
	}
	defer s.pruneReleases()
	if left, err := s.halfway(); err == nil && len(left) == 0 {
		return
	}
	defer func() {
		r.Left, _ = s.halfway()
		s.changing.keep(*r) // status shows the rollout, not what took it back
	}()
	s.log.Info("the nodes that have the new version get the one before", "app", c.record.App)
	undo, err := s.beginChange(ctx, Request{Kind: "put back"}, false)
	if err == nil {
		undo.tell = c.tell
		if result := undo.run(ctx); !result.Done {
			err = errors.New(result.Why)
		}
	}
	if err != nil {
		r.Why += fmt.Sprintf("\nThe nodes that got the new version before it have it still, since they could not be put back: %v", err)
		return
	}
	r.Why += "\nThe nodes that got the new version before it run the one before again"
}
