package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
)

// stepper carries one step out.
type stepper struct {
	sup      *Supervisor
	step     plan.Step
	from, to nodePlan // from is empty if the node is new
	had      bool
	// settings are what a Set gives the node. settle is how long a node has to be up without a
	// break to count as healthy.
	settings *plan.Settings
	settle   time.Duration
	// stack is the stack that the step leads to, and stays reports whether a node is in it.
	stack stack.Stack
	stays func(node string) bool
	log   *slog.Logger
	// lastOutput is the last output of a node that did not become healthy.
	lastOutput []string
	// touched is true once something was done that putBack has to undo.
	touched bool
}

func (x *stepper) do(ctx context.Context) error {
	if err := x.awaitHost(ctx); err != nil {
		return err
	}
	switch x.step.Action {
	case plan.Start:
		return x.start(ctx)
	case plan.Stop:
		return x.stop(ctx)
	case plan.Restart:
		return x.restart(ctx)
	case plan.Reload:
		return x.reload(ctx, x.to)
	case plan.Set:
		return x.changeSettings(ctx, x.settings)
	case plan.HandOver:
		return x.handOver(ctx)
	case plan.Forget:
		return x.sup.forget(ctx, x.step.Node)
	}
	return fmt.Errorf("unknown step %q", x.step.Action)
}

// hostPatience is how long a step waits for a host that is away. Its Holdfast process may be
// about to come back, such as that of the host that led before.
const hostPatience = 10 * time.Second

// awaitHost waits for the host of the node, and returns an error if the host stays away. A
// reload does not wait: the balancers of the host are reloaded when it is back.
func (x *stepper) awaitHost(ctx context.Context) error {
	host, absent := cmp.Or(x.to.host, x.from.host), x.sup.hosts.isAbsent
	back := func(context.Context) bool { return !absent(host) }
	if x.step.Action == plan.Reload || within(ctx, hostPatience, 100*time.Millisecond, back) {
		return nil
	}
	return fmt.Errorf("host %s is away", host)
}

// start brings up a new node.
func (x *stepper) start(ctx context.Context) error {
	s := x.sup
	if knownByAddress(x.to.process) {
		if err := x.begin(ctx); err != nil {
			return err
		}
	}
	if err := s.putNode(x.to); err != nil {
		return err
	}
	x.touched = true
	if s.node(x.step.Node) == nil {
		n := s.addNode(x.to.process)
		s.showLayout()
		s.tasks.Go(func() { n.run(s.ctx) })
	}
	if err := x.bringUp(ctx, command{action: ActStart}); err != nil || !knownByAddress(x.to.process) {
		return err
	}
	return s.awaitAllKnown(ctx)
}

// restart replaces a node's process. A node that its operator has stopped stays down.
func (x *stepper) restart(ctx context.Context) error {
	s := x.sup
	if x.relocates() {
		return x.relocate(ctx)
	}
	moves := knownByAddress(x.to.process) && x.had && x.from.process.Address != x.to.process.Address
	if moves {
		if err := x.leave(ctx); err != nil {
			return err
		}
		if err := s.noteAddress(x.step.Node, x.to.process.Address); err != nil {
			return err
		}
	}
	if err := x.requireOtherServing(ctx); err != nil {
		return err
	}
	if x.to.process.Kind == plan.Web && x.from.process.Address != x.to.process.Address {
		// Old workers, from before a reload, neither learn that the node leaves nor find it at its
		// new address.
		s.awaitOldWorkers(ctx)
	}
	x.touched = true
	if err := s.putNode(x.to); err != nil {
		return err
	}
	if st, _ := s.statusBoard.snapshot().Node(x.step.Node); st.State == Down {
		return s.send(ctx, x.step.Node, command{action: actTake, spec: &x.to.process})
	}
	if !moves { // otherwise it is no longer the master
		s.stepDown(ctx, x.step.Node)
	}
	if err := x.bringUp(ctx, command{action: ActRestart, spec: &x.to.process}); err != nil || !moves {
		return err
	}
	return s.awaitAllKnown(ctx)
}

// requireOtherServing returns an error if an application's node cannot be spared: the application
// has several nodes, and no other one serves. It waits for a node that has just come up.
func (x *stepper) requireOtherServing(ctx context.Context) error {
	s, name, app := x.sup, x.step.Node, x.to.process.App
	if x.to.process.Kind != plan.Web || len(s.nodesOf(app)) < 2 {
		return nil
	}
	relieved := func(context.Context) bool {
		now, _ := s.current()
		drained := now.overrides.Drained
		return s.serving(app, merged(drained, map[string]bool{name: true})) > 0 || s.serving(app, drained) == 0
	}
	if within(ctx, s.rotationLimit()+rotationTimeout, 20*time.Millisecond, relieved) {
		return nil
	}
	return fmt.Errorf("no other node of %s serves: its clients would get 503 meanwhile; have another one serve first ('holdfast status' shows why they do not), or set rollout.surge", app)
}

// bringUp sends a node a command, and waits until the node is up, in rotation, and has been
// healthy for a while.
func (x *stepper) bringUp(ctx context.Context, c command) error {
	s, name := x.sup, x.step.Node
	n := s.node(name)
	began := time.Now()
	limit := cmp.Or(x.to.process.Start, askedLimit)
	if x.to.process.Kind == plan.Redis {
		limit = syncLimit
	}
	err := s.bringUp(ctx, n, c, limit)
	if errors.As(err, new(*UnableError)) {
		x.log.Warn("the change goes on without a node", "why", err)
		return nil
	}
	if err == nil {
		err = s.awaitServed(ctx, name)
	}
	if err == nil {
		err = s.awaitCalm(ctx, name, x.settle)
	}
	if err != nil && !errors.As(err, new(*FailedError)) {
		x.lastOutput = n.processLog.since(began, n.tail)
	}
	return err
}

// awaitServed waits until every balancer that knows a node at its address sends requests to it.
// A balancer that knows a former address learns the new one when it is reloaded.
func (s *Supervisor) awaitServed(ctx context.Context, name string) error {
	if s.node(name).spec().Kind != plan.Web || s.drained(name) {
		return nil
	}
	limit := s.rotationLimit() + rotationTimeout
	var why string
	served := func(ctx context.Context) bool {
		for balancer, b := range s.balancersUp() {
			rows, err := b.Stat(ctx)
			if err != nil || !servedAt(rows, name, s.addressFor(balancer, s.node(name).spec())) {
				st, _ := s.statusBoard.snapshot().Node(name)
				why = st.Excluded
				return false
			}
		}
		return true
	}
	if !within(ctx, limit, 20*time.Millisecond, served) {
		return fmt.Errorf("the balancers do not send it requests after %v: %s", limit, cmp.Or(why, "their checks have not passed"))
	}
	return nil
}

// awaitCalm waits until a node has been up for the time settle without a break.
func (s *Supervisor) awaitCalm(ctx context.Context, name string, settle time.Duration) error {
	first, _ := s.statusBoard.snapshot().Node(name)
	began := time.Now()
	since := began
	limit := settle + cmp.Or(s.node(name).spec().Start, startLimit)
	for time.Since(since) < settle {
		st, _ := s.statusBoard.snapshot().Node(name)
		switch {
		case st.PID != first.PID:
			return fmt.Errorf("it was up, and has died %v later", time.Since(began).Round(100*time.Millisecond))
		case st.State != Up:
			since = time.Now()
		}
		if time.Since(began) > limit {
			return fmt.Errorf("it is not well for %v without a break: %s", settle, st.Detail)
		}
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// stop removes a node.
func (x *stepper) stop(ctx context.Context) error {
	s := x.sup
	if s.node(x.step.Node) == nil {
		return nil
	}
	if _, stays := s.stack().Apps[x.from.process.App]; x.from.process.Kind == plan.Web && !stays {
		s.awaitOldWorkers(ctx)
	}
	if knownByAddress(x.from.process) {
		if err := x.leave(ctx); err != nil {
			return err
		}
	}
	return x.takeAway(ctx)
}

// takeAway stops a node and removes it from the stack.
func (x *stepper) takeAway(ctx context.Context) error {
	s, name := x.sup, x.step.Node
	if isRedisOrSentinel(name) {
		if err := s.noteAddress(name, ""); err != nil {
			return err
		}
	}
	if err := s.send(ctx, name, command{action: ActStop}); err != nil {
		return err
	}
	s.dropNode(name)
	return nil
}

// putBack undoes the step, so that the node is what it was before.
func (x *stepper) putBack(ctx context.Context) error {
	s, name := x.sup, x.step.Node
	if !x.touched {
		return nil
	}
	switch x.step.Action {
	case plan.Start:
		if err := x.takeAway(ctx); err != nil || !knownByAddress(x.to.process) {
			return err
		}
		return s.forgetAll(ctx)
	case plan.Restart:
		if x.relocates() {
			return x.moveBack(ctx)
		}
		if knownByAddress(x.from.process) {
			if err := s.noteAddress(name, x.from.process.Address); err != nil {
				return err
			}
		}
		if err := s.putNode(x.from); err != nil {
			return err
		}
		n := s.node(name)
		if err := s.bringUp(ctx, n, command{action: ActRestart, spec: &x.from.process}, cmp.Or(x.from.process.Start, askedLimit)); err != nil && !errors.As(err, new(*UnableError)) {
			return err
		}
		if len(s.departed()) > 0 {
			return s.forgetAll(ctx)
		}
		return s.awaitServed(ctx, name)
	case plan.Reload:
		return x.reload(ctx, x.from)
	case plan.Set:
		return x.restoreSettings(ctx)
	}
	return nil
}

// describeFailure describes the node and its last output to a person after a step that failed. back
// is the error of putBack.
func (x *stepper) describeFailure(back error) string {
	text := ""

	for _, line := range x.lastOutput {
		text += "  " + quote.Cut(line, longLine) + "\n"
	}
	state := "it is what it was"
	switch {
	case back != nil:
		state = fmt.Sprintf("it could not be put back: %v", back)
	case x.step.Action == plan.Start:
		state = "it was taken away again"
	case x.step.Action == plan.Stop:
		state = "it may still run"
	case x.step.Action == plan.Forget:
		state = "it is well, and 'holdfast apply' has it forget later"
	}
	return text + x.step.Node + ": " + state + ". The change was stopped there, and no other node was touched after it"
}
