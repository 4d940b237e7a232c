package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

// unnoticed is promised where another node does the work at once.
var unnoticed = history.Promise{Failed: history.None, Unknown: history.None, Pause: 250 * time.Millisecond}

var killWeb = fault{
	name: "kill-web", about: "SIGKILL to a web node",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error { return s.killOne(ctx, plan.Web, "") },
}

var killReplica = fault{
	name: "kill-replica", about: "SIGKILL to a Redis replica",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error { return s.killOne(ctx, plan.Redis, "replica") },
}

var killSentinel = fault{
	name: "kill-sentinel", about: "SIGKILL to a Sentinel",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error { return s.killOne(ctx, plan.Sentinel, "") },
}

var killBalancer = fault{
	name: "kill-balancer", about: "SIGKILL to a balancer: what is in flight on it breaks, nothing else",
	course: true, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 250 * time.Millisecond},
	strike: func(ctx context.Context, s *scene) error { return s.killOne(ctx, plan.Balancer, "") },
}

// killOne kills one of the nodes of a kind.
func (s *scene) killOne(ctx context.Context, kind plan.Kind, role string) error {
	n, err := s.pick(ctx, kind, role)
	if err != nil {
		return err
	}
	return s.kill(ctx, n)
}
