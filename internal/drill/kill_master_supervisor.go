package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
)

// takenOver is promised if whatever replaces the master is itself struck in the middle of it.
var takenOver = history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 5 * time.Second}

var killMasterAndSupervisor = fault{
	name: "kill-master-and-supervisor", about: "SIGKILL to the Redis master, and in the middle of the failover to the supervisor, which began it; the next one follows after a second",
	double: true, needs: needFailover, promise: takenOver,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.killMasterThen(ctx, func(ctx context.Context) error { return restartSupervisor.inject(ctx, fc) })
	},
}
