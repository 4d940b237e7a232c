package drill

import (
	"context"
	"fmt"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// A process that hangs accepts connections and answers nothing. That is worse than a dead one,
// which refuses them.

var pauseWeb = fault{
	name: "pause-web", about: "SIGSTOP to a web node for 7 s: it leaves the rotation after two health checks (with a newer HAProxy than 2.6 it is killed after 3 s)",
	course: true, needs: needWeb, hangs: true, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 6 * time.Second},
	inject: pauseRandomNode(plan.Web, "", 7*time.Second),
}

var pauseReplica = fault{
	name: "pause-replica", about: "SIGSTOP to a Redis replica for 3 s: it leaves the in-sync set",
	course: true, needs: needReplica, promise: history.Promise{Failed: history.None, Unknown: history.None, Pause: 2500 * time.Millisecond},
	inject: pauseRandomNode(plan.Redis, "replica", 3*time.Second),
}

var pauseSentinel = fault{
	name: "pause-sentinel", about: "SIGSTOP to a Sentinel for 3 s",
	course: true, needs: needSentinel, promise: unnoticed,
	inject: pauseRandomNode(plan.Sentinel, "", 3*time.Second),
}

var pauseMaster = fault{
	name: "pause-master", about: "SIGSTOP to the Redis master until another one is elected, and 1 s more",
	course: true, needs: needFailover, promise: history.Promise{Failed: history.None, Unknown: history.InFlight, Pause: 4 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, plan.Redis, "master")
		if err != nil {
			return err
		}
		if err := fc.pause(ctx, n); err != nil {
			return err
		}
		if err := fc.awaitMaster(ctx, n.Name); err != nil {
			return err
		}
		return fc.verifyPaused(ctx, time.Second, n)
	},
}

var pauseBalancer = fault{
	name: "pause-balancer", about: "SIGSTOP to a balancer: the supervisor kills it after 3 s, and what is in flight on it breaks",
	course: true, promise: history.Promise{Failed: history.InFlight, Unknown: history.InFlight, Pause: 5 * time.Second},
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.randomBusyNode(ctx, plan.Balancer, "")
		if err != nil {
			return err
		}
		id, err := fc.stack.processes.identify(n.Host, n.PID)
		if err != nil {
			return fmt.Errorf("%s ended before it was paused", n.Name)
		}
		if err := fc.pause(ctx, n); err != nil {
			return err
		}
		paused := time.Now()
		if err := await(ctx, "the supervisor ending "+n.Name, 10*time.Second, func() bool { return !fc.stack.processes.alive(n.Host, id) }); err != nil {
			return err
		}
		fc.recordInjection(n.Name) // what waited for it fails now
		// The supervisor waits a while before it kills a balancer. An earlier end has another
		// cause.
		stood := time.Since(paused)
		if stood < balancerStands {
			return fmt.Errorf("%s ended after %v of standing still: that was not the supervisor", n.Name, stood.Round(time.Millisecond))
		}
		fc.evidence("and ended after %.1f s", stood.Seconds())
		return nil
	},
}

// balancerStands is the least time for which the supervisor lets a balancer hang.
const balancerStands = 2500 * time.Millisecond

var pauseSupervisor = fault{
	name: "pause-supervisor", about: "SIGSTOP to the supervisor for 3 s",
	course: true, promise: unnoticed,
	inject: func(ctx context.Context, fc *faultContext) error {
		n, err := fc.supervisor(ctx)
		if err != nil {
			return err
		}
		if err := fc.pause(ctx, n); err != nil {
			return err
		}
		return fc.verifyPaused(ctx, 3*time.Second, n)
	},
}

// pauseRandomNode returns the inject function of a fault that stops one node of a kind for a time.
func pauseRandomNode(kind plan.Kind, role string, d time.Duration) func(context.Context, *faultContext) error {
	return onRandomNode(kind, role, func(fc *faultContext, ctx context.Context, n supervise.NodeStatus) error {
		if err := fc.pause(ctx, n); err != nil {
			return err
		}
		return fc.verifyPaused(ctx, d, n)
	})
}

// verifyPaused waits until a pause is over, and checks that the process stood still all that time.
func (fc *faultContext) verifyPaused(ctx context.Context, d time.Duration, n supervise.NodeStatus) error {
	if err := sleep(ctx, d); err != nil {
		return err
	}
	if id, err := fc.stack.processes.identify(n.Host, n.PID); err != nil || !fc.stack.processes.stopped(n.Host, id) {
		if st, err := fc.stack.status(ctx); err == nil && n.Kind == plan.Web {
			if now, _ := st.Node(n.Name); now.PID != n.PID && now.Crashes > n.Crashes {
				// With HAProxy 3.0 the supervisor kills such a node: only the end of its process
				// frees the requests that it holds.
				fc.evidence("the supervisor killed %s (pid %d), which did not answer", n.Name, n.PID)
				return nil
			}
		}
		return fmt.Errorf("%s (pid %d) did not stand still until its pause was over", n.Name, n.PID)
	}
	return nil
}

// failoverLimit limits how long the election of another master may take.
const failoverLimit = 15 * time.Second

// awaitMaster waits until another redis node than but calls itself master.
func (fc *faultContext) awaitMaster(ctx context.Context, but string) error {
	var now *supervise.NodeStatus
	err := await(ctx, "another master than "+but, failoverLimit, func() bool {
		now = fc.otherMaster(ctx, but)
		return now != nil
	})
	if err == nil {
		fc.evidence("%s became master in its place", now.Name)
	}
	return err
}

// otherMaster returns a redis node other than but that calls itself master; nil: none. It does not
// ask but, which may hang.
func (fc *faultContext) otherMaster(ctx context.Context, but string) *supervise.NodeStatus {
	st, err := fc.stack.status(ctx)
	if err != nil {
		return nil
	}
	for _, n := range st.Nodes {
		if n.Kind != plan.Redis || n.Name == but || n.PID == 0 {
			continue
		}
		if role, err := fc.stack.standing(ctx, n.Name); err == nil && role.Master {
			return &n
		}
	}
	return nil
}
