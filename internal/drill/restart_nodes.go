package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// A restart by the operator, as for an upgrade, must not lose any request.

var restartWeb = fault{
	name: "restart-web", about: "holdfast restart of every web node, one after the other",
	course: true, needs: needWeb, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.restartAll(ctx, plan.Web) },
}

var restartReplica = fault{
	name: "restart-replica", about: "holdfast restart of a Redis replica",
	course: true, needs: needReplica, promise: unnoticed,
	inject: onRandomNode(plan.Redis, "replica", (*faultContext).restart),
}

var restartSentinel = fault{
	name: "restart-sentinel", about: "holdfast restart of a Sentinel",
	course: true, needs: needSentinel, promise: unnoticed,
	inject: onRandomNode(plan.Sentinel, "", (*faultContext).restart),
}

var restartBalancer = fault{
	name: "restart-balancer", about: "holdfast restart of a balancer: it answers what it has and closes idle connections",
	course: true, promise: unnoticed,
	inject: onRandomNode(plan.Balancer, "", (*faultContext).restart),
}

var restartMaster = fault{
	name: "restart-master", about: "holdfast restart of the Redis master: a replica takes its place first",
	course: true, needs: needFailover, promise: planned,
	inject: onRandomNode(plan.Redis, "master", func(fc *faultContext, ctx context.Context, n supervise.NodeStatus) error {
		if err := fc.restart(ctx, n); err != nil {
			return err
		}
		return fc.awaitMaster(ctx, n.Name)
	}),
}

var restartSupervisor = fault{
	name: "restart-supervisor", about: "SIGKILL to the supervisor and at once the next one, as for an upgrade of Holdfast",
	course: true, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.supervisor(ctx)
		if err != nil {
			return err
		}
		if err := killSupervisor.inject(ctx, fc); err != nil {
			return err
		}
		next := fc.stack.restartSupervisorStep(n) // what undoes the kill also starts the next supervisor
		return next.perform()
	},
}

// restartAll restarts all nodes of a kind, one after the other.
func (fc *faultContext) restartAll(ctx context.Context, kind plan.Kind) error {
	nodes, err := fc.runningNodes(ctx, kind, "")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := fc.requireBusy(ctx, n); err != nil {
			return err
		}
		if err := fc.restart(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// restartBeyond limits how long the drain and the grace period of a restart may take, in addition
// to the start of the node (health.start).
const restartBeyond = 45 * time.Second

func (fc *faultContext) restart(ctx context.Context, n supervise.NodeStatus) error {
	// An interrupted restart leaves the node down, or on its way up.
	if err := fc.undo(step{Why: "the restart of " + n.Name, Command: fc.stack.command("start", n.Name), Limit: fc.stack.startLimit(), Running: fc.stack.state()}); err != nil {
		return err
	}
	fc.say("restarting %s", n.Name)
	fc.recordInjection(n.Name)
	ctx, cancel := context.WithTimeout(ctx, restartBeyond+fc.stack.spec.SlowestStart())
	defer cancel()
	if err := fc.stack.client().Do(ctx, n.Name, supervise.ActRestart); err != nil {
		return fmt.Errorf("restart %s: %w", n.Name, err)
	}
	st, err := fc.stack.status(ctx)
	if err != nil {
		return err
	}
	now, _ := st.Node(n.Name)
	switch now.PID {
	case n.PID:
		return errors.New(n.Name + " was restarted and has the same process")
	case 0:
		return errors.New(n.Name + " was restarted and has no process")
	}
	fc.evidence("%s went from pid %d to %d", n.Name, n.PID, now.PID)
	return nil
}
