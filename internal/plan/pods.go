package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/stack"
)

// In Kubernetes each node of a stack is a pod. Redis nodes and Sentinels are pods of StatefulSets,
// each with a Service of its own, whose address stays the same. Web nodes and balancers are pods of
// Deployments.
//
// A pod carries out its part of the stack's plan. In that plan there is a host for each Service,
// and one for the pod itself.

// The ports of nodes in pods. They can be the same everywhere, because each pod has an address of
// its own.
const (
	PodRedisPort    = 6379
	PodSentinelPort = 26379
	PodWebPort      = 5001
	// PodPort is where a pod reports its state to the other pods and to the kubelet.
	PodPort = 6300
	// PodMetricsPort is where a pod has its node's metrics for Prometheus, and PodAdminPort where a
	// web node has its own.
	PodMetricsPort, PodAdminPort = 9633, 5002

	// PodMasterPort is where a balancer leads to the Redis master. Containers use the same port.
	PodMasterPort = 6378
)

// PodAppPort returns where the pods of an application listen.
func PodAppPort(app stack.App) int {
	if app.Kind() == stack.Image {
		return app.Port
	}
	return PodWebPort
}

// PodRedisMaster returns the name of the Service that leads to the Redis master through the
// balancers, and its port. Users' programs connect there.
func PodRedisMaster(s stack.Stack) (name string, port int) {
	return s.Name + "-" + PortRedisMaster, cmp.Or(s.Redis.MasterPort, PodMasterPort)
}

// Pod is one pod of a stack that Holdfast looks after. The pods of users' programs are not among
// them.
type Pod struct {
	Name string // the pod's own name
	// Node is the node that runs there, such as redis-1. It is the same in all pods of a
	// Deployment.
	Node string
	Kind Kind
	App  string
}

// PodOf returns the pod of a stack that has this name. It returns an error if the name belongs to
// no node of the stack.
func PodOf(s stack.Stack, name string) (Pod, error) {
	rest, ours := strings.CutPrefix(name, s.Name+"-")
	if !ours {
		return Pod{}, fmt.Errorf("the pod %q is none of the stack %s: its name does not begin with %s-", name, s.Name, s.Name)
	}
	for _, kind := range []struct {
		kind  Kind
		count int
	}{{Redis, s.Redis.Replicas + 1}, {Sentinel, s.Redis.Sentinels}} {
		ordinal, is := strings.CutPrefix(rest, string(kind.kind)+"-")
		if i, err := strconv.Atoi(ordinal); is && err == nil {
			if i < 0 || i >= kind.count {
				return Pod{}, fmt.Errorf("the pod %q is one more than the stack %s has of its kind: %d", name, s.Name, kind.count)
			}
			return Pod{Name: name, Node: fmt.Sprintf("%s-%d", kind.kind, i+1), Kind: kind.kind}, nil
		}
	}
	if strings.HasPrefix(rest, string(Balancer)+"-") {
		return Pod{Name: name, Node: "balancer-1", Kind: Balancer}, nil
	}
	// The longest name first: an application's name may be the beginning of another one's.
	apps := s.AppNames()
	slices.SortFunc(apps, func(a, b string) int { return len(b) - len(a) })
	for _, app := range apps {
		if strings.HasPrefix(rest, app+"-") {
			if s.Apps[app].Kind() == stack.Image {
				return Pod{}, fmt.Errorf("the pod %q runs the image of apps.%s: Holdfast has no part in it", name, app)
			}
			return Pod{Name: name, Node: podWebNode(app), Kind: Web, App: app}, nil
		}
	}
	return Pod{}, fmt.Errorf("the pod %q runs nothing that the stack %s has", name, s.Name)
}

// podWebNode returns the name of the node in all pods of an application. It is also the name in
// their certificates.
func podWebNode(app string) string { return app + "-1" }

// AuthorityLabel is the label for Seed.Derive from which a stack in pods gets the key of its
// certificate authority.
const AuthorityLabel = "certificate authority"

// Number returns the number of the pod's node among those of its kind, from 1.
func (p Pod) Number() int { return NodeNumber(p.Node) }

// HasData reports whether the pod belongs to a StatefulSet. Such a pod has a Service with a lasting
// address, and stores what the other pods need to know.
func (p Pod) HasData() bool { return p.Kind == Redis || p.Kind == Sentinel }

// PodService returns the name of the Service of a redis node or Sentinel. It is also the name of
// its pod.
func PodService(s stack.Stack, node string) string {
	kind, number, _ := strings.Cut(node, "-")
	i, _ := strconv.Atoi(number)
	return fmt.Sprintf("%s-%s-%d", s.Name, kind, i-1)
}

// DataNodes returns the names of a stack's redis nodes and Sentinels.
func DataNodes(s stack.Stack) (names []string) {
	for _, n := range nodes(s, Facts{}) {
		if n.kind == Redis || n.kind == Sentinel {
			names = append(names, n.name)
		}
	}
	return names
}

// PodPorts returns the ports in a pod besides its node's own, under their names in Facts.Ports.
func PodPorts(pod Pod) map[string]int {
	return map[string]int{PortRedisMaster: PodMasterPort, adminPort(pod.Node): PodAdminPort}
}

// InPod returns the stack as one pod plans it, and the placement of its nodes. addresses has the
// addresses of the Services of all DataNodes, and of the pod itself if it is not one of them. found
// returns the DNS name and port at which the balancers find the pods of an application.
func InPod(s stack.Stack, pod Pod, addresses map[string]string, found func(app string) string) (stack.Stack, Placement) {
	s.Network, s.Hosts = cmp.Or(s.Network, stack.Encrypted), nil
	s.Backup, s.Metrics.Enabled = stack.Backup{}, false
	placed := Placement{}
	for _, name := range DataNodes(s) {
		kind := stack.OfRedis
		if strings.HasPrefix(name, string(Sentinel)+"-") {
			kind = stack.OfSentinels
		}
		h := stack.Host{Name: name, Address: addresses[name], Only: []string{kind}}
		if name == pod.Node {
			h.Listen = "0.0.0.0" // the address is the Service's
		}
		s.Hosts = append(s.Hosts, h)
		placed[name] = name
	}

	if !pod.HasData() {
		kind := stack.OfApps
		if pod.Kind == Balancer {
			kind = stack.OfBalancers
		}
		s.Hosts = append(s.Hosts, stack.Host{Name: pod.Node, DisplayName: pod.Name, Address: addresses[pod.Node], Only: []string{kind}})
		placed[pod.Node] = pod.Node
	}

	s.Redis.Ports = slices.Repeat([]int{PodRedisPort}, s.Redis.Replicas+1)
	s.Redis.SentinelPorts = slices.Repeat([]int{PodSentinelPort}, s.Redis.Sentinels)

	balances, balancers := pod.Kind == Balancer, s.Balancers
	s.Balancers = 0
	if balances {
		s.Balancers = 1
	}

	s.Apps = maps.Clone(s.Apps)
	for name, app := range s.Apps {
		app.Discovery = nil
		// An image has no addresses in the plan of any pod, not even where nobody looks for them.
		if balances && app.Kind() == stack.KV || app.Kind() == stack.Image {
			app.Discovery = &stack.Discovery{At: found(name), Nodes: app.Nodes, Balancers: balancers}
		}
		app.Nodes, app.Ports = 0, nil
		if pod.App == name {
			app.Nodes, app.Ports = 1, []int{PodWebPort}
		}
		s.Apps[name] = app
	}
	return s, placed
}

// CheckPods returns an error, with advice, where a stack cannot run in pods.
func CheckPods(s stack.Stack) error {
	switch {
	case len(s.Hosts) > 0:
		return fmt.Errorf("hosts: in Kubernetes the pods are the hosts: remove the key")
	case s.Redis.Enabled && s.Redis.Sentinels < 3:
		return fmt.Errorf("redis.sentinels: in Kubernetes a stack has at least 3: nobody else may say who is the master")
	case s.Redis.Enabled && s.Redis.Replicas == 0:
		return fmt.Errorf("redis.replicas: in Kubernetes a stack has at least 1: with none, every move of a pod is an outage")
	case s.Entry.OnLoopback():
		return fmt.Errorf("entry.listen: %s is the pod's own: write 0.0.0.0:6301, say, and tokens or \"auth: none\"", s.Entry.Listen)
	case s.Entry.TLS.Enabled():
		return fmt.Errorf("entry.tls: in Kubernetes an Ingress or a Gateway before the stack speaks TLS, with a certificate that the cluster renews: leave the key out, and name that proxy in entry.trusted-proxies")
	case len(s.TCP) > 0:
		return fmt.Errorf("tcp: entries at layer 4 are not exported yet")
	case s.Backup.To != "":
		return fmt.Errorf("backup: in Kubernetes backups are not exported yet")
	}

	if err := checkPodPorts(s); err != nil {
		return err
	}

	for _, r := range s.References() {
		if r.Kind == stack.PageFile {
			return fmt.Errorf("%s: no pod has the file: write the page itself, below a | after the status", r.Key())
		}
	}

	for _, name := range s.AppNames() {
		switch app := s.Apps[name]; {
		case app.Kind() == stack.Command:
			return fmt.Errorf("apps.%s.command: in Kubernetes a program of yours runs as an image of its own: write image in its place", name)
		case app.Kind() == stack.Files:
			return fmt.Errorf("apps.%s.files: no pod has the directory: put the files into an image with a web server, and write image in its place", name)
		case len(app.At) > 0:
			return fmt.Errorf("apps.%s.at: in Kubernetes the pods have addresses of their own: remove the key", name)
		case app.Kind() == stack.Image && app.StopSignal != "SIGTERM":
			return fmt.Errorf("apps.%s.stop-signal: Kubernetes sends the signal that the image names (STOPSIGNAL in its Dockerfile): remove the key", name)
		case app.Kind() == stack.Image && s.Redis.Enabled && s.Network != stack.Trusted:
			return fmt.Errorf("apps.%s.image: a program has no certificate of the stack, so it reaches Redis in plain: write network: trusted if the cluster's network is, or redis: {enabled: false} if no application needs Redis", name)
		case app.Sticky != "":
			return fmt.Errorf("apps.%s.sticky: pods of a Deployment have no names that a cookie could keep", name)
		case app.KV != nil && app.KV.TokensFile != "":
			return fmt.Errorf("apps.%s.kv.tokens-file: no pod has the file: write the tokens into the stack file, as hashes", name)
		case app.Kind() == stack.Image && s.Redis.Enabled:
			if err := checkPodEnv(name, app); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPodPorts returns an error where two things in a balancer's pod have the same port.
func checkPodPorts(s stack.Stack) error {
	_, text, _ := net.SplitHostPort(s.Entry.Listen)
	entry, _ := strconv.Atoi(text) // a validated stack has one
	_, master := PodRedisMaster(s)

	taken := map[int]string{PodPort: "where a pod reports its state", PodMetricsPort: "where a pod has its metrics"}
	switch {
	case taken[entry] != "":
		return fmt.Errorf("entry.listen: in Kubernetes the port %d is %s: choose another", entry, taken[entry])
	case s.Redis.Enabled && taken[master] != "":
		return fmt.Errorf("redis.master-port: in Kubernetes the port %d is %s: choose another", master, taken[master])
	case s.Redis.Enabled && entry == master:
		return fmt.Errorf("entry.listen, redis.master-port: both are the port %d of a balancer's pod, which is the default of redis.master-port in Kubernetes: choose another for one of them", entry)
	}
	return nil
}

// podlessVariables are those of stack.RedisVariables that a program in a pod does not have, because
// the network policies do not let it reach the Sentinels.
var podlessVariables = []string{"REDIS_SENTINELS", "REDIS_MASTER_NAME"}

// checkPodEnv returns an error where the env of a program names one of podlessVariables.
func checkPodEnv(name string, app stack.App) (err error) {
	for _, variable := range slices.Sorted(maps.Keys(app.Env)) {
		stack.Expand(app.Env[variable], func(used string) (string, bool) {
			if err == nil && slices.Contains(podlessVariables, used) {
				err = fmt.Errorf("apps.%s.env.%s: in Kubernetes a program has no $%s, and does not reach the Sentinels: use $REDIS_URL, which always leads to the master (or write $$ for a $)", name, variable, used)
			}
			return "", false
		})
	}
	return err
}
