package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// changeRun is a change that is under way. One goroutine calls its methods, except for step:
// the steps of a group run at the same time.
type changeRun struct {
	sup     *Supervisor
	record  changeRecord
	final   layout
	onEvent func(Event)

	mu   sync.Mutex // guards done, renewed, reloaded, record.Force and onEvent
	done int        // steps done
	of   int
	// renewed is how many nodes of a rollout's application have the new version.
	renewed int
	// reloaded is true if a balancer may already know the new nodes.
	reloaded bool
}

// errLeft is the error of a change that is left to the next supervisor, errDown that of a
// change that ends because the stack is taken down, and errHeld that of a rollout that waits.
var (
	errLeft = errors.New("the supervisor ends in the middle of the change; the next 'holdfast up' goes on with it")
	errDown = errors.New("the stack is taken down in the middle of the change")
	errHeld = errors.New("the rollout waits")
)

// whyLeft returns why a change can take no further step: the supervisor ends.
func (s *Supervisor) whyLeft() error {
	if s.stopping.Load() {
		return errDown
	}
	return errLeft
}

// unfinished reports whether an error leaves a change as it is.
func unfinished(err error) bool { return errors.Is(err, errLeft) || errors.Is(err, errDown) }

// InterruptedText returns what will become of a change of a kind that was interrupted when the stack
// was taken down.
func InterruptedText(kind string) string {
	if kind == "apply" || kind == kindUp {
		return "the next 'holdfast up' starts every node as the stack file says then"
	}
	return "it is given up: the next 'holdfast up' starts every node as it was before it"
}

// run carries the change out, starting from what runs now.
func (c *changeRun) run(ctx context.Context) Result {
	err := c.carryOut(ctx)
	r := Result{ID: c.record.ID, Kind: c.record.Kind, Began: c.record.Began, Ended: time.Now(), Done: err == nil, Steps: c.done, Of: c.of}
	if err != nil {
		r.Why = err.Error()
	}
	s := c.sup
	if errors.Is(err, errDown) {
		r.Why = fmt.Sprintf("%v, after %d of %d steps; %s", errDown, r.Steps, r.Of, InterruptedText(r.Kind))
	}
	if r.Unfinished = errors.Is(err, errLeft); r.Unfinished && s.cfg.Several {
		r.Why = "this host does not lead any more, and the one that does goes on with the change"
	}

	if unfinished(err) {
		s.log.Info("the change is left unfinished", "kind", r.Kind, "why", r.Why)
		return r
	}
	if errors.Is(err, errHeld) {
		if err := c.hold(); err != nil {
			r.Why = err.Error()
		} else {
			r.Held = true
			return r
		}
	}

	r.Left, _ = s.divergingNodes()
	s.changing.keep(r)
	c.record.Result = &r
	if err := s.dir.archive(c.record); err != nil {
		s.log.Error("cannot write down how the change ended", "error", err)
	}
	s.log.Info("the change has ended", "kind", r.Kind, "done", r.Done, "why", r.Why)
	return r
}

func (c *changeRun) carryOut(ctx context.Context) error {
	s := c.sup
	now, generation := s.current()
	parts, err := s.changeParts(now, c.final, c.record.Force)
	if err != nil {
		return err
	}

	c.of = 0
	for _, part := range parts {
		c.of += len(part.steps)
		if err := s.keepPorts(part.to); err != nil {
			return err
		}
	}

	s.log.Info("a change begins", "kind", c.record.Kind, "id", c.record.ID, "steps", c.of)
	s.setDrained(c.final.overrides.With(now.overrides).Drained)
	c.renewed = c.renewedNodes(now)
	for _, part := range parts {
		err := c.carryOutPart(ctx, part)
		if errors.Is(err, errHeld) {
			return err // the supervisor's stack is the one that the nodes run as
		}
		if err != nil {
			if !unfinished(err) {
				err = errors.Join(err, c.cleanUp(ctx, now))
				s.setStack(now.stack())
				s.setDrained(now.overrides.Drained)
				err = errors.Join(err, s.saveRunning())
			}
			return err
		}
	}

	s.setQuorums(ctx)
	c.final.plan.Hosts = withoutEmpty(s.Plan(), c.final.plan) // nodes that no step touched stay as they are until takeQuiet
	s.install(c.final)
	s.mu.Lock()
	s.generation = max(generation+1, c.record.ID)
	s.mu.Unlock()
	s.showLayout()

	if err := c.takeQuiet(ctx); err != nil {
		return err
	}
	if err := s.saveRunning(); err != nil {
		return err
	}

	s.spreadEntryCertificates(ctx, true) // the stack file may name other certificates
	s.noteVersions(c.record.Kind)
	s.pruneReleases()
	return s.finishDrains(ctx, now.overrides.Drained, c.final.overrides.Drained)
}

// carryOutPart carries out one part of the change.
func (c *changeRun) carryOutPart(ctx context.Context, l changePart) error {
	s := c.sup
	programs, wrong := s.findPrograms(s.ctx, l.to.plan)
	if err := wrong.forChange(startedServers([]changePart{l})).err(); err != nil {
		return err
	}

	s.mu.Lock()
	s.programs = merged(s.programs, programs)
	s.plan = withHosts(s.plan, l.to.plan)
	s.host = mergeHosts(s.plan.Hosts)
	s.mu.Unlock()

	now, _ := s.current()
	changes := plan.Diff(now.host(), l.to.host(), nil)
	s.setStack(l.to.stack())
	if err := s.ensureCertificateLists(ctx); err != nil {
		return err
	}

	steps := s.masterLast(l.steps)
	for len(steps) > 0 {
		group := steps[:1]
		for len(group) < len(steps) && steps[len(group)].Group == group[0].Group {
			group = steps[:len(group)+1]
		}
		if group = c.allowed(group); len(group) == 0 {
			return errHeld
		}
		if err := c.moveMasterAway(ctx, l, group, changes); err != nil {
			return err
		}
		steps = steps[len(group):]
		if err := c.group(ctx, l, group, changes); err != nil {
			return err
		}
	}

	// Old workers, from before the reload, send nothing to the new addresses of nodes. The other
	// nodes have to stay until these workers are gone.
	if slices.ContainsFunc(changes, func(n plan.NodeChange) bool { return n.Kind == plan.Web && n.Action == plan.Restart && n.Moves() }) {
		s.awaitOldWorkers(ctx)
	}
	return nil
}

// moveMasterAway makes another redis node the master if the current one leaves or moves in this part
// of the change, or if the balancers do not know its address yet. Otherwise programs that reach
// Redis through the balancers would have no master until the node's own step hands over, or
// until the balancers are reloaded. Mostly there is nothing to do; but the node that was the
// master when the change began may have died since.
func (c *changeRun) moveMasterAway(ctx context.Context, l changePart, next []plan.Step, changes []plan.NodeChange) error {
	s := c.sup
	step := plan.Step{Node: s.lastSeenMaster(), Action: plan.HandOver}
	if step.Node == "" || slices.ContainsFunc(next, func(p plan.Step) bool { return p.Node == step.Node }) {
		return nil // its own step hands over
	}
	now, _ := s.current()
	is, _ := now.nodePlan(step.Node)
	if to, stays := l.to.nodePlan(step.Node); !stays || to.process.Address != is.process.Address {
		c.mu.Lock()
		c.of++
		c.mu.Unlock()
		if err := c.group(ctx, l, []plan.Step{step}, changes); err != nil && ctx.Err() == nil {
			s.log.Warn("the master does not hand over yet, and does when its own step comes", "node", step.Node, "error", err)
		}
		return ctx.Err()
	}
	if next[0].Action == plan.Reload {
		return nil
	}
	known := s.knownToBalancers(ctx)
	if known == nil || known[step.Node] {
		return nil
	}
	x := stepper{sup: s, step: step, stays: func(name string) bool { _, there := l.to.nodePlan(name); return there && known[name] }}
	if err := x.tryHandOver(ctx); err != nil {
		s.log.Warn("the balancers do not know the master until they are reloaded", "node", step.Node, "error", err)
	}
	return nil
}

// masterLast moves the restart of the Redis master behind those of the replicas, so that a
// replica which has its new settings takes the master's place.
func (s *Supervisor) masterLast(steps []plan.Step) []plan.Step {
	steps = slices.Clone(steps)
	last := -1
	for i, step := range steps {
		if isRedis(step.Node) && step.Action == plan.Restart {
			last = i
		}
	}
	for i, step := range steps {
		st, _ := s.statusBoard.snapshot().Node(step.Node)
		if st.Role == "master" && step.Action == plan.Restart && i < last {
			step.Group, steps[last].Group = steps[last].Group, step.Group
			steps[i], steps[last] = steps[last], step
			break
		}
	}
	return steps
}

// group carries out the steps of one group, all at once.
func (c *changeRun) group(ctx context.Context, l changePart, steps []plan.Step, changes []plan.NodeChange) error {
	failed := make([]error, len(steps))
	var all sync.WaitGroup
	for i, step := range steps {
		all.Go(func() { failed[i] = c.step(ctx, l, step, changes) })
	}
	all.Wait()
	// What was done is recorded also if a step beside it failed.
	return errors.Join(errors.Join(failed...), c.sup.saveRunning())
}

// step carries out one step, and undoes it if it fails.
func (c *changeRun) step(ctx context.Context, l changePart, step plan.Step, changes []plan.NodeChange) error {
	s := c.sup
	if s.stopping.Load() || ctx.Err() != nil {
		return s.whyLeft()
	}
	e := Event{Node: step.Node, Action: step.Action, What: "begun"}
	c.report(e)
	x := stepper{sup: s, step: step, settle: l.to.stack().Rollout.Settle, log: s.log.With("node", step.Node, "change", c.record.Kind)}
	x.to, _ = l.to.nodePlan(step.Node)
	now, _ := s.current()
	x.from, x.had = now.nodePlan(step.Node)
	x.stack = l.to.stack()
	x.stays = func(name string) bool { _, there := l.to.nodePlan(name); return there }
	if i := slices.IndexFunc(changes, func(n plan.NodeChange) bool { return n.Node == step.Node }); i >= 0 {
		x.settings = changes[i].Settings
	}
	err := x.do(ctx)
	if s.stopping.Load() || ctx.Err() != nil {
		return s.whyLeft()
	}
	if err == nil {
		c.count(step)
		e.What = "done"
		c.report(e)
		return nil
	}
	e.What, e.Text = "failed", err.Error()
	c.report(e)
	back := x.putBack(ctx)
	text := fmt.Sprintf("%s %s: %s\n%s", step.Action, step.Node, err, x.describeFailure(back))
	e.What, e.Text = "put back", x.describeFailure(back)
	c.report(e)
	return errors.New(text)
}

// cleanUp removes new nodes after a change was stopped: those that no balancer knows yet, and
// those that were to serve only during the change (rollout.surge), after which the balancers
// are reloaded. If other nodes have come or moved, which the former configuration does not
// know, all nodes stay.
func (c *changeRun) cleanUp(ctx context.Context, from layout) error {
	s := c.sup
	now, _ := s.current()
	var extra []string
	for _, p := range now.host().Processes {
		was, had := from.nodePlan(p.Node)
		_, stays := c.final.nodePlan(p.Node)
		switch {
		case !had && stays && c.reloaded, had && was.process.Address != p.Address:
			return nil
		case !had:
			extra = append(extra, p.Node)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	back := changePart{to: from}
	for _, name := range slices.Backward(extra) {
		if err := c.step(ctx, back, plan.Step{Node: name, Action: plan.Stop}, nil); err != nil {
			return err
		}
	}
	for _, p := range from.host().Processes {
		if p.Kind.Traits().Reloads && c.reloaded {
			if err := c.step(ctx, back, plan.Step{Node: p.Node, Action: plan.Reload}, nil); err != nil {
				return err
			}
		}
	}
	if len(s.departed()) > 0 {
		if err := s.forgetAll(ctx); err != nil {
			return err
		}
	}
	return s.saveRunning()
}

// count records that a step is done.
func (c *changeRun) count(step plan.Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if c.renews(step) {
		c.renewed++
	}
	c.reloaded = c.reloaded || step.Action == plan.Reload
	if i := slices.Index(c.record.Force, step.Node); i >= 0 && step.Action == plan.Restart {
		c.record.Force = slices.Delete(slices.Clone(c.record.Force), i, i+1)
		if err := c.sup.dir.writeChange(c.record); err != nil {
			c.sup.log.Error("cannot write down what is done of the change", "error", err)
		}
	}
}

// report shows an event in the status, logs it, and tells the caller of the change.
func (c *changeRun) report(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.ID, e.Step, e.Of = c.record.ID, min(c.done+1, c.of), c.of
	if e.What == "done" {
		e.Step = c.done
	}
	c.sup.changing.set(func(st *ChangeStatus) { st.ID, st.Event = c.record.ID, e })
	c.sup.log.Info("change: "+e.What, "step", e.Step, "of", e.Of, "node", e.Node, "action", e.Action, "text", e.Text)
	if c.onEvent != nil {
		c.onEvent(e)
	}
}

// takeQuiet gives nodes that no step touched the settings that only the supervisor uses, such
// as how long a node may take to end.
func (c *changeRun) takeQuiet(ctx context.Context) error {
	s := c.sup
	final, err := s.planned(c.final, c.final.overrides.Apply(c.final.file))
	if err != nil {
		return err
	}
	now, _ := s.current()
	for _, n := range plan.Diff(now.host(), final.host(), nil) {
		if to, there := final.nodePlan(n.Node); there && n.Quiet {
			if err := s.putNode(to); err != nil {
				return err
			}
			if err := s.send(ctx, n.Node, command{action: actTake, spec: &to.process}); err != nil {
				return err
			}
		}
	}
	return nil
}

// setStack replaces the stack that the supervisor carries out.
func (s *Supervisor) setStack(of stack.Stack) {
	s.mu.Lock()
	s.cfg.Stack = of
	s.plan.Stack = of
	s.mu.Unlock()
	s.showLayout()
}

// showLayout shows the nodes in the order of the plan, and the plan's entry.
func (s *Supervisor) showLayout() {
	p := s.Plan()
	s.statusBoard.arrange(p, s.stack().Redis.Replicas)
}
