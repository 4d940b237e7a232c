package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

var killHeldMaster = fault{
	name: "kill-held-master", about: "a replica hangs, so that writes are carried out by the master and the other replica and wait for its confirmation, and then the master is killed: the next one has them, and none may happen twice",
	double: true, course: true, needs: needFailover | needReplicas | needKV, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 5 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		replicas, err := fc.runningNodes(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}
		hangs := replicas[fc.random.IntN(len(replicas))]
		if err := fc.pause(ctx, hangs); err != nil {
			return err
		}
		// A web node first polls the Redis nodes, and waits 0.4 s for a silent one. For the
		// replica's confirmation it waits down-after and 0.4 s.
		if err := fc.verifyPaused(ctx, heldBeforeKill, hangs); err != nil {
			return err
		}
		waiting := fc.progress()
		if waiting.Longest < heldAtLeast {
			return fmt.Errorf("no request waited for the confirmation of %s (the longest for %v)", hangs.Name, waiting.Longest)
		}
		fc.evidence("%d requests were under way, and the longest had waited for %d ms", waiting.InFlight, waiting.Longest.Milliseconds())
		if err := fc.kill(ctx, master); err != nil {
			return err
		}
		return fc.awaitMaster(ctx, master.Name)
	},
}

// heldBeforeKill is how long the replica hangs before the master is killed.
const heldBeforeKill = 700 * time.Millisecond
