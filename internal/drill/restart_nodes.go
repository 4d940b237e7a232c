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
	strike: func(ctx context.Context, s *scene) error { return s.restartAll(ctx, plan.Web) },
}

var restartReplica = fault{
	name: "restart-replica", about: "holdfast restart of a Redis replica",
	course: true, needs: needReplica, promise: unnoticed,
	strike: striking(plan.Redis, "replica", (*scene).restart),
}

var restartSentinel = fault{
	name: "restart-sentinel", about: "holdfast restart of a Sentinel",
	course: true, needs: needSentinel, promise: unnoticed,
	strike: striking(plan.Sentinel, "", (*scene).restart),
}

var restartBalancer = fault{
	name: "restart-balancer", about: "holdfast restart of a balancer: it answers what it has and closes idle connections",
	course: true, promise: unnoticed,
	strike: striking(plan.Balancer, "", (*scene).restart),
}

var restartMaster = fault{
	name: "restart-master", about: "holdfast restart of the Redis master: a replica takes its place first",
	course: true, needs: needFailover, promise: planned,
	strike: striking(plan.Redis, "master", func(s *scene, ctx context.Context, n supervise.NodeStatus) error {
		if err := s.restart(ctx, n); err != nil {
			return err
		}
		return s.awaitMaster(ctx, n.Name)
	}),
}

var restartSupervisor = fault{
	name: "restart-supervisor", about: "SIGKILL to the supervisor and at once the next one, as for an upgrade of Holdfast",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error {
		n, err := s.supervisor(ctx)
		if err != nil {
			return err
		}
		if err := killSupervisor.strike(ctx, s); err != nil {
			return err
		}
		next := s.stack.supervised(n) // what undoes the kill also starts the next supervisor
		return next.perform()
	},
}

// restartAll restarts all nodes of a kind, one after the other.
func (s *scene) restartAll(ctx context.Context, kind plan.Kind) error {
	nodes, err := s.all(ctx, kind, "")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := s.struckAtWork(ctx, n); err != nil {
			return err
		}
		if err := s.restart(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// restartBeyond limits how long the drain and the grace period of a restart may take, in addition
// to the start of the node (health.start).
const restartBeyond = 45 * time.Second

func (s *scene) restart(ctx context.Context, n supervise.NodeStatus) error {
	// An interrupted restart leaves the node down, or on its way up.
	if err := s.undo(step{Why: "the restart of " + n.Name, Command: s.stack.command("start", n.Name), Limit: s.stack.startLimit(), Running: s.stack.state()}); err != nil {
		return err
	}
	s.say("restarting %s", n.Name)
	s.blow(n.Name)
	ctx, cancel := context.WithTimeout(ctx, restartBeyond+s.stack.stack.SlowestStart())
	defer cancel()
	if err := s.stack.client().Do(ctx, n.Name, supervise.ActRestart); err != nil {
		return fmt.Errorf("restart %s: %w", n.Name, err)
	}
	st, err := s.stack.status(ctx)
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
	s.evidence("%s went from pid %d to %d", n.Name, n.PID, now.PID)
	return nil
}
