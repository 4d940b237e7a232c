package supervise

import (
	"context"
	"maps"
	"slices"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// An operator can take a node out of rotation without stopping it. The balancers'
// configuration says so, so that it survives them; at the running ones it is a reload
// (balancers.go), in which the old worker finishes what it has in hand.

// setDrained changes which nodes are out of rotation.
func (s *Supervisor) setDrained(nodes map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.overrides.Drained = nodes
}

// checkDrains reports why nodes cannot be drained: they are no application's, or the
// last ones of it that serve.
func (s *Supervisor) checkDrains(now, final layout, anyway bool) (reasons []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(final.overrides.Drained)) {
		if now.overrides.Drained[name] {
			continue
		}
		n := s.node(name)
		if n == nil {
			return nil, &UnknownNodeError{Node: name, Kind: plan.Web, Nodes: s.nodesOfKind(plan.Web)}
		}
		app := n.spec().App
		switch {
		case n.spec().Kind != plan.Web:
			reasons = append(reasons, name+" is no node of an application: only those are in rotation")
		case !anyway && s.serving(app, final.overrides.Drained) == 0:
			reasons = append(reasons, "no other node of "+app+" serves: its clients would get 503 from then on; --anyway does it all the same")
		}
	}
	return slices.Compact(reasons), nil
}

// serving is how many nodes of an application are up and in rotation, but for some.
func (s *Supervisor) serving(app string, except map[string]bool) (n int) {
	for _, st := range s.board.snapshot().Nodes {
		if st.App == app && st.State == Up && st.Excluded == "" && !except[st.Name] {
			n++
		}
	}
	return n
}

// finishDrains waits until nodes that were taken out of rotation have answered what
// they had in hand, and puts others back.
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
		if st, there := s.board.snapshot().Node(name); now[name] || !there || st.State != Up {
			continue
		}
		s.enlist(ctx, name)
		if err := s.awaitServed(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// withoutGone leaves out drained nodes that the stack has had and does not have any
// more.
func withoutGone(o stack.Overrides, now, final layout) stack.Overrides {
	o.Drained = maps.Clone(o.Drained)
	maps.DeleteFunc(o.Drained, func(name string, _ bool) bool {
		_, there := final.part(name)
		return !there && now.overrides.Drained[name]
	})
	return o
}
