package drill

import (
	"context"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

var killMasterAndSentinel = fault{
	name: "kill-master-and-sentinel", about: "SIGKILL to the Redis master, and in the middle of the failover to the Sentinel that leads it: another one has to take over",
	double: true, needs: needFailover | needSentinel, promise: takenOver,
	strike: func(ctx context.Context, s *scene) error {
		return s.killAndStrikeLeader(ctx, func(ctx context.Context, n supervise.NodeStatus) error { return s.kill(ctx, n) })
	},
}

var killMasterPauseSentinel = fault{
	name: "kill-master-pause-sentinel", about: "SIGKILL to the Redis master, and in the middle of the failover SIGSTOP to the Sentinel that leads it, for 3 s: another one has to take over, and the first one must not go on with its own",
	double: true, needs: needFailover | needSentinel, promise: takenOver,
	strike: func(ctx context.Context, s *scene) error {
		return s.killAndStrikeLeader(ctx, func(ctx context.Context, n supervise.NodeStatus) error {
			if err := s.pause(ctx, n); err != nil {
				return err
			}
			return sleep(ctx, 3*time.Second) // the supervisor may kill the Sentinel meanwhile
		})
	},
}

// leader returns the Sentinel that leads a failover; if none does, a random one.
func (s *scene) leader(ctx context.Context) (supervise.NodeStatus, error) {
	sentinels, err := s.up(ctx, plan.Sentinel, "")
	if err != nil {
		return supervise.NodeStatus{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for _, n := range sentinels {
		if v, err := s.stack.admin(n.Name).View(ctx, s.stack.stack.Name); err == nil && v.Failing {
			s.evidence("%s led the failover", n.Name)
			return n, nil
		}
	}
	s.evidence("no Sentinel led a failover just then")
	return sentinels[s.random.IntN(len(sentinels))], nil
}

// killAndStrikeLeader kills the master, and strikes the Sentinel that leads the failover.
func (s *scene) killAndStrikeLeader(ctx context.Context, strike func(ctx context.Context, n supervise.NodeStatus) error) error {
	return s.killAndAmid(ctx, func(ctx context.Context) error {
		n, err := s.leader(ctx)
		if err != nil {
			return err
		}
		return strike(ctx, n)
	})
}

// killAndAmid kills the master, and calls blow at a random moment of the failover, most often in
// its first tenth of a second.
func (s *scene) killAndAmid(ctx context.Context, blow func(ctx context.Context) error) error {
	master, err := s.pick(ctx, plan.Redis, "master")
	if err != nil {
		return err
	}
	if err := s.kill(ctx, master); err != nil {
		return err
	}
	after := time.Duration(s.random.Float64() * s.random.Float64() * float64(400*time.Millisecond))
	if err := sleep(ctx, after); err != nil {
		return err
	}
	s.evidence("the next blow came %d ms later", after.Milliseconds())
	if err := blow(ctx); err != nil {
		return err
	}
	return s.awaitMaster(ctx, master.Name)
}
