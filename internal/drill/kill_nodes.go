package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// unnoticed is promised where another node does the work at once.
var unnoticed = history.Promise{Failed: history.None, Unknown: history.None, Pause: 250 * time.Millisecond}

var killWeb = fault{
	name: "kill-web", about: "SIGKILL to a web node",
	course: true, promise: unnoticed,
	strike: striking(plan.Web, "", (*scene).killIt),
}

var killReplica = fault{
	name: "kill-replica", about: "SIGKILL to a Redis replica",
	course: true, promise: unnoticed,
	strike: striking(plan.Redis, "replica", (*scene).killIt),
}

var killSentinel = fault{
	name: "kill-sentinel", about: "SIGKILL to a Sentinel",
	course: true, promise: unnoticed,
	strike: striking(plan.Sentinel, "", (*scene).killIt),
}

var killBalancer = fault{
	name: "kill-balancer", about: "SIGKILL to a balancer: what is in flight on it breaks, nothing else",
	course: true, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 250 * time.Millisecond},
	strike: striking(plan.Balancer, "", (*scene).killIt),
}

var killHeld = fault{
	name: "kill-held-web", about: "a replica hangs for 0.75 s, so that requests are carried out and wait for its confirmation, and then a web node is killed with them: the balancer sends them again, and none may happen twice",
	double: true, course: true, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	strike: func(ctx context.Context, s *scene) error {
		web, err := s.pick(ctx, plan.Web, "")
		if err != nil {
			return err
		}
		replica, err := s.pick(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}
		if err := s.pause(ctx, replica); err != nil {
			return err
		}
		// A web node asks the nodes first, 0.4 s of a silent one, and waits for
		// the replica down-after and 0.4 s.
		if err := s.standing(ctx, 750*time.Millisecond, replica); err != nil {
			return err
		}
		waiting := s.progress()
		if waiting.InFlight == 0 || waiting.Longest < heldAtLeast {
			return fmt.Errorf("nothing waited when %s was to be killed: %d requests under way, the longest for %v", web.Name, waiting.InFlight, waiting.Longest)
		}
		s.evidence("%d requests were under way, one for %d ms", waiting.InFlight, waiting.Longest.Milliseconds())
		return s.kill(ctx, web)
	},
}

// heldAtLeast is how long a request has waited that is held.
const heldAtLeast = 100 * time.Millisecond

// striking is a fault that does something to one of the nodes of a kind.
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
