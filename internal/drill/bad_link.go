package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
)

var slowLink = fault{
	name: "slow-link", about: "the link between the master and one replica is 200 ms long each way, for 4 s: the replica leaves the in-sync set, and nobody reads old values from it",
	course: true, needs: needReplica, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	inject: badLink(200*time.Millisecond, 0, 0),
}

var lossyLink = fault{
	name: "lossy-link", about: "the link between the master and one replica loses a tenth of what goes over it, for 4 s",
	course: true, needs: needReplica, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	inject: badLink(5*time.Millisecond, 0.1, 200*time.Millisecond),
}

// badLinkLasts is how long a link stays bad. badLinkLeast is how much of that time the replica has
// to follow its master over it. The link stays for up to twice as long if the two take long to
// connect over it.
const badLinkLasts, badLinkLeast = 4 * time.Second, 500 * time.Millisecond

// badLink makes a replica follow its master through a proxy, until the time is over or Sentinel
// corrects it: it reconfigures a replica that has followed another address for longer than
// failover-timeout (sentinelRefreshInstanceInfo in Redis 7.0).
func badLink(delay time.Duration, loss float64, stall time.Duration) func(context.Context, *faultContext) error {
	return func(ctx context.Context, fc *faultContext) error {
		master, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		replica, err := fc.randomBusyNode(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}

		l, err := fc.followThroughLink(ctx, master, replica, delay, loss, stall)
		if err != nil {
			return err
		}
		defer l.close()

		carried, err := fc.stack.commands(ctx, replica.Name)
		if err != nil {
			return err
		}

		var linked time.Duration
		began := time.Now()
		for last := began; time.Since(began) < badLinkLasts || linked < badLinkLeast && time.Since(began) < 2*badLinkLasts; {
			standing, err := fc.stack.standing(ctx, replica.Name)
			if err == nil && (standing.Master || standing.MasterAddress != l.address()) {
				break
			}
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			if now := time.Now(); err == nil && standing.Linked {
				linked += now.Sub(last)
			}
			last = time.Now()
		}

		if linked < badLinkLeast {
			return fmt.Errorf("%s followed over the link for %v, and %v are the least", replica.Name, linked.Round(10*time.Millisecond), badLinkLeast)
		}

		n := l.count(back)
		over, err := fc.stack.commands(ctx, replica.Name)
		if err != nil {
			return err
		}
		if n.passed == 0 || over <= carried {
			return errors.New("nothing that applications wrote reached " + replica.Name + " over the link")
		}

		fc.evidence("%s followed %s over the bad link for %v: %d bytes, %d commands of applications", replica.Name, master.Name, linked.Round(10*time.Millisecond), n.passed, over-carried)
		if loss > 0 {
			if n.again == 0 {
				return errors.New("nothing was lost on the way to " + replica.Name)
			}
			fc.evidence("%d times something was lost on the way", n.again)
		}
		return nil
	}
}
