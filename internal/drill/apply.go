package drill

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// The drill sends texts to the supervisor, as 'holdfast apply' does. The stack file on the disk
// stays as it is: otherwise the next supervisor would take the changed file up, because it makes
// the stack what the file says.

var apply = fault{
	name: "apply", about: "holdfast apply of four stack files one after the other, and of the first one again: other limits and routes, Redis' memory, another environment of an application's nodes, one node more",
	course: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		a, err := fc.beginApply(ctx)
		if err != nil {
			return err
		}
		for _, alteration := range alterations(a.file, a.app) {
			if err := fc.applyOne(ctx, a, alteration); err != nil {
				return fmt.Errorf("%s: %w", alteration.what, err)
			}
		}
		return fc.restoreStack(ctx, a.was)
	},
}

var applyKillSupervisor = fault{
	name: "apply-kill-supervisor", about: "holdfast apply of a stack file with many changes, and SIGKILL to the supervisor in the middle of it: the next one carries it through, and then has the stack be what its file says",
	course: true, double: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.applyAllAndKill(ctx, restartSupervisor) },
}

var applyKillMaster = fault{
	name: "apply-kill-master", about: "holdfast apply of a stack file with many changes, and SIGKILL to the Redis master in the middle of it: the change is carried through, or put back with a word about the node",
	double: true, needs: needWeb | needFailover, promise: held, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.applyAllAndKill(ctx, killMaster) },
}

// applying is a stack while its file is being changed.
type applying struct {
	was  formerStack
	file stack.Stack
	app  string
}

// beginApply chooses the application to change, and records the beginning.
func (fc *faultContext) beginApply(ctx context.Context) (*applying, error) {
	app, nodes, err := fc.application(ctx)
	if err != nil {
		return nil, err
	}
	if err := fc.requireBusy(ctx, nodes...); err != nil {
		return nil, err
	}
	a := &applying{app: app}
	if a.was, err = fc.undoChanges(ctx, "the change of the stack file"); err != nil {
		return nil, err
	}
	if a.file, err = a.was.runs.Stack(); err != nil {
		return nil, err
	}
	more := max(1, a.file.Rollout.Surge) // nodes that are added for good, or only during the change
	var added []string
	for i := range more + 1 {
		added = append(added, fmt.Sprintf("%s-%d", app, a.file.Apps[app].Nodes+i+1))
	}
	fc.recordAppChange(nodes, added...)
	return a, nil
}

// request returns the request to make the stack what a.file now says. With restart, the
// application's nodes are restarted.
func (fc *faultContext) request(ctx context.Context, a *applying, restart bool) (supervise.Request, error) {
	req := supervise.Request{Kind: "apply", File: string(a.file.Show()), BaseDir: a.was.runs.BaseDir}
	if !restart {
		return req, nil
	}
	nodes, err := fc.nodesNow(ctx, a.app)
	req.Force = namesOf(nodes)
	return req, err
}

// nodesNow returns the nodes that an application has now.
func (fc *faultContext) nodesNow(ctx context.Context, app string) (nodes []supervise.NodeStatus, err error) {
	st, err := fc.stack.status(ctx)
	for _, n := range st.Nodes {
		if n.Kind == plan.Web && n.App == app {
			nodes = append(nodes, n)
		}
	}
	return nodes, err
}

// applyOne makes one alteration of the file, and checks that it took effect.
func (fc *faultContext) applyOne(ctx context.Context, a *applying, one alteration) error {
	var before stackSnapshot
	var err error
	if before.nodes, err = fc.nodesNow(ctx, a.app); err != nil {
		return err
	}
	if before.workers, err = fc.workers(ctx); err != nil {
		return err
	}

	if one.alter != nil {
		one.alter(&a.file)
	}
	req, err := fc.request(ctx, a, one.restartsNodes)
	if err != nil {
		return err
	}

	fc.recordInjection()
	if err := fc.carryOut(ctx, req, nil); err != nil {
		return err
	}
	return one.verify(ctx, fc, a.app, before, a.file)
}

// applyAllAndKill makes all alterations in one change, kills something in the middle of it, and
// then restores what the stack was.
func (fc *faultContext) applyAllAndKill(ctx context.Context, kill fault) error {
	a, err := fc.beginApply(ctx)
	if err != nil {
		return err
	}

	restart := false
	for _, one := range alterations(a.file, a.app) {
		if one.alter != nil {
			one.alter(&a.file)
		}
		restart = restart || one.restartsNodes
	}
	req, err := fc.request(ctx, a, restart)
	if err != nil {
		return err
	}

	m, err := fc.killAtRandomStep(ctx, req, kill)
	if err != nil {
		return err
	}

	done, err := fc.change(ctx, req, m)
	switch {
	case err != nil:
		return err
	case done.Done:
		fc.evidence("the apply was carried through: %d steps in %.1f s", done.Steps, done.Ended.Sub(done.Began).Seconds())
	case done.Why == "":
		return errors.New("the apply was stopped, and does not say why")
	default:
		fc.evidence("the apply was stopped after %d of %d steps: %s", done.Steps, done.Of, done.Why)
	}
	return fc.restoreStack(ctx, a.was)
}
