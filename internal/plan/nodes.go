package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"holdfast/internal/stack"
)

// Local is the name of the only host of a stack without hosts.
const Local = "local"

// places returns the hosts of a stack: by default the machine that Holdfast runs on. Hosts that the
// stack is leaving (Facts.Stay) come last.
func places(f Facts) []Place {
	hosts := []Place{{Name: Local, Address: "127.0.0.1"}}
	if len(f.Hosts) > 0 {
		hosts = slices.Clone(f.Hosts)
	}
	for _, node := range slices.Sorted(maps.Keys(f.Stay)) {
		if !slices.ContainsFunc(hosts, f.Stay[node].same) {
			hosts = append(hosts, f.Stay[node])
		}
	}
	return hosts
}

// same reports whether two places are the same host. They may have different addresses: see
// Facts.Stay.
func (p Place) same(o Place) bool { return p.Name == o.Name }

// loopback reports whether a host can only be reached from the machine itself.
func (p Place) loopback() bool {
	ip := net.ParseIP(p.Address)
	return ip != nil && ip.IsLoopback()
}

// listen returns the address at which the host's redis nodes and Sentinels listen.
func (p Place) listen() string { return cmp.Or(p.Listen, p.Address) }

// displayName returns the name of the node that people and clients see.
func (n node) displayName() string { return cmp.Or(n.host.DisplayName, n.name) }

// runsOn reports whether a node is on a host.
func (n node) runsOn(h Place) bool { return n.host.same(h) }

// node is one process of the plan, and its host.
type node struct {
	name string
	kind Kind
	app  string
	// fixed and preferred are those of its PortNeed; a balancer does not use them.
	fixed, preferred int
	host             Place
}

// nodes returns all nodes of a stack in the order of their start: Sentinels, Redis, applications,
// balancers, and then keepalived.
func nodes(s stack.Stack, f Facts) []node {
	var list []node
	add := func(kind Kind, name, app string, i, fixed, preferred int) {
		name += "-" + strconv.Itoa(i+1)
		list = append(list, node{name: name, kind: kind, app: app, fixed: fixed, preferred: preferred, host: f.place(name, i)})
	}

	if s.Redis.Enabled {
		for i := range s.Redis.Sentinels {
			add(Sentinel, "sentinel", "", i, portAt(s.Redis.SentinelPorts, i), 0)
		}
		for i := range s.Redis.Replicas + 1 {
			add(Redis, "redis", "", i, portAt(s.Redis.Ports, i), 0)
		}
	}

	// The first application of kind kv gets the ports of the original walk-through (5001 and up)
	// when they are free.
	first := true
	for _, name := range s.AppNames() {
		app := s.Apps[name]
		if app.Kind().Elsewhere() {
			continue
		}
		preferred := 0
		if first && app.Kind() == stack.KV {
			preferred, first = 5001, false
		}
		for i := range app.Nodes {
			p := 0
			if preferred != 0 {
				p = preferred + i
			}
			add(Web, name, name, i, portAt(app.Ports, i), p)
		}
	}

	for i := range s.Balancers {
		add(Balancer, "balancer", "", i, 0, 0)
	}

	if len(f.Hosts) == 0 { // on one machine, or before the hosts matter (see Needs)
		return list
	}
	return append(list, keepalivedNodes(s, f.Placement, ofKind(list, Balancer))...)
}

// portAt returns the i-th port, or 0 when the list leaves it open.
func portAt(ports []int, i int) int {
	if i < len(ports) {
		return ports[i]
	}
	return 0
}

// ofKind returns the nodes of one kind.
func ofKind(list []node, kind Kind) []node {
	return slices.DeleteFunc(slices.Clone(list), func(n node) bool { return n.kind != kind })
}

// Needs returns the ports that a plan of the stack expects in Facts.Ports.
func Needs(s stack.Stack) []PortNeed {
	var needs []PortNeed
	list := nodes(s, Facts{}) // the hosts do not matter here
	for _, n := range list {
		if n.kind.Traits().OwnPort() {
			needs = append(needs, PortNeed{Node: n.name, Fixed: n.fixed, Preferred: n.preferred})
		}
	}
	if s.Redis.Enabled {
		needs = append(needs, PortNeed{Node: PortRedisMaster, Fixed: s.Redis.MasterPort})
	}
	for _, n := range ofKind(list, Web) {
		if kv := s.Apps[n.app].KV; kv != nil && kv.Admin {
			needs = append(needs, PortNeed{Node: adminPort(n.name)})
		}
	}
	if s.Metrics.Enabled && s.Metrics.Listen == "" {
		needs = append(needs, PortNeed{Node: PortMetrics})
	}
	return needs
}

// address returns host:port where a node listens.
func (b builder) address(n node) string {
	return net.JoinHostPort(n.host.Address, strconv.Itoa(b.facts.Ports[n.name]))
}

// behindService returns where a node can be reached from its own host if its address is a
// Service's; empty: at that address.
func (b builder) behindService(n node) string {
	if n.host.Listen == "" {
		return ""
	}
	return net.JoinHostPort(loopback, strconv.Itoa(b.facts.Ports[n.name]))
}

// addresses returns where the nodes listen.
func (b builder) addresses(list []node) []string {
	var all []string
	for _, n := range list {
		all = append(all, b.address(n))
	}
	return all
}

// checkNodes returns an error where two nodes would have the same name, or a node has no host or no
// port.
func checkNodes(list []node, f Facts, s stack.Stack) error {
	names := map[string]bool{}
	for _, n := range list {
		if names[n.name] {
			return fmt.Errorf("two nodes are called %s: an application may not be called %s", n.name, cmp.Or(n.app, string(n.kind)))
		}
		names[n.name] = true
	}
	if err := f.checkPlacement(list); err != nil {
		return err
	}
	for _, need := range Needs(s) {
		if p := f.Ports[need.Node]; p < 1 || p > 65535 {
			return fmt.Errorf("no port was chosen for %s (got %d)", need.Node, p)
		}
	}
	return nil
}
