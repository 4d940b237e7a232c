package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

// held is promised while another master is elected: requests wait for it.
var held = history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 3 * time.Second}

var killMaster = fault{
	name: "kill-master", about: "SIGKILL to the Redis master: requests wait while a replica is promoted",
	course: true, needs: needFailover, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := fc.kill(ctx, n); err != nil {
			return err
		}
		return fc.awaitMaster(ctx, n.Name)
	},
}

var killMasterTwice = fault{
	name: "kill-master-twice", about: "SIGKILL to the Redis master, and to the next one as soon as it is elected: Sentinel waits twice the failover time-out before it elects again",
	double: true, needs: needFailover, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 12 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		first, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := fc.kill(ctx, first); err != nil {
			return err
		}
		if err := fc.awaitMaster(ctx, first.Name); err != nil {
			return err
		}
		second := fc.otherMaster(ctx, first.Name)
		if second == nil {
			return errNoNode
		}
		return fc.kill(ctx, *second)
	},
}
