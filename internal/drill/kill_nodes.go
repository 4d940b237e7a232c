package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// unnoticed is promised if another node takes over the work at once.
var unnoticed = history.Promise{Failed: history.None, Unknown: history.None, Pause: 250 * time.Millisecond}

var killWeb = fault{
	name: "kill-web", about: "SIGKILL to a web node",
	course: true, needs: needWeb, promise: unnoticed,
	strike: striking(plan.Web, "", (*scene).killIt),
}

var killReplica = fault{
	name: "kill-replica", about: "SIGKILL to a Redis replica",
	course: true, needs: needReplica, promise: unnoticed,
	strike: striking(plan.Redis, "replica", (*scene).killIt),
}

var killSentinel = fault{
	name: "kill-sentinel", about: "SIGKILL to a Sentinel",
	course: true, needs: needSentinel, promise: unnoticed,
	strike: striking(plan.Sentinel, "", (*scene).killIt),
}

var killBalancer = fault{
	name: "kill-balancer", about: "SIGKILL to a balancer: what is in flight on it breaks, nothing else",
	course: true, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 250 * time.Millisecond},
	strike: striking(plan.Balancer, "", (*scene).killIt),
}

// striking returns the strike function of a fault that does something to one node of a kind.
func striking(kind plan.Kind, role string, blow func(*scene, context.Context, supervise.NodeStatus) error) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n, err := s.pick(ctx, kind, role)
		if err != nil {
			return err
		}
		return blow(s, ctx, n)
	}
}

// killIt kills one node.
func (s *scene) killIt(ctx context.Context, n supervise.NodeStatus) error { return s.kill(ctx, n) }
