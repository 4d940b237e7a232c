package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

var killRedis = fault{
	name: "kill-all-redis", about: "SIGKILL to every Redis node at once, as a loss of power would: what was acknowledged is in their append-only files",
	double: true, course: true, needs: needRedis, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 5 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		if err := fc.killAll(ctx, plan.Redis); err != nil {
			return err
		}
		fc.evidence("their files are synced as redis.fsync says: %s", fc.stack.spec.Redis.Fsync)
		return nil
	},
}

var killSentinels = fault{
	name: "kill-all-sentinels", about: "SIGKILL to every Sentinel at once",
	course: true, needs: needSentinel, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error { return fc.killAll(ctx, plan.Sentinel) },
}

var killWebs = fault{
	name: "kill-all-web", about: "SIGKILL to every web node at once: the balancers wait for one to be back",
	double: true, needs: needWeb, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 3 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error { return fc.killAll(ctx, plan.Web) },
}

// killAll kills all nodes of a kind.
func (fc *faultContext) killAll(ctx context.Context, kind plan.Kind) error {
	nodes, err := fc.runningNodes(ctx, kind, "")
	if err != nil {
		return err
	}
	if kind.Traits().Serves { // it serves clients, and so has to be under load
		if err := fc.requireBusy(ctx, nodes...); err != nil {
			return err
		}
	}
	return fc.kill(ctx, nodes...)
}
