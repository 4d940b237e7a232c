package supervise

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// An operator can take a node out of rotation without stopping it. That is a line of the
// balancers' configuration, so that it outlives their processes. Running balancers are reloaded
// for it (balancers.go), and the old worker finishes what it has in hand.

// setDrained sets which nodes are out of rotation.
func (s *Supervisor) setDrained(nodes map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overrides.Drained = nodes
}

// checkRotated returns an error if one of the nodes, which a request takes out of rotation or
// puts back, is not in the stack or belongs to no application.
func (s *Supervisor) checkRotated(nodes map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		switch n := s.node(name); {
		case n == nil:
			return &UnknownNodeError{Node: name, Kind: plan.Web, Nodes: s.nodesOfKind(plan.Web)}
		case n.spec().Kind != plan.Web:
			return badArgument("%s is no node of an application: only those are in rotation", name)
		}
	}
	return nil
}

// checkDrains returns why nodes cannot be drained: no other node of their application serves.
func (s *Supervisor) checkDrains(now, final layout, anyway bool) (reasons []string) {
	for _, name := range slices.Sorted(maps.Keys(final.overrides.Drained)) {
		if now.overrides.Drained[name] {
			continue
		}
		app := s.node(name).spec().App
		if !anyway && s.serving(app, final.overrides.Drained) == 0 {
			reasons = append(reasons, "no other node of "+app+" serves: its clients would get 503 from then on; --anyway does it all the same")
		}
	}
	return slices.Compact(reasons)
}

// checkLast returns why nodes of applications cannot leave: none of those that stay serves.
func (s *Supervisor) checkLast(changes []plan.NodeChange, final layout) (reasons []string) {
	for _, app := range final.stack().AppNames() {
		var leave, idle []string
		left := false
		for _, c := range changes {
			serves := s.serves(c.Node)
			switch {
			case c.Kind != plan.Web || c.App != app:
			case c.Action == plan.Stop && serves:
				leave = append(leave, c.Node)
			case c.Action == plan.Stop:
			case c.Action == plan.Start || serves && !final.overrides.Drained[c.Node]:
				left = true
			default:
				idle = append(idle, c.Node)
			}
		}

		if len(leave) > 0 && !left {
			reasons = append(reasons, fmt.Sprintf("of %s only %s would stay, and no balancer sends requests there: its clients would get 503 without %s. 'holdfast status' says why; have %s serve first",
				app, strings.Join(idle, ", "), strings.Join(leave, ", "), strings.Join(idle, ", ")))
		}
	}
	return reasons
}

// serves reports whether a node of an application is up and in rotation.
func (s *Supervisor) serves(name string) bool {
	st, there := s.statusBoard.snapshot().Node(name)
	return there && st.Kind == plan.Web && st.State == Up && st.Excluded == ""
}

// serving returns how many nodes of an application are up and in rotation, without those of
// except.
func (s *Supervisor) serving(app string, except map[string]bool) (n int) {
	for _, st := range s.statusBoard.snapshot().Nodes {
		if st.App == app && st.State == Up && st.Excluded == "" && !except[st.Name] {
			n++
		}
	}
	return n
}

// finishDrains waits until the nodes that were just drained have answered what they had in hand,
// and puts back into service those that are no longer drained.
func (s *Supervisor) finishDrains(ctx context.Context, before, now map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if before[name] {
			continue
		}
		for _, b := range s.runningBalancers() {
			s.setServer(ctx, b, name, haproxy.Drain)
		}
		s.awaitOldWorkers(ctx)
	}

	for _, name := range slices.Sorted(maps.Keys(before)) {
		if st, there := s.statusBoard.snapshot().Node(name); now[name] || !there || st.State != Up {
			continue
		}
		s.putIntoService(ctx, name)
		if err := s.awaitServed(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// withoutGone returns the overrides without the drained nodes that leave the stack.
func withoutGone(o stack.Overrides, now, final layout) stack.Overrides {
	o.Drained = maps.Clone(o.Drained)
	maps.DeleteFunc(o.Drained, func(name string, _ bool) bool {
		_, there := final.nodePlan(name)
		return !there && now.overrides.Drained[name]
	})
	return o
}
