package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

var scale = fault{
	name: "scale", about: "holdfast scale: one node more for an application, which gets requests then, and back",
	course: true, needs: needWeb, promise: planned,
	strike: func(ctx context.Context, s *scene) error {
		app, nodes, err := s.application(ctx)
		if err != nil {
			return err
		}
		declared := s.stack.stack.Apps[app].Nodes
		back := stack.Overrides{Nodes: map[string]int{app: declared}}
		if err := s.undo(step{Why: "the scaling of " + app, Changed: &changed{s.stack.state, back}, Running: s.stack.state}); err != nil {
			return err
		}
		added := fmt.Sprintf("%s-%d", app, declared+1)
		s.blowAll(nodes, added)
		more := stack.Overrides{Nodes: map[string]int{app: declared + 1}}
		if err := s.carryOut(ctx, supervise.Request{Kind: "scale", Overrides: more}, nil); err != nil {
			return err
		}
		st, err := s.stack.status(ctx)
		if err != nil {
			return err
		}
		n, there := st.Node(added)
		if !there {
			return fmt.Errorf("%s was to have %d nodes, and there is no %s", app, declared+1, added)
		}
		s.evidence("%s has pid %d", added, n.PID)
		if err := s.struckAtWork(ctx, n); err != nil {
			return err
		}
		if err := s.carryOut(ctx, supervise.Request{Kind: "scale", Overrides: back}, nil); err != nil {
			return err
		}
		if !gone(n.PID) {
			return fmt.Errorf("%s was to be taken away, and runs", added)
		}
		s.evidence("%s is gone", added)
		return nil
	},
}

var reloadBalancer = fault{
	name: "reload-balancer", about: "holdfast drain of a web node, and undrain: every balancer is reloaded twice, one after the other",
	course: true, needs: needWeb, promise: planned, ready: hasTwoNodes,
	strike: func(ctx context.Context, s *scene) error {
		n, err := s.pick(ctx, plan.Web, "")
		if err != nil {
			return err
		}
		back := stack.Overrides{Drained: map[string]bool{n.Name: false}}
		if err := s.undo(step{Why: "the drain of " + n.Name, Changed: &changed{s.stack.state, back}, Running: s.stack.state}); err != nil {
			return err
		}
		before, err := s.workers(ctx)
		if err != nil {
			return err
		}
		s.blowAll([]supervise.NodeStatus{n})
		drained := stack.Overrides{Drained: map[string]bool{n.Name: true}}
		if err := s.carryOut(ctx, supervise.Request{Kind: "drain", Overrides: drained}, nil); err != nil {
			return err
		}
		between, err := s.reloaded(ctx, before)
		if err != nil {
			return err
		}
		if err := s.carryOut(ctx, supervise.Request{Kind: "undrain", Overrides: back}, nil); err != nil {
			return err
		}
		if _, err := s.reloaded(ctx, between); err != nil {
			return err
		}
		return s.struckAtWork(ctx, n)
	},
}

// hasTwoNodes says why no node can be drained: an application that the load reaches has
// one alone.
func hasTwoNodes(_ context.Context, s *scene) error {
	for _, app := range s.stack.aim.apps {
		if a := s.stack.stack.Apps[app]; a.Kind() != stack.Servers && a.Nodes == 1 {
			return fmt.Errorf("%s has one node, and nothing would serve while that is drained", app)
		}
	}
	return nil
}

// workers are the pids of the processes of HAProxy that take connections, by balancer.
func (s *scene) workers(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pids := map[string]int{}
	for name, b := range s.stack.balancers {
		info, err := b.Info(ctx)
		if err != nil {
			return nil, err
		}
		pids[name] = info.PID
	}
	if len(pids) == 0 {
		return nil, errors.New("the stack has no balancer")
	}
	return pids, nil
}

// reloaded checks that every balancer has another worker than before.
func (s *scene) reloaded(ctx context.Context, before map[string]int) (map[string]int, error) {
	now, err := s.workers(ctx)
	if err != nil {
		return nil, err
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name] == before[name] {
			return nil, fmt.Errorf("%s was to be reloaded, and has the same worker (pid %d)", name, now[name])
		}
		words = append(words, fmt.Sprintf("%s went from worker %d to %d", name, before[name], now[name]))
	}
	s.evidence("%s", strings.Join(words, ", "))
	return now, nil
}
