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
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.killMasterThenLeader(ctx, func(ctx context.Context, n supervise.NodeStatus) error { return fc.kill(ctx, n) })
	},
}

var killMasterPauseSentinel = fault{
	name: "kill-master-pause-sentinel", about: "SIGKILL to the Redis master, and in the middle of the failover SIGSTOP to the Sentinel that leads it, for 3 s: another one has to take over, and the first one must not go on with its own",
	double: true, needs: needFailover | needSentinel, promise: takenOver,
	inject: func(ctx context.Context, fc *faultContext) error {
		return fc.killMasterThenLeader(ctx, func(ctx context.Context, n supervise.NodeStatus) error {
			if err := fc.pause(ctx, n); err != nil {
				return err
			}
			return sleep(ctx, 3*time.Second) // the supervisor may kill the Sentinel meanwhile
		})
	},
}

// failoverLeader returns the Sentinel that leads a failover; if none does, a random one.
func (fc *faultContext) failoverLeader(ctx context.Context) (supervise.NodeStatus, error) {
	sentinels, err := fc.upNodes(ctx, plan.Sentinel, "")
	if err != nil {
		return supervise.NodeStatus{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	for _, n := range sentinels {
		if v, err := fc.stack.admin(n.Name).View(ctx, fc.stack.spec.Name); err == nil && v.Failing {
			fc.evidence("%s led the failover", n.Name)
			return n, nil
		}
	}
	fc.evidence("no Sentinel led a failover just then")
	return sentinels[fc.random.IntN(len(sentinels))], nil
}

// killMasterThenLeader kills the master, and strikes the Sentinel that leads the failover.
func (fc *faultContext) killMasterThenLeader(ctx context.Context, inject func(ctx context.Context, n supervise.NodeStatus) error) error {
	return fc.killMasterThen(ctx, func(ctx context.Context) error {
		n, err := fc.failoverLeader(ctx)
		if err != nil {
			return err
		}
		return inject(ctx, n)
	})
}

// killMasterThen kills the master, and calls inject at a random moment of the failover, most often
// in its first tenth of a second.
func (fc *faultContext) killMasterThen(ctx context.Context, inject func(ctx context.Context) error) error {
	master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
	if err != nil {
		return err
	}
	if err := fc.kill(ctx, master); err != nil {
		return err
	}
	after := time.Duration(fc.random.Float64() * fc.random.Float64() * float64(400*time.Millisecond))
	if err := sleep(ctx, after); err != nil {
		return err
	}
	fc.evidence("the next blow came %d ms later", after.Milliseconds())
	if err := inject(ctx); err != nil {
		return err
	}
	return fc.awaitMaster(ctx, master.Name)
}
