package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

var killStalled = fault{
	name: "kill-stalled-master", about: "nothing that the master sends reaches a replica for 0.6 s, and then the master is killed: what it alone has must not have been acknowledged, nor read",
	double: true, course: true, needs: needFailover | needKV, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 5 * time.Second},
	inject: stallThenKill(600 * time.Millisecond),
}

// A web node waits for silent replicas for down-after and 0.4 s. From then on it serves reads, but
// no writes, as long as most Sentinels confirm the master: a read may return what no replica has.
var killLone = fault{
	name: "kill-lone-master", about: "the same after 2 s, when reads are answered from the master alone: those may show writes that were never acknowledged, and are lost with it (docs/guarantees.md, two faults at once)",
	double: true, needs: needFailover | needKV, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 6 * time.Second},
	inject: stallThenKill(2 * time.Second),
}

// stallThenKill returns an inject function: nothing passes from the master to its replicas for a
// time, and then the master is killed.
func stallThenKill(d time.Duration) func(context.Context, *faultContext) error {
	return func(ctx context.Context, fc *faultContext) error {
		master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		replicas, err := fc.runningNodes(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}

		var links []*link
		defer func() {
			for _, l := range links {
				l.close()
			}
		}()

		for _, r := range replicas {
			l, err := fc.followThroughLink(ctx, master, r, 0, 0, 0)
			if err != nil {
				return err
			}
			links = append(links, l)
		}

		for i, r := range replicas {
			if err := await(ctx, r.Name+" following over the link", 2*time.Second, func() bool {
				standing, err := fc.stack.standing(ctx, r.Name)
				return err == nil && standing.Linked && standing.MasterAddress == links[i].address()
			}); err != nil {
				return err
			}
		}

		before, err := fc.stack.commands(ctx, master.Name)
		if err != nil {
			return err
		}

		fc.say("letting nothing pass from %s to %s", master.Name, joinNames(replicas))
		for i, r := range replicas {
			fc.recordInjection(r.Name)
			links[i].stop()
		}
		if err := sleep(ctx, d); err != nil {
			return err
		}

		alone, err := fc.stack.commands(ctx, master.Name)
		if err != nil {
			return err
		}
		if alone <= before {
			return fmt.Errorf("%s carried out no command that its replicas did not get", master.Name)
		}
		fc.evidence("%s carried out %d commands of applications while nothing passed", master.Name, alone-before)
		if err := fc.kill(ctx, master); err != nil {
			return err
		}

		for i, r := range replicas {
			n := links[i].count(back).dropped
			if n == 0 {
				return fmt.Errorf("nothing was lost on the way to %s", r.Name)
			}
			fc.evidence("%d bytes of the master's were lost on their way to %s", n, r.Name)
		}
		return nil
	}
}
