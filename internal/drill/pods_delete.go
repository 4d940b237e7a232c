package drill

import (
	"context"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/kubectl"
	"holdfast/internal/plan"
)

// The promises for pods. A pod that is asked to end hands over first. One that ends unasked costs
// what was under way in it.
var (
	// smooth is promised if a pod ends as it was asked to.
	smooth = history.Promise{Failed: history.None, Unknown: history.None, Pause: time.Second}
	// handedOver is promised if the master's pod ends as it was asked to, and hands over first.
	handedOver = history.Promise{Failed: history.None, Unknown: history.None, Pause: 3 * time.Second}
	// outage is promised if the service cannot go on. Acknowledged writes are not lost, as always.
	outage = history.Promise{Failed: history.Any, Unknown: history.Any}
)

var deleteRights = []string{"delete pods"}

// deletePodFault returns a fault that deletes one pod.
func deletePodFault(name, about string, needs need, promise history.Promise, force bool, choose func(context.Context, *faultContext) (kubectl.Pod, error)) fault {
	return fault{
		name: name, about: about, pods: true, rights: deleteRights, course: !force, needs: needs, promise: promise,
		inject: func(ctx context.Context, fc *faultContext) error {
			p, err := choose(ctx, fc)
			if err != nil {
				return err
			}
			return fc.deletePods(ctx, force, p)
		},
	}
}

// podOfKind returns a function that chooses a pod of a kind.
func podOfKind(kind plan.Kind) func(context.Context, *faultContext) (kubectl.Pod, error) {
	return func(ctx context.Context, fc *faultContext) (kubectl.Pod, error) {
		component := string(kind)
		if kind == plan.Web {
			component = fc.webComponent()
		}
		return fc.pickPod(ctx, component)
	}
}

func replicaPod(ctx context.Context, fc *faultContext) (kubectl.Pod, error) {
	return fc.redisPod(ctx, false)
}

var (
	deleteWeb      = deletePodFault("delete-web", "delete the pod of a web node: its requests end before it does", needWeb, smooth, false, podOfKind(plan.Web))
	deleteBalancer = deletePodFault("delete-balancer", "delete the pod of a balancer: it serves on until nobody sends requests there", 0, smooth, false, podOfKind(plan.Balancer))
	deleteSentinel = deletePodFault("delete-sentinel", "delete the pod of a Sentinel", needSentinel, smooth, false, podOfKind(plan.Sentinel))
	deleteReplica  = deletePodFault("delete-replica", "delete the pod of a replica", needReplica, smooth, false, replicaPod)
	deleteMaster   = deleteMasterFault("delete-master", "delete the pod of the Redis master: it hands over to a replica first", handedOver, false)

	forceDeleteWeb      = deletePodFault("force-delete-web", "delete the pod of a web node by force (grace period 0)", needWeb, forced, true, podOfKind(plan.Web))
	forceDeleteBalancer = deletePodFault("force-delete-balancer", "delete the pod of a balancer by force: what it has under way is lost", 0, outage, true, podOfKind(plan.Balancer))
	forceDeleteMaster   = deleteMasterFault("force-delete-master", "delete the pod of the Redis master by force: requests wait while a replica is promoted", forcedMaster, true)
)

// forced and forcedMaster are promised if a pod ends without notice.
var (
	forced       = history.Promise{Failed: history.None, Unknown: history.Any, Pause: 3 * time.Second}
	forcedMaster = history.Promise{Failed: history.None, Unknown: history.Any, Pause: 3 * time.Second}
)

// deleteMasterFault returns a fault that deletes the master's pod and waits for another master.
func deleteMasterFault(name, about string, promise history.Promise, force bool) fault {
	f := deletePodFault(name, about, needFailover, promise, force, nil)
	f.course = true
	f.inject = func(ctx context.Context, fc *faultContext) error {
		p, err := fc.masterPod(ctx)
		if err != nil {
			return err
		}
		if err := fc.deletePods(ctx, force, p); err != nil {
			return err
		}
		return fc.awaitOtherMaster(ctx, p.Name)
	}
	return f
}

// killGrain is the distance between the recorded moments at which a kill in a pod may have
// happened.
const killGrain = 20 * time.Millisecond

var killMasterPod = fault{
	name: "kill-master", about: "SIGKILL to the Redis master in its pod, in Kubernetes: requests wait while a replica is promoted",
	pods: true, rights: []string{"create pods/exec"}, course: true, needs: needFailover, promise: held,
	inject: func(ctx context.Context, fc *faultContext) error {
		p, err := fc.masterPod(ctx)
		if err != nil {
			return err
		}
		n, err := fc.pods.nodeIn(ctx, p)
		if err != nil {
			return err
		}
		if err := fc.requireLoad(ctx); err != nil {
			return err
		}
		fc.say("killing %s in %s", n.Name, p.Name)
		fc.recordInjection(p.Name)
		if _, err := fc.pods.Cluster.Exec(ctx, p, fc.pods.holdfast(p, "kill", n.Name)...); err != nil {
			return err
		}
		// The exact moment is unknown, so every moment since the command began is recorded.
		for at := fc.record.Began; at < fc.now(); at += killGrain {
			fc.record.Moments = append(fc.record.Moments, at)
		}
		if err := fc.awaitOtherMaster(ctx, p.Name); err != nil {
			return err
		}
		return awaitEvery(ctx, lookPodsEvery, "another process of "+n.Name, electionLimit, func() bool {
			now, err := fc.pods.nodeIn(ctx, p)
			if err != nil || now.PID == 0 || now.PID == n.PID {
				return false
			}
			fc.evidence("%s in %s ended by SIGKILL (pid %d, before %d)", n.Name, p.Name, now.PID, n.PID)
			return true
		})
	},
}

var evictMaster = fault{
	name: "evict-master", about: "evict the pod of the Redis master, as a drain does: its disruption budget is honoured",
	pods: true, rights: []string{"create pods/eviction"}, course: true, needs: needFailover, promise: smooth,
	inject: func(ctx context.Context, fc *faultContext) error {
		p, err := fc.masterPod(ctx)
		if err != nil {
			return err
		}
		if err := fc.requireLoad(ctx); err != nil {
			return err
		}
		if err := fc.evict(ctx, p); err != nil {
			return err
		}
		return fc.awaitOtherMaster(ctx, p.Name)
	},
}

var deleteAll = fault{
	name: "delete-all", about: "delete every pod of the stack at once, by force: all come back with new addresses",
	pods: true, rights: deleteRights, double: true, promise: outage,
	inject: func(ctx context.Context, fc *faultContext) error {
		pods, err := fc.pods.pods(ctx, "")
		if err != nil {
			return err
		}
		return fc.deletePods(ctx, true, pods...)
	},
}
