package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/kubectl"
	"holdfast/internal/load"
	"holdfast/internal/plan"
	"holdfast/internal/quote"
	"holdfast/internal/stack"
	"holdfast/internal/supervise"
)

// A stack in Kubernetes has no supervisor that can report on all of it, and the drill runs outside
// its pods. The drill asks the cluster which pods exist and whether they are ready, and the redis
// nodes' pods which of them is the master.

// Pods is a stack in Kubernetes, and the entry that the drill's clients use.
type Pods struct {
	Cluster kubectl.Cluster
	Stack   string
	Entry   string // base URL
	// Environ is the environment that the undoing needs.
	Environ []string
	// Named is the value of --kubectl; empty: the flag was not given.
	Named string
}

// stackText is the key of the stack file in a stack's ConfigMap.
const stackText = "holdfast.yaml"

// FindPods finds the stack of a namespace: the one named, or the only one if name is empty. It
// returns the stack's name and the stack file that its pods use. Every error is a RefusedError.
func FindPods(ctx context.Context, cluster kubectl.Cluster, name string) (found string, s stack.Stack, err error) {
	pods, err := cluster.Pods(ctx, name)
	if err != nil {
		return "", s, refusef("look for a stack in the namespace %s: %w", cluster.Namespace, err)
	}

	var stacks []string
	for _, p := range pods {
		if !slices.Contains(stacks, p.Stack) {
			stacks = append(stacks, p.Stack)
		}
	}
	switch {
	case len(stacks) == 0 && name != "":
		return "", s, refusef("the namespace %s has no pod of a stack %s (label app.kubernetes.io/instance)", cluster.Namespace, name)
	case len(stacks) == 0:
		return "", s, refusef("the namespace %s has no pod of a stack of Holdfast (label app.kubernetes.io/name=holdfast)", cluster.Namespace)
	case len(stacks) > 1:
		return "", s, refusef("the namespace %s has several stacks: say by --stack which one to drill, %s", cluster.Namespace, strings.Join(stacks, " or "))
	}

	config, text := "", ""
	for _, name := range pods[0].Configs {
		if text, err = cluster.Config(ctx, name, stackText); err == nil {
			config = name
			break
		}
	}
	if config == "" {
		return "", s, refusef("read the stack file that the pod %s has (a ConfigMap's %s): %w", pods[0].Name, stackText, cmp.Or(err, errNoNode))
	}

	if s, _, err = stack.Parse(config, []byte(text)); err != nil {
		return "", s, refusef("the stack file of the pods has mistakes for this version of Holdfast: %w", err)
	}
	return stacks[0], s, nil
}

// CheckEntry returns an error if entry is not the base URL of an entry.
func CheckEntry(entry string) error {
	u, err := url.Parse(entry)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return fmt.Errorf("%q is no base URL of an entry, such as http://192.0.2.1:30063", entry)
	}
	return nil
}

// flags returns the flags that make another drill use the same pods.
func (p *Pods) flags() []string {
	words := []string{"--kubernetes", quote.Shell(p.Cluster.Namespace), "--stack", quote.Shell(p.Stack), "--entry", quote.Shell(p.Entry)}
	if p.Named != "" {
		words = append(words, "--kubectl", quote.Shell(p.Named))
	}
	return words
}

// viewRights are the rights that the drill needs to see the state of a stack.
var viewRights = []string{"list pods", "create pods/exec", "list deployments.apps", "list statefulsets.apps"}

// requireRights refuses the drill if the user lacks a right that it needs. It runs before anything
// is broken.
func (c Config) requireRights(ctx context.Context) error {
	chosen, err := c.pool()
	if err != nil {
		return err
	}
	rights := slices.Clone(viewRights)
	for _, f := range chosen {
		rights = append(rights, f.rights...)
	}
	slices.Sort(rights)
	for _, right := range slices.Compact(rights) {
		may, err := c.Pods.Cluster.May(ctx, right)
		switch {
		case err != nil:
			return refusef("ask whether the drill may do what it has to: %w", err)
		case !may:
			return refusef("the drill needs the right to %q, and kubectl's user does not have it (kubectl auth can-i %s); nothing was broken", right, right)
		}
	}
	return nil
}

// podStack is a stack to drill that runs in Kubernetes.
type podStack struct {
	Pods
	spec  stack.Stack
	loads loadTarget
	note  func(string)

	noted sync.Once // guards the note that the web nodes' metrics cannot be read
}

func newPodStack(c Config, target loadTarget) *podStack {
	return &podStack{Pods: *c.Pods, spec: c.Stack, loads: target, note: c.Note}
}

func (p *podStack) declared() stack.Stack     { return p.spec }
func (p *podStack) loadTarget() loadTarget    { return p.loads }
func (p *podStack) attachTo(fc *faultContext) { fc.pods = p }

// directLoad uses the entry that the user gave. The web nodes are not asked directly: they are in
// the cluster, and the clients may be anywhere.
func (p *podStack) directLoad(ctx context.Context, cfg *load.Config) error {
	cfg.Entries = []string{p.Entry}
	if plan.DrillHeader(p.spec, plan.Secrets{Drill: "any"}, p.loads.app) == "" {
		return nil // every request reaches the application
	}

	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/secrets/%s", p.Cluster.Namespace, p.Stack)
	if err := p.Cluster.Get(ctx, path, &secret); err != nil {
		return refusef("the routes lead not every request to %s, so the drill needs the stack's secrets: %w; or drill URLs, with --url", p.loads.app, err)
	}

	seed, err := plan.ParseSeed(string(secret.Data[seedKey]))
	if err != nil {
		return refusef("the key %s of the Secret %s: %w", seedKey, p.Stack, err)
	}
	secrets, err := seed.Secrets(p.spec)
	if err != nil {
		return err
	}
	cfg.Headers = map[string]string{plan.DrillHeaderName: plan.DrillHeader(p.spec, secrets, p.loads.app)}
	return nil
}

// seedKey is the key in a stack's Secret from which all secrets are derived.
const seedKey = "seed"

func (p *podStack) tryRequests(ctx context.Context, cfg load.Config) error {
	nodes, err := tryEachRequest(ctx, cfg, p.loads.app)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		// A web node calls itself by its pod's name or by its node's.
		if own, err := plan.PodOf(p.spec, node); (err != nil || own.App != p.loads.app) && !strings.HasPrefix(node, p.loads.app+"-") {
			return refusef("the drill's requests to %s reach %q, which is no node of %s: another service is there", p.Entry, node, p.loads.app)
		}
	}
	return nil
}

func (p *podStack) removeKeysStep(cfg load.Config, tokenFile string) *step {
	if p.loads.app == "" {
		return nil
	}
	left := leftKeys{Entry: p.Entry, Prefix: cfg.Prefix, TokenFile: tokenFile, Trusted: true, Header: cfg.Headers[plan.DrillHeaderName]}
	return &step{Why: "the drill's keys", Keys: &left}
}

// pods returns the existing pods of a kind, ready or not. An empty component means all.
func (p *podStack) pods(ctx context.Context, component string) ([]kubectl.Pod, error) {
	pods, err := p.Cluster.Pods(ctx, p.Stack)
	if err != nil || component == "" {
		return pods, err
	}
	return slices.DeleteFunc(pods, func(pod kubectl.Pod) bool { return pod.Component != component }), nil
}

// nodeIn returns what a pod's own supervisor reports of its node.
func (p *podStack) nodeIn(ctx context.Context, pod kubectl.Pod) (n supervise.NodeStatus, err error) {
	own, err := plan.PodOf(p.spec, pod.Name)
	if err != nil {
		return n, err
	}
	out, err := p.Cluster.Exec(ctx, pod, p.holdfast(pod, "status", "--here", "--json")...)
	var st supervise.Status
	// The command fails if anything else in the stack is not well, but prints the status all the
	// same.
	if wrong := json.Unmarshal(out, &st); wrong != nil {
		return n, fmt.Errorf("ask %s how its node is: %w", pod.Name, errors.Join(err, wrong))
	}
	n, there := st.Node(own.Node)
	if !there {
		return n, fmt.Errorf("%s says nothing of %s", pod.Name, own.Node)
	}
	return n, nil
}

// holdfast returns a holdfast command for a pod, with the files with which the pod itself was
// started.
func (p *podStack) holdfast(pod kubectl.Pod, args ...string) []string {
	words := append([]string{"holdfast"}, args...)
	for _, arg := range pod.Args {
		if strings.HasPrefix(arg, "--file=") || strings.HasPrefix(arg, "--state=") {
			words = append(words, arg)
		}
	}
	return words
}

// redisNodes asks all ready redis nodes for their state at once. The result has a node for each
// pod's name.
func (p *podStack) redisNodes(ctx context.Context) (map[string]supervise.NodeStatus, error) {
	pods, err := p.pods(ctx, string(plan.Redis))
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	found := map[string]supervise.NodeStatus{}
	var failed []error
	for _, pod := range pods {
		if pod.Ending || !pod.Ready {
			continue
		}
		all.Go(func() {
			n, err := p.nodeIn(ctx, pod)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
				return
			}
			found[pod.Name] = n
		})
	}
	all.Wait()
	return found, errors.Join(failed...)
}

// podPatience limits how long pods may take to report the state of their nodes.
const podPatience = 10 * time.Second

func (p *podStack) master(ctx context.Context) string {
	nodes, _ := p.redisNodes(ctx)
	return masterAmong(nodes)
}

// masterAmong returns the one pod whose node is the master; empty: no pod, or several.
func masterAmong(nodes map[string]supervise.NodeStatus) (master string) {
	for pod, n := range nodes {
		switch {
		case n.Role != "master":
		case master != "":
			return ""
		default:
			master = pod
		}
	}
	return master
}

// whyUnwell returns why the stack is not well; empty: it is. It is well if every workload has all
// of its pods, ready and of its newest template, no other pod is left, and exactly one redis node
// is the master. A pod of Redis is ready when its node is in step with the master, a Sentinel's
// when the Sentinel replies. What the Sentinels know of each other is not checked.
func (p *podStack) whyUnwell(ctx context.Context) string {
	workloads, err := p.Cluster.Workloads(ctx, p.Stack)
	if err != nil {
		return err.Error()
	}
	pods, err := p.pods(ctx, "")
	if err != nil {
		return err.Error()
	}
	if why := unready(workloads, pods); why != "" || !p.spec.Redis.Enabled {
		return why
	}
	nodes, err := p.redisNodes(ctx)
	if err != nil {
		return err.Error()
	}
	for pod, n := range nodes {
		if n.State != supervise.Up {
			return strings.TrimSuffix(fmt.Sprintf("%s in %s is %s: %s", n.Name, pod, n.State, n.Detail), ": ")
		}
	}
	if masterAmong(nodes) == "" {
		return "not exactly one redis node is master"
	}
	return ""
}

// unready returns which pods are missing, ending or not ready; empty: none.
func unready(workloads []kubectl.Workload, pods []kubectl.Pod) string {
	if len(workloads) == 0 {
		return "the stack has no Deployment and no StatefulSet"
	}
	for _, pod := range pods {
		switch {
		case pod.Ending:
			return "the pod " + pod.Name + " is ending"
		case pod.Node == "":
			return "the pod " + pod.Name + " has no machine"
		case !pod.Ready:
			return "the pod " + pod.Name + " is not ready"
		}
	}
	for _, w := range workloads {
		have := 0
		for _, pod := range pods {
			if pod.Component == w.Component {
				have++
			}
		}
		switch {
		case have != w.Replicas:
			return fmt.Sprintf("%s has %d of %d pods", w.Ref(), have, w.Replicas)
		case !w.Settled:
			return w.Ref() + " is being rolled out"
		}
	}
	return ""
}

// lookPodsEvery is the interval at which pods are looked at. It is long, because each look runs a
// few processes.
const lookPodsEvery = 300 * time.Millisecond

func (p *podStack) awaitWell(ctx context.Context, limit time.Duration) (why string) {
	if limit < healBeyond {
		limit = max(limit, lookLimitInPods)
	} else {
		limit = max(limit, healLimitInPods)
	}
	err := awaitEvery(ctx, lookPodsEvery, "", limit, func() bool {
		why = p.whyUnwell(ctx)
		return why == ""
	})
	if err != nil && why == "" {
		why = err.Error()
	}
	return why
}

// healLimitInPods is how long a stack in Kubernetes may take to be well again: pods wait for
// machines, volumes and back-off times. lookLimitInPods is how long it may take to look well if
// nothing was broken for a while.
const healLimitInPods, lookLimitInPods = 5 * time.Minute, 20 * time.Second

// awaitInSync waits until every web node waits for every replica. The metrics of a node are read
// from its pod through the API server. If the user may not do that, awaitInSync does not wait.
func (p *podStack) awaitInSync(ctx context.Context) error {
	want := p.spec.Redis.Replicas
	if !p.spec.Redis.Enabled || want == 0 || p.loads.app == "" {
		return nil
	}
	why := ""
	err := awaitEvery(ctx, lookPodsEvery, "", inSyncLimit, func() bool {
		all, err := p.webMetrics(ctx)
		if err != nil {
			p.noteUnreadable(err)
			return kubectl.IsReason(err, "Forbidden")
		}
		why = ""
		for pod, n := range all {
			if n.inSync < want && n.operations > 0 { // a node that has done nothing knows nothing yet
				why = fmt.Sprintf("%s waits for %d of %d replicas", pod, n.inSync, want)
			}
		}
		return why == ""
	})
	if err != nil && ctx.Err() == nil && why != "" {
		return fmt.Errorf("%s, after %v", why, inSyncLimit)
	}
	return ctx.Err()
}

// webMetrics returns the metrics of the ready web nodes, by pod.
func (p *podStack) webMetrics(ctx context.Context) (map[string]nodeMetrics, error) {
	pods, err := p.pods(ctx, p.loads.app)
	if err != nil {
		return nil, err
	}
	all := map[string]nodeMetrics{}
	for _, pod := range pods {
		if pod.Ending || !pod.Ready {
			continue
		}
		text, err := p.Cluster.Ask(ctx, pod.Name, plan.PodAdminPort, "/metrics")
		if err != nil {
			return nil, err
		}
		if all[pod.Name], err = parseMetrics(strings.NewReader(string(text))); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// noteUnreadable notes, once, that the user may not read the web nodes' metrics.
func (p *podStack) noteUnreadable(err error) {
	if kubectl.IsReason(err, "Forbidden") {
		p.noted.Do(func() {
			p.note(fmt.Sprintf("the drill does not know which replicas confirm writes, nor how much the web nodes have to do: %v", err))
		})
	}
}
