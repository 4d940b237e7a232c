package export

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Kubernetes is a stack as manifests of Kubernetes.
type Kubernetes struct {
	Stack stack.Stack
	// File is the text of the stack file.
	File string
	// Image is the container image, with HAProxy and Redis.
	Image string
	// ServiceType is that of the entry: ClusterIP, NodePort or LoadBalancer.
	ServiceType string
	// NodePort is the port of NodePort; 0: Kubernetes chooses.
	NodePort int
	// Storage is how much a redis node's volume has; empty: 8Gi.
	Storage string
	// StorageClass is that of the volumes; empty: the cluster's default.
	StorageClass string
	// Autoscale is how many web nodes an autoscaler may make of each application; zero: there
	// is none, and the stack file says how many.
	Autoscale Autoscale
	// Unguarded leaves the network policies out.
	Unguarded bool
	// Monitor adds a PodMonitor for the Prometheus Operator, and the dashboard for Grafana.
	Monitor bool
}

// Autoscale is how many web nodes an autoscaler may make.
type Autoscale struct{ Min, Max int }

// scaleAt is the use of the processors, in percent of what the pods ask for, above which the
// autoscaler adds a pod.
const scaleAt = 80

// Manifests are all objects of the stack but its secrets. The stack is one of
// plan.CheckPods.
func (k Kubernetes) Manifests() string { return manifests(k) }

// Secret is the object with the stack's seed.
func (k Kubernetes) Secret(seed string) string { return secret(k, seed) }

// podSet are pods of one kind.
type podSet struct {
	name     string // redis, sentinel, balancer or the application
	count    int
	portName string
	port     int
	memory   string // what a pod asks for
	limit    string // what it gets at most; empty: no limit
	storage  string
	keeps    bool // it has a volume that outlives the pod
	figures  bool // it tells Prometheus of its node
	admin    bool // and its node of itself
	// In seconds: how long it may take to end, and serves on before; and for how long a new one
	// has to be ready before the next is replaced.
	grace, linger, settle int
}

// The times of a pod's end, beside those of its node.
const (
	// switchoverTime is how long a master may take to have a successor.
	switchoverTime = 30 * time.Second
	// balancerLinger is how long new connections may come after a pod has left its Service.
	balancerLinger = 5 * time.Second
	// webLinger is how long balancers may not know of the web nodes that came in its place: names
	// are remembered for 30 s by the DNS of most clusters (CoreDNS, "ttl" and "cache").
	webLinger = 35 * time.Second
	endMargin = 5 * time.Second
)

func (k Kubernetes) dataSets() []podSet {
	figures := k.Stack.Metrics.Enabled
	if !k.Stack.Redis.Enabled {
		return nil
	}
	grace := func(kind plan.Kind) int { return seconds(kind.Traits().Grace + switchoverTime + endMargin) }
	return []podSet{
		{
			name: "sentinel", portName: "sentinel", count: k.Stack.Redis.Sentinels, port: plan.PodSentinelPort, memory: "48Mi", limit: "128Mi",
			storage: "64Mi", keeps: true, figures: figures, grace: grace(plan.Sentinel),
		},
		{
			name: "redis", portName: "redis", count: k.Stack.Redis.Replicas + 1, port: plan.PodRedisPort, memory: k.redisMemory(3, 64), limit: k.redisMemory(4, 320),
			storage: cmp.Or(k.Storage, "8Gi"), keeps: true, figures: figures, grace: grace(plan.Redis),
			// Sentinels do not elect again before.
			settle: seconds(2*k.Stack.Redis.FailoverTimeout + time.Second),
		},
	}
}

// redisMemory is half as much as the stack file gives Redis, some times, and what the pod needs
// beside. A node asks for three halves: one for the copy of what changes while it writes a
// snapshot. It gets four, and room for the replicas' buffers. Without memory in the
// stack file there is no limit: Redis would not know of it.
func (k Kubernetes) redisMemory(halves, beside int64) string {
	switch {
	case k.Stack.Redis.Memory > 0:
		return fmt.Sprintf("%dMi", beside+int64(k.Stack.Redis.Memory)*halves/2>>20)
	case halves == 3:
		return "128Mi"
	}
	return ""
}

func (k Kubernetes) deployments() (sets []podSet) {
	for _, app := range k.apps() {
		grace := k.Stack.Apps[app].Grace
		sets = append(sets, podSet{
			name: app, portName: "http", count: k.Stack.Apps[app].Nodes, port: plan.PodWebPort, memory: "64Mi", limit: "512Mi",
			figures: k.Stack.Metrics.Enabled, admin: k.Stack.Apps[app].KV.Admin,
			grace: seconds(grace + webLinger + endMargin), linger: seconds(webLinger),
		})
	}
	longest := max(plan.BalancerGrace(k.Stack), plan.LongestRequest(k.Stack)) // its servers are found by DNS
	return append(sets, podSet{
		name: "balancer", portName: "http", count: k.Stack.Balancers, port: k.entryPort(), memory: "128Mi", limit: "1Gi", figures: k.Stack.Metrics.Enabled,
		grace: seconds(longest + balancerLinger + endMargin), linger: seconds(balancerLinger),
	})
}

func (k Kubernetes) sets() []podSet { return append(k.dataSets(), k.deployments()...) }

// scales reports whether an autoscaler says how many pods there are.
func (k Kubernetes) scales(d podSet) bool {
	return k.Autoscale.Max > 0 && slices.Contains(k.apps(), d.name)
}

// namedPort is a port of a pod.
type namedPort struct {
	name string
	port int
}

// metrics are the ports at which a pod has figures for Prometheus.
func (d podSet) metrics() (ports []namedPort) {
	if d.figures {
		ports = append(ports, namedPort{"metrics", plan.PodMetricsPort})
	}
	if d.admin {
		ports = append(ports, namedPort{"web-metrics", plan.PodAdminPort})
	}
	return ports
}

// apps are the applications that run in pods.
func (k Kubernetes) apps() (names []string) {
	for _, name := range k.Stack.AppNames() {
		if k.Stack.Apps[name].Kind() == stack.KV {
			names = append(names, name)
		}
	}
	return names
}

func (k Kubernetes) entryPort() int {
	_, port, _ := net.SplitHostPort(k.Stack.Entry.Listen)
	n, _ := strconv.Atoi(port) // a validated stack has one
	return n
}

// digest tells stack files apart.
func (k Kubernetes) digest() string {
	return fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256([]byte(k.File)))[:16])
}

// labels are those of the objects of one kind; empty: of all.
func (k Kubernetes) labels(of string) string {
	component := ""
	if of != "" {
		component = ", app.kubernetes.io/component: " + of
	}
	return "{app.kubernetes.io/name: holdfast, app.kubernetes.io/instance: " + k.Stack.Name + component + "}"
}

// labelsAnd are those, and one more.
func (k Kubernetes) labelsAnd(of, more string) string {
	return strings.TrimSuffix(k.labels(of), "}") + ", " + more + "}"
}

func (k Kubernetes) selector(of string) string { return k.labels(of) }

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// indented is a text as the content of a literal block, four spaces in.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// quoted is a text as JSON, which is YAML.
func quoted(text string) string {
	b, _ := json.Marshal(text) // a string always can be
	return string(b)
}
