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
	strike: func(ctx context.Context, s *scene) error {
		n, err := s.pick(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := s.kill(ctx, n); err != nil {
			return err
		}
		return s.awaitMaster(ctx, n.Name)
	},
}

var killMasterTwice = fault{
	name: "kill-master-twice", about: "SIGKILL to the Redis master, and to the next one as soon as it is elected: Sentinel waits twice the failover time-out before it elects again",
	double: true, needs: needFailover, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 12 * time.Second},
	strike: func(ctx context.Context, s *scene) error {
		first, err := s.pick(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := s.kill(ctx, first); err != nil {
			return err
		}
		if err := s.awaitMaster(ctx, first.Name); err != nil {
			return err
		}
		second := s.otherMaster(ctx, first.Name)
		if second == nil {
			return errNobody
		}
		return s.kill(ctx, *second)
	},
}
