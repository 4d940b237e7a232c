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
	inject: onRandomNode(plan.Web, "", (*faultContext).killNode),
}

var killReplica = fault{
	name: "kill-replica", about: "SIGKILL to a Redis replica",
	course: true, needs: needReplica, promise: unnoticed,
	inject: onRandomNode(plan.Redis, "replica", (*faultContext).killNode),
}

var killSentinel = fault{
	name: "kill-sentinel", about: "SIGKILL to a Sentinel",
	course: true, needs: needSentinel, promise: unnoticed,
	inject: onRandomNode(plan.Sentinel, "", (*faultContext).killNode),
}

var killBalancer = fault{
	name: "kill-balancer", about: "SIGKILL to a balancer: what is in flight on it breaks, nothing else",
	course: true, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 250 * time.Millisecond},
	inject: onRandomNode(plan.Balancer, "", (*faultContext).killNode),
}

// onRandomNode returns the inject function of a fault that does something to one node of a kind.
func onRandomNode(kind plan.Kind, role string, inject func(*faultContext, context.Context, supervise.NodeStatus) error) func(context.Context, *faultContext) error {
	return func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, kind, role)
		if err != nil {
			return err
		}
		return inject(fc, ctx, n)
	}
}

// killNode kills one node.
func (fc *faultContext) killNode(ctx context.Context, n supervise.NodeStatus) error {
	return fc.kill(ctx, n)
}
