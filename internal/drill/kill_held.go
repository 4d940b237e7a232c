package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

var killHeld = fault{
	name: "kill-held-web", about: "a replica hangs for 0.75 s, so that requests are carried out and wait for its confirmation, and then the web node that has most of them is killed: the balancer sends them again, and none may happen twice",
	double: true, course: true, needs: needWeb | needReplica | needKV, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	inject: func(ctx context.Context, fc *faultContext) error {
		webs, err := fc.upNodes(ctx, plan.Web, "")
		if err != nil {
			return err
		}
		replica, err := fc.randomBusyNode(ctx, plan.Redis, "replica")
		if err != nil {
			return err
		}

		if err := fc.pause(ctx, replica); err != nil {
			return err
		}
		// A web node first polls the Redis nodes, and waits 0.4 s for a silent one. For the
		// replica's confirmation it waits down-after and 0.4 s.
		if err := fc.verifyPaused(ctx, 750*time.Millisecond, replica); err != nil {
			return err
		}

		web, held := fc.mostHeld(ctx, webs)
		waiting := fc.progress()
		if held == 0 || waiting.Longest < heldAtLeast {
			return fmt.Errorf("%s held no request for %v: none waited for the confirmation of %s (the longest of the load for %v)", joinNames(webs), heldFor, replica.Name, waiting.Longest)
		}
		fc.evidence("%s held %d requests, and the longest of all had waited for %d ms", web.Name, held, waiting.Longest.Milliseconds())

		before := fc.stack.sentAgain(ctx, web.Name)
		if err := fc.kill(ctx, web); err != nil {
			return err
		}

		again := int64(0)
		err = await(ctx, "the balancers sending again what "+web.Name+" held", againLimit, func() bool {
			again = fc.stack.sentAgain(ctx, web.Name) - before
			return again > 0
		})
		if err != nil {
			return err
		}
		fc.evidence("the balancers sent %d of them again", again)
		return nil
	},
}

const (
	// heldAtLeast is how long a request has to have waited to count as held.
	heldAtLeast = 100 * time.Millisecond
	// heldFor is how long the web nodes are watched, in heldLooks looks. The fewest requests that a
	// node had at any look count as held. Some of them may wait for something else, but not all,
	// since nothing is being carried out.
	heldFor, heldLooks = 60 * time.Millisecond, 4
	// againLimit limits how long a balancer may take to send a request again.
	againLimit = 2 * time.Second
)

// mostHeld returns the web node that holds the most requests, and how many; see heldFor.
func (fc *faultContext) mostHeld(ctx context.Context, webs []supervise.NodeStatus) (most supervise.NodeStatus, held int64) {
	least := map[string]int64{}
	for look := range heldLooks {
		now := fc.stack.underWay(ctx)
		for _, n := range webs {
			if look == 0 || now[n.Name] < least[n.Name] {
				least[n.Name] = now[n.Name]
			}
		}
		if sleep(ctx, heldFor/heldLooks) != nil {
			break
		}
	}
	for _, n := range webs {
		if least[n.Name] > held {
			most, held = n, least[n.Name]
		}
	}
	return most, held
}

// underWay returns how many requests each server behind the balancers has at the moment.
func (s *supervisedStack) underWay(ctx context.Context) map[string]int64 {
	all := map[string]int64{}
	for _, rows := range s.statistics(ctx) {
		for _, r := range rows {
			if r.IsServer() {
				all[r.Server] += r.Sessions
			}
		}
	}
	return all
}

// sentAgain returns how many requests that a node had accepted the balancers have sent again. A
// request sent to another node may count as retry and as redispatch, so only the larger count is
// used.
func (s *supervisedStack) sentAgain(ctx context.Context, node string) (sum int64) {
	for _, rows := range s.statistics(ctx) {
		for _, r := range rows {
			if r.Server == node {
				sum += max(r.Retries, r.Redispatches)
			}
		}
	}
	return sum
}
