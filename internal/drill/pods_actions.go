package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/kubectl"
	"holdfast/internal/plan"
)

// podGone limits how long a pod may take to end: its grace period, and the time until its machine
// reports the end. replacedLimit limits how long its successor may take to be ready.
const podGone, replacedLimit = 3 * time.Minute, 4 * time.Minute

// readyPods returns the pods of a kind that are ready and not ending.
func (fc *faultContext) readyPods(ctx context.Context, component string) ([]kubectl.Pod, error) {
	pods, err := fc.pods.pods(ctx, component)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p kubectl.Pod) bool { return p.Ending || !p.Ready })
	if len(pods) == 0 {
		return nil, fmt.Errorf("no pod of %s is ready: %w", component, errNoNode)
	}
	return pods, nil
}

// pickPod returns a random ready pod of a kind.
func (fc *faultContext) pickPod(ctx context.Context, component string) (kubectl.Pod, error) {
	pods, err := fc.readyPods(ctx, component)
	if err != nil {
		return kubectl.Pod{}, err
	}
	return pods[fc.random.IntN(len(pods))], nil
}

// webComponent returns the component of web pods to strike: a random application under load.
func (fc *faultContext) webComponent() string {
	return fc.pods.loads.apps[fc.random.IntN(len(fc.pods.loads.apps))]
}

// masterPod returns the pod of the Redis master.
func (fc *faultContext) masterPod(ctx context.Context) (kubectl.Pod, error) {
	return fc.redisPod(ctx, true)
}

// redisPod returns the pod of the master, or a random ready pod of a replica.
func (fc *faultContext) redisPod(ctx context.Context, isMaster bool) (kubectl.Pod, error) {
	nodes, err := fc.pods.redisNodes(ctx)
	if err != nil {
		return kubectl.Pod{}, err
	}
	master := masterAmong(nodes)
	if master == "" {
		return kubectl.Pod{}, errors.New("not exactly one redis node is master")
	}
	pods, err := fc.readyPods(ctx, string(plan.Redis))
	if err != nil {
		return kubectl.Pod{}, err
	}
	pods = slices.DeleteFunc(pods, func(p kubectl.Pod) bool { return (p.Name == master) != isMaster })
	if len(pods) == 0 {
		return kubectl.Pod{}, errNoNode
	}
	return pods[fc.random.IntN(len(pods))], nil
}

// requireLoad records how many operations the web nodes carry out. If they carry out none, the load
// goes elsewhere and the fault would prove nothing, so it returns an error.
func (fc *faultContext) requireLoad(ctx context.Context) error {
	if fc.pods.loads.app == "" {
		return nil // no web node counts the user's own requests
	}
	before, err := fc.pods.webMetrics(ctx)
	if err != nil {
		fc.evidence("what the web nodes had to do is not known (%v)", err)
		return nil
	}

	began := time.Now()
	var did int
	for deadline := began.Add(workPatience); did == 0 && time.Now().Before(deadline); {
		if err := sleep(ctx, workSample); err != nil {
			return err
		}
		now, err := fc.pods.webMetrics(ctx)
		if err != nil {
			return err
		}
		for pod, n := range now {
			if was, there := before[pod]; there {
				did += max(0, n.operations-was.operations)
			}
		}
	}

	if did == 0 {
		return errors.New("the web nodes carried out no operation: the load does not reach this stack")
	}
	fc.evidence("under load: %s's pods carried out %d operations in %.1f s", fc.pods.loads.app, did, time.Since(began).Seconds())
	return nil
}

// uid returns a short form of a pod's UID, which tells it from a successor of the same name.
func uid(p kubectl.Pod) string { return p.UID[:min(8, len(p.UID))] }

// deletePods deletes pods, by force or as an operator would, and returns when they are gone.
func (fc *faultContext) deletePods(ctx context.Context, force bool, pods ...kubectl.Pod) error {
	args := []string{"delete", "pod", "--wait=false"}
	how := "deleted"
	if force {
		args, how = append(args, "--force", "--grace-period=0"), "deleted by force"
	}
	if err := fc.requireLoad(ctx); err != nil {
		return err
	}
	fc.say("deleting %s", podNames(pods))
	for _, p := range pods {
		args = append(args, p.Name)
		fc.recordInjection(p.Name)
	}
	if _, err := fc.pods.Cluster.Run(ctx, args...); err != nil {
		return err
	}
	return fc.awaitGone(ctx, how, pods...)
}

// awaitGone waits until pods are gone. It compares UIDs, since successors may have the same names.
func (fc *faultContext) awaitGone(ctx context.Context, how string, pods ...kubectl.Pod) error {
	var left []string
	err := awaitEvery(ctx, lookPodsEvery, "", podGone, func() bool {
		now, err := fc.pods.pods(ctx, "")
		if err != nil {
			left = []string{err.Error()}
			return false
		}
		left = nil
		for _, p := range pods {
			if slices.ContainsFunc(now, func(o kubectl.Pod) bool { return o.UID == p.UID }) {
				left = append(left, p.Name)
			}
		}
		return len(left) == 0
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("not gone within %v: %s", podGone, strings.Join(left, ", "))
	}
	if err != nil {
		return err
	}
	for _, p := range pods {
		fc.evidence("the pod %s (uid %s) was %s and is gone", p.Name, uid(p), how)
	}
	return nil
}

// awaitOtherMaster waits until a pod other than the given one has the master.
func (fc *faultContext) awaitOtherMaster(ctx context.Context, than string) error {
	now := ""
	err := awaitEvery(ctx, lookPodsEvery, "another master than "+than, electionLimit, func() bool {
		nodes, err := fc.pods.redisNodes(ctx)
		if err != nil {
			return false
		}
		now = masterAmong(nodes)
		return now != "" && now != than
	})
	if err == nil {
		fc.evidence("%s became the master in the place of %s", now, than)
	}
	return err
}

// electionLimit limits how long the election of another master may take to be seen.
const electionLimit = 60 * time.Second

// evict evicts a pod as a drain does: it tries again while a disruption budget refuses.
func (fc *faultContext) evict(ctx context.Context, p kubectl.Pod) error {
	fc.say("evicting %s", p.Name)
	refused := 0
	for deadline := time.Now().Add(podGone); ; {
		now := fc.now()
		err := fc.pods.Cluster.Evict(ctx, p.Name)
		switch {
		case err == nil:
			if len(fc.record.Moments) == 0 {
				fc.record.Began = now
			}
			fc.record.Moments = append(fc.record.Moments, now)
			fc.addTargets(p.Name)
			how := "evicted"
			if refused > 0 {
				how = fmt.Sprintf("evicted, after its disruption budget refused %d times,", refused)
			}
			return fc.awaitGone(ctx, how, p)
		case !kubectl.IsReason(err, "TooManyRequests") || time.Now().After(deadline):
			return err
		}
		refused++
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// undoByKubectl adds to the journal a kubectl command that undoes what is about to be done.
func (fc *faultContext) undoByKubectl(why string, args ...string) error {
	command := fc.pods.Cluster.Command(args...)
	if len(fc.pods.Environ) > 0 {
		command = slices.Concat([]string{"env"}, fc.pods.Environ, command)
	}
	return fc.undo(step{Why: why, Command: command})
}

func podNames(pods []kubectl.Pod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Name)
	}
	return strings.Join(all, ", ")
}
