package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

var scale = fault{
	name: "scale", about: "holdfast scale: one node more for an application, which gets requests then, and back",
	course: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.scaleAndBack(ctx, func(ctx context.Context, req supervise.Request) error { return fc.carryOut(ctx, req, nil) })
	},
}

var scaleKillSupervisor = fault{
	name: "scale-kill-supervisor", about: "holdfast scale, and back, and SIGKILL to the supervisor in the middle of each; the next one goes on with the change",
	course: true, double: true, needs: needWeb, promise: planned, ready: requireNoChange,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.scaleAndBack(ctx, func(ctx context.Context, req supervise.Request) error {
			return fc.carryOutAndKill(ctx, req, restartSupervisor)
		})
	},
}

// scaleAndBack adds a node to an application, and removes it again. carryOut carries out both
// requests.
func (fc *faultContext) scaleAndBack(ctx context.Context, carryOut func(context.Context, supervise.Request) error) error {
	app, nodes, err := fc.application(ctx)
	if err != nil {
		return err
	}
	was, err := fc.undoChanges(ctx, "the scaling of "+app)
	if err != nil {
		return err
	}

	declared := fc.stack.spec.Apps[app].Nodes
	added := fmt.Sprintf("%s-%d", app, declared+1)
	to := func(nodes int) supervise.Request {
		return supervise.Request{Kind: "scale", Overrides: stack.Overrides{Nodes: map[string]int{app: nodes}}}
	}

	fc.recordAppChange(nodes, added)
	if err := carryOut(ctx, to(declared+1)); err != nil {
		return err
	}

	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	n, there := st.Node(added)
	if !there {
		return fmt.Errorf("%s was to have %d nodes, and there is no %s", app, declared+1, added)
	}
	fc.evidence("%s has pid %d", added, n.PID)
	if err := fc.verifyUntouched(ctx, nodes); err != nil {
		return err
	}
	if err := fc.requireBusy(ctx, n); err != nil {
		return err
	}

	fc.recordInjection()
	if err := carryOut(ctx, to(declared)); err != nil {
		return err
	}

	if !gone(n.PID) {
		return fmt.Errorf("%s was to be taken away, and runs", added)
	}
	fc.evidence("%s is gone", added)
	if err := fc.verifyUntouched(ctx, nodes); err != nil {
		return err
	}
	return fc.verifyAsBefore(ctx, was)
}

var reloadBalancer = fault{
	name: "reload-balancer", about: "holdfast drain of a web node, and undrain: every balancer is reloaded twice, one after the other",
	course: true, needs: needWeb, promise: planned, ready: requireTwoNodes,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, plan.Web, "")
		if err != nil {
			return err
		}
		was, err := fc.undoChanges(ctx, "the drain of "+n.Name)
		if err != nil {
			return err
		}
		before, err := fc.workers(ctx)
		if err != nil {
			return err
		}
		fc.recordAppChange([]supervise.NodeStatus{n})
		drained := stack.Overrides{Drained: map[string]bool{n.Name: true}}
		if err := fc.carryOut(ctx, supervise.Request{Kind: "drain", Overrides: drained}, nil); err != nil {
			return err
		}
		between, err := fc.verifyReloaded(ctx, before)
		if err != nil {
			return err
		}
		fc.recordInjection()
		back := stack.Overrides{Drained: map[string]bool{n.Name: false}}
		if err := fc.carryOut(ctx, supervise.Request{Kind: "undrain", Overrides: back}, nil); err != nil {
			return err
		}
		if _, err := fc.verifyReloaded(ctx, between); err != nil {
			return err
		}
		if err := fc.requireBusy(ctx, n); err != nil {
			return err
		}
		return fc.verifyAsBefore(ctx, was)
	},
}

// requireTwoNodes returns an error if an application under load has only one node, which then
// cannot be drained.
func requireTwoNodes(ctx context.Context, fc *faultContext) error {
	for _, app := range fc.stack.loads.apps {
		if a := fc.stack.spec.Apps[app]; a.Kind() != stack.Servers && a.Nodes == 1 {
			return fmt.Errorf("%s has one node, and nothing would serve while that is drained", app)
		}
	}
	return requireNoChange(ctx, fc)
}

// workers returns the pid of each balancer's HAProxy worker process, which takes its connections.
func (fc *faultContext) workers(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pids := map[string]int{}
	for name, b := range fc.stack.balancers {
		here, is := b.(*haproxy.Client)
		if !is {
			return nil, fmt.Errorf("%s is on another host", name)
		}
		info, err := here.Info(ctx)
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

// verifyReloaded checks that every balancer has another worker than before, and returns the new
// ones.
func (fc *faultContext) verifyReloaded(ctx context.Context, before map[string]int) (map[string]int, error) {
	now, err := fc.workers(ctx)
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
	fc.evidence("%s", strings.Join(words, ", "))
	return now, nil
}
