package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// A rollout is a change that gives the nodes of one application another version of its program.
// It may wait after some nodes (a canary). While it waits, it counts as the one change that is
// under way, also under the next supervisor.

// Rollout is a request for another version of an application's program.
type Rollout struct {
	App string `json:"app"`
	// Command and Dir are the new ones; empty: unchanged. Env is added to the program's
	// environment.
	Command []string          `json:"command,omitempty"`
	Dir     string            `json:"dir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	// Only is after how many nodes the rollout waits; 0: it does not wait.
	Only int `json:"only,omitempty"`
	// Undo brings back the former version. Continue goes on with a rollout that waits.
	Undo     bool `json:"undo,omitempty"`
	Continue bool `json:"continue,omitempty"`
}

// settles returns the application whose waiting rollout a request continues or undoes; empty:
// none.
func (r *Rollout) settles() string {
	if r != nil && (r.Undo || r.Continue) {
		return r.App
	}
	return ""
}

// rolledOut returns the overrides by which a rollout is expressed.
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
		p.Env = merged(p.Env, r.Env)
	}
	return stack.Overrides{Programs: map[string]stack.Program{r.App: unlessDeclared(now.file.Apps[r.App], p)}}, nil
}

// unlessDeclared returns a program as an override; it is empty if the stack file has the same
// program.
func unlessDeclared(app stack.App, p stack.Program) stack.Program {
	if slices.Equal(app.Command, p.Command) && app.Dir == p.Dir && maps.Equal(app.Env, p.Env) {
		return stack.Program{}
	}
	return p
}

// UnknownAppError is the error of a request for an application that the stack does not have.
type UnknownAppError struct {
	App  string
	Apps []string
}

func (e *UnknownAppError) Error() string {
	return fmt.Sprintf("no application is called %q; the applications are %s", e.App, strings.Join(e.Apps, ", "))
}

// settleHeld continues the waiting rollout, or returns the record of the one that the request
// is to undo. In that case the rollout goes on waiting until the undoing has begun.
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

// heldOnDisk returns the recorded rollout that waits; nil: none does.
func (s *Supervisor) heldOnDisk() *ChangeStatus {
	record, _, err := s.dir.readChange()
	if err != nil || !record.Held {
		return nil
	}
	return record.heldStatus()
}

// inPlace returns the nodes that a rollout restarts although nothing about them changes: those
// of a program whose files are used in place.
func (s *Supervisor) inPlace(r *Rollout) (names []string) {
	if r == nil || r.Undo || r.Continue || len(r.Command) > 0 || r.Dir != "" || len(r.Env) > 0 {
		return nil
	}
	if app := s.stack().Apps[r.App]; app.Kind() != stack.Command || app.Release != "" {
		return nil
	}
	return s.nodesOf(r.App)
}

// nodesOf returns the nodes of an application.
func (s *Supervisor) nodesOf(app string) (names []string) {
	for _, p := range s.processes() {
		if p.App == app && p.Kind == plan.Web {
			names = append(names, p.Node)
		}
	}
	return names
}

// hold records that the rollout waits. If that fails, the rollout is stopped, because the next
// supervisor would go on without waiting.
func (c *changeRun) hold() error {
	c.record.Held = true
	if err := errors.Join(c.sup.saveRunning(), c.sup.dir.writeChange(c.record)); err != nil {
		c.record.Held = false
		return fmt.Errorf("that the rollout waits cannot be written down: %w", err)
	}
	c.sup.log.Info("the rollout waits", "app", c.record.App, "nodes", c.renewed)
	return nil
}

// heldStatus returns what counts as the change under way after this one; nil: nothing.
func (c *changeRun) heldStatus(r Result) *ChangeStatus {
	if !r.Held {
		return nil
	}
	return c.record.heldStatus()
}

func (r changeRecord) heldStatus() *ChangeStatus {
	return &ChangeStatus{ID: r.ID, Kind: r.Kind, Began: r.Began, Held: r.App}
}

// renews reports whether a step gives the new version to a node of the rollout's application.
func (c *changeRun) renews(step plan.Step) bool {
	to, there := c.final.nodePlan(step.Node)
	if !there { // a node that serves only during the change
		n := c.sup.node(step.Node)
		return n != nil && n.spec().App == c.record.App && step.Action == plan.Start
	}
	return to.process.App == c.record.App && (step.Action == plan.Restart || step.Action == plan.Start)
}

// renewedNodes returns how many nodes of the rollout's application have the new version when it
// begins or goes on.
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

// allowed returns the steps of a group that may be done before the rollout waits; empty: it
// waits now.
func (c *changeRun) allowed(group []plan.Step) []plan.Step {
	if c.record.Only == 0 {
		return group
	}
	left := c.record.Only - c.renewed
	for i, step := range group {
		to, there := c.final.nodePlan(step.Node)
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

// divergingNodes returns the nodes that have other settings than the stack has for them.
func (s *Supervisor) divergingNodes() (names []string, err error) {
	now, _ := s.current()
	whole, err := s.planned(now, now.overrides.Apply(now.file))
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

// putVersionBack undoes a rollout that was stopped, so that all nodes of the application run
// the same version again.
func (s *Supervisor) putVersionBack(ctx context.Context, c *changeRun, r *Result) {
	if r.Done || r.Held || c.record.App == "" || ctx.Err() != nil || s.stopping.Load() {
		return
	}
	defer s.pruneReleases()
	if left, err := s.divergingNodes(); err == nil && len(left) == 0 {
		return
	}
	defer func() {
		r.Left, _ = s.divergingNodes()
		s.changing.keep(*r) // the status shows the rollout, not its undoing
	}()
	s.log.Info("the nodes that have the new version get the one before", "app", c.record.App)
	undo, err := s.beginChange(ctx, Request{Kind: "put back"}, false)
	if err == nil {
		undo.onEvent = c.onEvent
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
