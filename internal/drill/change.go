package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/control"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// changeUndo undoes a change: it waits until no change is under way, and makes the stack what it
// was. The wait is needed because the supervisor continues a change whose drill is gone.
type changeUndo struct {
	State string           `json:"state"`
	Was   supervise.RunsAs `json:"was"`
	// RedisPorts are the ports of the redis nodes. The stack file alone does not restore them: a
	// node whose port the file leaves open keeps the last one that it had.
	RedisPorts []int `json:"redis_ports,omitempty"`
}

// changeLimit limits how long a change may take, in addition to the start of its nodes and the time
// for which each node has to be well.
const changeLimit = 2 * time.Minute

// changeLimitOf returns how long a change of a stack may take.
func changeLimitOf(of stack.Stack) time.Duration {
	nodes := of.Balancers + of.Redis.Replicas + 1 + replicasMore + of.Redis.Sentinels + sentinelsMore
	for _, app := range of.Apps {
		nodes += app.Nodes
	}
	return changeLimit + of.SlowestStart() + time.Duration(nodes)*of.Rollout.Settle
}

// perform waits until no change is under way, and makes the stack what it was.
func (c changeUndo) perform() error {
	was, err := c.Was.Stack()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*changeLimitOf(was))
	defer cancel()
	client := control.NewClient(c.State)
	if err := awaitNoChange(ctx, client, changeLimitOf(was)); err != nil {
		return err
	}
	now, err := supervise.ReadRunsAs(c.State)
	if err != nil {
		return err
	}
	if len(c.RedisPorts) > 0 && !slices.Equal(now.RedisPorts(), c.RedisPorts) {
		req := c.Was.Again(now)
		req.File = string(withRedisPorts(was, c.RedisPorts).Show())
		if err := applyIfNeeded(ctx, client, req); err != nil {
			return err
		}
		if now, err = supervise.ReadRunsAs(c.State); err != nil {
			return err
		}
	}
	return applyIfNeeded(ctx, client, c.Was.Again(now))
}

// applyIfNeeded carries out a request if it changes anything.
func applyIfNeeded(ctx context.Context, client *control.Client, req supervise.Request) error {
	p, err := client.Preview(ctx, req)
	if err != nil || p.Empty() {
		return err
	}
	done, err := client.Change(ctx, req, func(supervise.Event) {})
	if err == nil && !done.Done {
		err = errors.New(done.Why)
	}
	return err
}

// withRedisPorts returns the stack file with these ports for its redis nodes.
func withRedisPorts(file stack.Stack, ports []int) stack.Stack {
	file.Redis.Ports = slices.Clone(ports)
	return file
}

// awaitNoChange waits until no change of the stack is under way.
func awaitNoChange(ctx context.Context, client *control.Client, limit time.Duration) error {
	var failed error
	err := awaitEvery(ctx, askEvery, "the end of the change", limit, func() bool {
		st, err := client.Status(ctx)
		failed = err
		return err == nil && st.Change == nil
	})
	if err != nil {
		return errors.Join(err, failed)
	}
	return nil
}

// formerStack is what a stack was before its changes.
type formerStack struct {
	runs  supervise.RunsAs
	nodes []string
}

// undoChanges records what the stack is, and adds the step that restores it when the fault is
// undone.
func (fc *faultContext) undoChanges(ctx context.Context, why string) (formerStack, error) {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return formerStack{}, err
	}
	f := formerStack{nodes: namesOf(st.Nodes)}
	if f.runs, err = supervise.ReadRunsAs(fc.stack.state()); err != nil {
		return f, err
	}
	return f, fc.undo(step{Why: why, Changed: &changeUndo{fc.stack.state(), f.runs, f.runs.RedisPorts()}, Running: fc.stack.state()})
}

// restoreStack restores what the stack was, and checks that it worked.
func (fc *faultContext) restoreStack(ctx context.Context, was formerStack) error {
	now, err := supervise.ReadRunsAs(fc.stack.state())
	if err != nil {
		return err
	}
	if len(was.runs.Differences(now)) > 0 {
		fc.recordInjection()
		if err := fc.carryOut(ctx, was.runs.Again(now), nil); err != nil {
			return fmt.Errorf("back to what it was: %w", err)
		}
	}
	return fc.verifyAsBefore(ctx, was)
}

// verifyAsBefore checks that the stack is what it was.
func (fc *faultContext) verifyAsBefore(ctx context.Context, was formerStack) error {
	now, err := supervise.ReadRunsAs(fc.stack.state())
	if err != nil {
		return err
	}
	if differences := was.runs.Differences(now); len(differences) > 0 {
		return fmt.Errorf("the stack is not what it was: %s", strings.Join(differences, ", "))
	}
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	if nodes := namesOf(st.Nodes); !slices.Equal(nodes, was.nodes) {
		return fmt.Errorf("the stack had the nodes %s, and has %s", strings.Join(was.nodes, ", "), strings.Join(nodes, ", "))
	}
	fc.evidence("the stack is what it was, with %d nodes", len(was.nodes))
	return nil
}

// stepAction is an action in the middle of a change. It happens once.
type stepAction struct {
	// when reports whether to act at a step that has begun. It is called for every step.
	when func(supervise.Event) bool
	do   func(supervise.Event) error
}

// killSpread is the longest delay of a kill after the beginning of a step.
const killSpread = 1500 * time.Millisecond

// killAtRandomStep returns a kill at a random moment of a change.
func (fc *faultContext) killAtRandomStep(ctx context.Context, req supervise.Request, kill fault) (*stepAction, error) {
	p, err := fc.stack.client().Preview(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(p.Steps) == 0 {
		return nil, fmt.Errorf("the %s would find nothing to do", req.Kind)
	}
	at, begun := 1+fc.random.IntN(len(p.Steps)), 0
	return &stepAction{
		when: func(supervise.Event) bool { begun++; return begun == at },
		do: func(e supervise.Event) error {
			after := time.Duration(fc.random.Int64N(int64(killSpread)))
			if err := sleep(ctx, after); err != nil {
				return err
			}
			fc.evidence("%d ms after the beginning of step %d of %d, %s %s", after.Milliseconds(), at, len(p.Steps), e.Action, e.Node)
			return kill.inject(ctx, fc)
		},
	}, nil
}

// change makes the supervisor change the stack; m may be nil. It returns m's error, or an error if
// the change did not begin or its end is unknown. A change that was stopped is no error: see
// Result.
func (fc *faultContext) change(ctx context.Context, req supervise.Request, m *stepAction) (supervise.Result, error) {
	before, err := fc.lastChange()
	if err != nil {
		return supervise.Result{}, err
	}

	limited, cancel := context.WithTimeout(ctx, changeLimitOf(fc.stack.spec))
	defer cancel()

	var failed error
	did := false
	done, err := fc.stack.client().Change(limited, req, func(e supervise.Event) {
		if e.What != "begun" {
			return
		}
		fc.say("%s: step %d of %d, %s %s", req.Kind, e.Step, e.Of, e.Action, e.Node)
		fc.addTargets(e.Node) // also a node that keeps serving while others restart
		if m != nil && m.when(e) && !did {
			did = true
			failed = m.do(e)
		}
	})
	switch {
	case failed != nil:
		return done, failed
	case errors.Is(err, control.ErrInterrupted) && did:
		return fc.resumedChange(ctx, req.Kind, before)
	case err != nil:
		return done, fmt.Errorf("%s: %w", req.Kind, err)
	case m != nil && !did && done.Done:
		return done, fmt.Errorf("the %s was over before its middle", req.Kind)
	}
	return done, nil
}

// lastChange returns the number of the last change that has ended; 0: none.
func (fc *faultContext) lastChange() (id int, err error) {
	ended, err := supervise.EndedChanges(fc.stack.state())
	for _, r := range ended {
		id = max(id, r.ID)
	}
	return id, err
}

// resumedChange returns how a change ended whose supervisor died in the middle. The next supervisor
// continues it. It is the first change of that kind that ended after the one with the number
// before.
func (fc *faultContext) resumedChange(ctx context.Context, kind string, before int) (supervise.Result, error) {
	fc.say("waiting until the next supervisor has gone on with the change")
	if err := awaitNoChange(ctx, fc.stack.client(), changeLimitOf(fc.stack.spec)); err != nil {
		return supervise.Result{}, err
	}
	ended, err := supervise.EndedChanges(fc.stack.state())
	if err != nil {
		return supervise.Result{}, err
	}
	i := slices.IndexFunc(ended, func(r supervise.Result) bool { return r.ID > before && r.Kind == kind })
	if i < 0 {
		return supervise.Result{}, fmt.Errorf("the next supervisor did not go on with the %s", kind)
	}
	fc.evidence("the next supervisor went on with the %s", kind)
	return ended[i], nil
}

// carryOut makes a change that has to succeed.
func (fc *faultContext) carryOut(ctx context.Context, req supervise.Request, m *stepAction) error {
	done, err := fc.change(ctx, req, m)
	switch {
	case err != nil:
		return err
	case !done.Done:
		return fmt.Errorf("the %s was stopped: %s", req.Kind, done.Why)
	}
	fc.evidence("%s: %d steps in %.1f s", req.Kind, done.Steps, done.Ended.Sub(done.Began).Seconds())
	return nil
}

// carryOutAndKill makes a change that has to succeed although something is killed at a random
// moment of it.
func (fc *faultContext) carryOutAndKill(ctx context.Context, req supervise.Request, kill fault) error {
	m, err := fc.killAtRandomStep(ctx, req, kill)
	if err != nil {
		return err
	}
	return fc.carryOut(ctx, req, m)
}

// requireNoChange returns why the stack cannot be changed: another change is under way, or waiting.
func requireNoChange(ctx context.Context, fc *faultContext) error {
	st, err := fc.stack.status(ctx)
	if err != nil || st.Change == nil {
		return err
	}
	return fmt.Errorf("a change of the stack is under way (%s): %s", st.Change.Kind, st.Change.At())
}

// application chooses an application under load at random, in proportion to its nodes that are up,
// and returns it with those nodes.
func (fc *faultContext) application(ctx context.Context) (app string, nodes []supervise.NodeStatus, err error) {
	all, err := fc.upNodes(ctx, plan.Web, "")
	if err != nil {
		return "", nil, err
	}
	app = all[fc.random.IntN(len(all))].App
	for _, n := range all {
		if n.App == app {
			nodes = append(nodes, n)
		}
	}
	return app, nodes, nil
}

// recordAppChange records the beginning of a change of an application. It may affect the
// application's nodes and all balancers.
func (fc *faultContext) recordAppChange(nodes []supervise.NodeStatus, more ...string) {
	balancers := slices.Sorted(maps.Keys(fc.stack.balancers))
	fc.recordInjection(slices.Concat(namesOf(nodes), more, balancers)...)
}

// verifyReplaced checks that each of some nodes has another process than before.
func (fc *faultContext) verifyReplaced(ctx context.Context, before []supervise.NodeStatus) error {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	var pids []string
	for _, n := range before {
		now, _ := st.Node(n.Name)
		if now.PID == 0 || now.PID == n.PID {
			return fmt.Errorf("%s was to be started anew: it had pid %d, and has pid %d", n.Name, n.PID, now.PID)
		}
		pids = append(pids, fmt.Sprintf("%s went from pid %d to %d", n.Name, n.PID, now.PID))
	}
	fc.evidence("%s", strings.Join(pids, ", "))
	return nil
}

// verifyUntouched checks that each of some nodes still has the same process.
func (fc *faultContext) verifyUntouched(ctx context.Context, before []supervise.NodeStatus) error {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	for _, n := range before {
		if now, _ := st.Node(n.Name); now.PID != n.PID {
			return fmt.Errorf("%s was to be left as it was: it had pid %d, and has pid %d", n.Name, n.PID, now.PID)
		}
	}
	return nil
}

func namesOf(nodes []supervise.NodeStatus) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return all
}
