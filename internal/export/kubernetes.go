package export

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Kubernetes is a stack as Kubernetes manifests.
type Kubernetes struct {
	Stack stack.Stack
	// File is the text of the stack file.
	File string
	// Image is the container image, with HAProxy and Redis.
	Image string
	// ServiceType is the type of the entry's Service: ClusterIP, NodePort or LoadBalancer.
	ServiceType string
	// NodePort is the port if ServiceType is NodePort. 0 lets Kubernetes choose it.
	NodePort int
	// Storage is the size of a redis node's volume. Empty stands for 8Gi.
	Storage string
	// StorageClass is the class of the volumes. Empty stands for the cluster's default.
	StorageClass string
	// Autoscale is how many web nodes an autoscaler may run for each application. If it is
	// zero, there is no autoscaler, and the stack file has the number.
	Autoscale Autoscale
	// Unguarded leaves the network policies out.
	Unguarded bool
	// Monitor adds a PodMonitor for the Prometheus Operator, and the dashboard for Grafana.
	Monitor bool
}

// Autoscale is the least and the largest number of web nodes that an autoscaler may run.
type Autoscale struct{ Min, Max int }

// scaleAt is the processor usage, in percent of what the pods request, above which the
// autoscaler adds a pod.
const scaleAt = 80

// Manifests returns all objects of the stack except its secrets. The stack must have passed
// plan.CheckPods.
func (k Kubernetes) Manifests() string { return manifests(k) }

// Secrets returns the objects with the stack's seed, and with the password of each of
// Stack.Programs.
func (k Kubernetes) Secrets(seed string, passwords map[string]string) string {
	return secrets(k, seed, passwords)
}

// podSet describes the pods of one kind.
type podSet struct {
	name     string // redis, sentinel, balancer or the application
	program  bool   // the pods run an image of the user's own
	count    int
	portName string
	port     int
	memory   string // the memory that a pod requests
	limit    string // the most memory that it may use; empty: no limit
	storage  string
	keeps    bool // it has a volume that outlives the pod
	figures  bool // it serves metrics about its node
	admin    bool // its node serves metrics itself
	// In seconds: how long a pod may take to end (grace), how long it keeps serving before that
	// (linger), and how long a new one has to be ready before the next is replaced (settle).
	grace, linger, settle int
}

// The times of a pod's end, in addition to those of its node.
const (
	// switchoverTime is how long it may take until another node is the master.
	switchoverTime = 30 * time.Second
	// balancerLinger is how long new connections may still arrive after a pod has left its
	// Service.
	balancerLinger = 5 * time.Second
	// webLinger is how long it may take until the balancers know the pods that replace a pod of
	// an application: the DNS of most clusters caches names for 30 s (CoreDNS, "ttl" and "cache").
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
			// The Sentinels do not start another failover earlier than that.
			settle: seconds(2*k.Stack.Redis.FailoverTimeout + time.Second),
		},
	}
}

// redisMemory returns the memory of a redis pod: some halves of what the stack file gives Redis,
// plus what the pod needs besides, in MiB. A pod requests three halves, of which the third is for
// the copies of pages that change while Redis writes a snapshot. Its limit is four halves, plus
// room for the replicas' buffers. If the stack file has no memory, there is no limit, because
// Redis would not know about it.
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
	for _, name := range k.apps() {
		app := k.Stack.Apps[name]
		d := podSet{
			name: name, portName: "http", count: app.Nodes, port: plan.PodAppPort(app), memory: "64Mi", limit: "512Mi",
			grace: seconds(app.Grace + webLinger + endMargin), linger: seconds(webLinger),
		}
		if d.program = app.Kind() == stack.Image; !d.program {
			d.figures, d.admin = k.Stack.Metrics.Enabled, app.KV.Admin
		}
		sets = append(sets, d)
	}
	longest := max(plan.BalancerGrace(k.Stack), plan.LongestRequest(k.Stack)) // the latter because its servers are found by DNS
	return append(sets, podSet{
		name: "balancer", portName: "http", count: k.Stack.Balancers, port: k.entryPort(), memory: "128Mi", limit: "1Gi", figures: k.Stack.Metrics.Enabled,
		grace: seconds(longest + balancerLinger + endMargin), linger: seconds(balancerLinger),
	})
}

func (k Kubernetes) sets() []podSet { return append(k.dataSets(), k.deployments()...) }

// scales reports whether an autoscaler determines the number of pods.
func (k Kubernetes) scales(d podSet) bool {
	return k.Autoscale.Max > 0 && slices.Contains(k.apps(), d.name)
}

// namedPort is a port of a pod.
type namedPort struct {
	name string
	port int
}

// metrics returns the ports at which a pod serves metrics to Prometheus.
func (d podSet) metrics() (ports []namedPort) {
	if d.figures {
		ports = append(ports, namedPort{"metrics", plan.PodMetricsPort})
	}
	if d.admin {
		ports = append(ports, namedPort{"web-metrics", plan.PodAdminPort})
	}
	return ports
}

// apps returns the applications that run in pods.
func (k Kubernetes) apps() (names []string) {
	for _, name := range k.Stack.AppNames() {
		if kind := k.Stack.Apps[name].Kind(); kind == stack.KV || kind == stack.Image {
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

// digest returns a quoted digest of what Holdfast's own pods take from the stack file. If it
// changes, Kubernetes replaces them. A new version of a user's program must not do that.
func (k Kubernetes) digest() string {
	text := []byte(k.File)
	if len(k.programs()) > 0 {
		s := k.Stack
		s.Apps = maps.Clone(s.Apps)
		for _, name := range k.programs() {
			app := s.Apps[name]
			app.Image, app.Args, app.Env = "image", nil, nil
			s.Apps[name] = app
		}
		text = withoutComments(s.Show())
	}
	return fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(text))[:16])
}

// withoutComments returns a stack file as stack.Show writes it without the lines that describe its
// keys. Other words in the documentation are no other stack.
func withoutComments(file []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// labels returns the labels of the objects of one kind, or of all objects if of is empty.
func (k Kubernetes) labels(of string) string {
	component := ""
	if of != "" {
		component = ", app.kubernetes.io/component: " + of
	}
	return "{app.kubernetes.io/name: holdfast, app.kubernetes.io/instance: " + k.Stack.Name + component + "}"
}

// labelsAnd returns these labels and one more.
func (k Kubernetes) labelsAnd(of, more string) string {
	return strings.TrimSuffix(k.labels(of), "}") + ", " + more + "}"
}

func (k Kubernetes) selector(of string) string { return k.labels(of) }

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// indented returns a text as the content of a YAML literal block, indented by four spaces.
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

// quoted returns a text as a JSON string, which is also valid YAML.
func quoted(text string) string {
	b, _ := json.Marshal(text) // does not fail for a string
	return string(b)
}
