package export

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
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
}

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
	memory   string
	storage  string
	keeps    bool // it has a volume that outlives the pod
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
	if !k.Stack.Redis.Enabled {
		return nil
	}
	grace := func(kind plan.Kind) int { return seconds(kind.Traits().Grace + switchoverTime + endMargin) }
	return []podSet{
		{
			name: "sentinel", portName: "sentinel", count: k.Stack.Redis.Sentinels, port: plan.PodSentinelPort, memory: "48Mi",
			storage: "64Mi", keeps: true, grace: grace(plan.Sentinel),
		},
		{
			name: "redis", portName: "redis", count: k.Stack.Redis.Replicas + 1, port: plan.PodRedisPort, memory: k.redisMemory(),
			storage: cmp.Or(k.Storage, "8Gi"), keeps: true, grace: grace(plan.Redis),
			// Sentinels do not elect again before.
			settle: seconds(2*k.Stack.Redis.FailoverTimeout + time.Second),
		},
	}
}

// redisMemory is what a redis node asks for: what the stack file gives it and a half more,
// for the copy of what changes while it writes a snapshot.
func (k Kubernetes) redisMemory() string {
	if k.Stack.Redis.Memory == 0 {
		return "128Mi"
	}
	return fmt.Sprintf("%dMi", 64+int64(k.Stack.Redis.Memory)*3/2>>20)
}

func (k Kubernetes) deployments() (sets []podSet) {
	longest := 5 * time.Second
	for _, app := range k.apps() {
		grace := k.Stack.Apps[app].Grace
		longest = max(longest, grace)
		sets = append(sets, podSet{
			name: app, portName: "http", count: k.Stack.Apps[app].Nodes, port: plan.PodWebPort, memory: "64Mi",
			grace: seconds(grace + webLinger + endMargin), linger: seconds(webLinger),
		})
	}
	return append(sets, podSet{
		name: "balancer", portName: "http", count: k.Stack.Balancers, port: k.entryPort(), memory: "128Mi",
		grace: seconds(longest + balancerLinger + endMargin), linger: seconds(balancerLinger),
	})
}

func (k Kubernetes) sets() []podSet { return append(k.dataSets(), k.deployments()...) }

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
