package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

// held is promised while another master is elected: requests wait.
var held = history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 3 * time.Second}

var killMaster = fault{
	name: "kill-master", about: "SIGKILL to the Redis master: requests wait while a replica is promoted",
	course: true, promise: held,
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
	double: true, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 12 * time.Second},
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

var killRedis = fault{
	name: "kill-all-redis", about: "SIGKILL to every Redis node at once, as a loss of power would: what was acknowledged is in their append-only files",
	double: true, course: true, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 5 * time.Second},
	strike: func(ctx context.Context, s *scene) error {
		if err := s.killAll(ctx, plan.Redis); err != nil {
			return err
		}
		s.evidence("their files are synced as redis.fsync says: %s", s.stack.stack.Redis.Fsync)
		return nil
	},
}

var killSentinels = fault{
	name: "kill-all-sentinels", about: "SIGKILL to every Sentinel at once",
	course: true, promise: unnoticed,
	strike: func(ctx context.Context, s *scene) error { return s.killAll(ctx, plan.Sentinel) },
}

var killWebs = fault{
	name: "kill-all-web", about: "SIGKILL to every web node at once: the balancers wait for one to be back",
	double: true, promise: history.Promise{Failed: history.Any, Unknown: history.InFlight, Pause: 3 * time.Second},
	strike: func(ctx context.Context, s *scene) error { return s.killAll(ctx, plan.Web) },
}

// killAll kills all nodes of a kind.
func (s *scene) killAll(ctx context.Context, kind plan.Kind) error {
	nodes, err := s.all(ctx, kind, "")
	if err != nil {
		return err
	}
	return s.kill(ctx, nodes...)
}
