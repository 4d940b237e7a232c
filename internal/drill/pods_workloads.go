package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/kubectl"
	"holdfast/internal/plan"
)

var drainNode = fault{
	name: "drain-node", about: "drain the machine of the Redis master of the stack's pods: it takes no pods any more, and they are evicted one by one as budgets allow",
	pods: true, rights: []string{"create pods/eviction", "get nodes", "patch nodes"}, course: true, needs: needFailover, promise: smooth,
	inject: func(ctx context.Context, fc *faultContext) error {
		master, err := fc.masterPod(ctx)
		if err != nil {
			return err
		}
		cordoned, err := fc.pods.Cluster.Cordoned(ctx, master.Node)
		switch {
		case err != nil:
			return err
		case cordoned:
			return fmt.Errorf("%s takes no pods already: somebody else is at work on it", master.Node)
		}

		if err := fc.requireLoad(ctx); err != nil {
			return err
		}
		if err := fc.undoByKubectl("the drain of "+master.Node, "uncordon", master.Node); err != nil {
			return err
		}

		fc.say("draining %s", master.Node)
		if _, err := fc.pods.Cluster.Run(ctx, "cordon", master.Node); err != nil {
			return err
		}
		if cordoned, err = fc.pods.Cluster.Cordoned(ctx, master.Node); err != nil || !cordoned {
			return errors.Join(err, fmt.Errorf("%s takes pods still", master.Node))
		}
		fc.evidence("%s took no new pods", master.Node)

		pods, err := fc.pods.pods(ctx, "")
		if err != nil {
			return err
		}
		for _, p := range pods {
			if p.Node != master.Node || p.Ending {
				continue
			}
			if err := fc.evict(ctx, p); err != nil {
				return err
			}
			if p.Name != master.Name {
				continue
			}
			// Wait at once: the successor may be on this machine, too, and hand the role of master
			// back.
			if err := fc.awaitOtherMaster(ctx, master.Name); err != nil {
				return err
			}
		}
		return nil
	},
}

// rollLimit limits how long replacing the pods of one workload may take.
const rollLimit = 5 * time.Minute

var roll = fault{
	name: "roll", about: "kubectl rollout restart of every Deployment and StatefulSet of the stack, one after the other",
	pods: true, rights: []string{"patch deployments.apps", "patch statefulsets.apps"}, course: true, promise: smooth,
	inject: func(ctx context.Context, fc *faultContext) error {
		workloads, err := fc.pods.Cluster.Workloads(ctx, fc.pods.Stack)
		if err != nil {
			return err
		}
		before, err := fc.pods.pods(ctx, "")
		if err != nil {
			return err
		}
		if err := fc.requireLoad(ctx); err != nil {
			return err
		}
		for _, w := range workloads {
			fc.say("replacing the pods of %s", w.Ref())
			fc.recordInjection()
			for _, p := range before {
				if p.Component == w.Component {
					fc.addTargets(p.Name)
				}
			}
			if _, err := fc.pods.Cluster.Run(ctx, "rollout", "restart", w.Ref()); err != nil {
				return err
			}
			limited, cancel := context.WithTimeout(ctx, rollLimit)
			_, err := fc.pods.Cluster.Run(limited, "rollout", "status", w.Ref(), "--timeout="+rollLimit.String())
			cancel()
			if err != nil {
				return err
			}
		}
		return fc.awaitGone(ctx, "replaced", before...)
	},
}

var loseVolume = loseVolumeFault("lose-volume", "delete a replica's volume with its pod: it comes back empty and is filled again", needReplica, false)

var loseMasterVolume = loseVolumeFault("lose-master-volume", "delete the Redis master's volume with its pod, by force: a replica is promoted, and the node comes back empty", needFailover, true)

// loseVolumeFault returns a fault that deletes a redis node's volume.
func loseVolumeFault(name, about string, needs need, ofTheMaster bool) fault {
	f := fault{
		name: name, about: about, pods: true, needs: needs, promise: smooth,
		rights: []string{"delete pods", "delete persistentvolumeclaims", "get persistentvolumeclaims"},
	}

	if ofTheMaster {
		f.promise = outage
	}

	f.inject = func(ctx context.Context, fc *faultContext) error {
		p, err := fc.redisPod(ctx, ofTheMaster)
		if err != nil {
			return err
		}
		if len(p.Claims) == 0 {
			return fmt.Errorf("the pod %s has no volume that could be lost", p.Name)
		}

		before := map[string]string{}
		for _, claim := range p.Claims {
			if before[claim], err = fc.pods.Cluster.ClaimUID(ctx, claim); err != nil {
				return err
			}
		}

		fc.say("deleting the volume of %s", p.Name)
		// The claim is only removed together with its pod. The successor gets another one.
		if _, err := fc.pods.Cluster.Run(ctx, slices.Concat([]string{"delete", "pvc", "--wait=false"}, p.Claims)...); err != nil {
			return err
		}
		if err := fc.deletePods(ctx, ofTheMaster, p); err != nil {
			return err
		}

		for _, claim := range p.Claims {
			err := awaitEvery(ctx, lookPodsEvery, "another volume claim "+claim, replacedLimit, func() bool {
				now, err := fc.pods.Cluster.ClaimUID(ctx, claim)
				return err == nil && now != before[claim]
			})
			if err != nil {
				return err
			}
			fc.evidence("the volume claim %s is another one", claim)
		}

		if ofTheMaster {
			return fc.awaitOtherMaster(ctx, p.Name)
		}
		return nil
	}
	return f
}

var scaleZero = fault{
	name: "scale-zero", about: "scale the StatefulSet of Redis to zero, and back",
	pods: true, rights: []string{"patch statefulsets.apps/scale"}, double: true, needs: needRedis, promise: outage,
	inject: func(ctx context.Context, fc *faultContext) error {
		workloads, err := fc.pods.Cluster.Workloads(ctx, fc.pods.Stack)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(workloads, func(w kubectl.Workload) bool {
			return w.Kind == "statefulset" && w.Component == string(plan.Redis)
		})
		if i < 0 {
			return errors.New("the stack has no StatefulSet of Redis")
		}
		w := workloads[i]
		pods, err := fc.pods.pods(ctx, w.Component)
		if err != nil {
			return err
		}
		if err := fc.requireLoad(ctx); err != nil {
			return err
		}
		if err := fc.undoByKubectl("the scale of "+w.Ref(), "scale", w.Ref(), fmt.Sprintf("--replicas=%d", w.Replicas)); err != nil {
			return err
		}
		fc.say("scaling %s to zero", w.Ref())
		for _, p := range pods {
			fc.recordInjection(p.Name)
		}
		if _, err := fc.pods.Cluster.Run(ctx, "scale", w.Ref(), "--replicas=0"); err != nil {
			return err
		}
		return fc.awaitGone(ctx, "scaled away", pods...)
	},
}
