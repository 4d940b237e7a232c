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

// Local is the name of the one host of a stack without hosts.
const Local = "local"

// places are the hosts of a stack: by default the one that Holdfast runs on. Hosts that
// the stack is leaving come last.
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

// same reports whether two places are one host. It may have two addresses: see Facts.Stay.
func (p Place) same(o Place) bool { return p.Name == o.Name }

// loopback reports whether only the machine itself reaches a host.
func (p Place) loopback() bool {
	ip := net.ParseIP(p.Address)
	return ip != nil && ip.IsLoopback()
}

// listen is where its redis nodes and Sentinels listen.
func (p Place) listen() string { return cmp.Or(p.Listen, p.Address) }

// shown is what people and clients see as the node's name.
func (n node) shown() string { return cmp.Or(n.host.Shown, n.name) }

// on reports whether a node is on a host.
func (n node) on(h Place) bool { return n.host.same(h) }

// node is one process to be, and where.
type node struct {
	name string
	kind Kind
	app  string
	// fixed and preferred are its PortNeed; unused by a balancer.
	fixed, preferred int
	host             Place
}

// nodes lists all nodes of a stack in the order of their start: Sentinels,
// Redis, applications, balancers, and what moves the virtual address.
func nodes(s stack.Stack, f Facts) []node {
	var list []node
	add := func(kind Kind, name, app string, i, fixed, preferred int) {
		name += "-" + strconv.Itoa(i+1)
		list = append(list, node{name: name, kind: kind, app: app, fixed: fixed, preferred: preferred, host: f.place(name, i)})
	}
	if s.Redis.Enabled {
		for i := range s.Redis.Sentinels {
			add(Sentinel, "sentinel", "", i, at(s.Redis.SentinelPorts, i), 0)
		}
		for i := range s.Redis.Replicas + 1 {
			add(Redis, "redis", "", i, at(s.Redis.Ports, i), 0)
		}
	}
	// The first application of Holdfast's own web nodes gets the ports of the
	// source's walk-through when they are free.
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
			add(Web, name, name, i, at(app.Ports, i), p)
		}
	}
	for i := range s.Balancers {
		add(Balancer, "balancer", "", i, 0, 0)
	}
	if len(f.Hosts) == 0 { // where they run does not matter, or is one machine
		return list
	}
	return append(list, keepers(s, f.Placement, of(list, Balancer))...)
}

// at is the i-th port; 0 when the list leaves it open.
func at(ports []int, i int) int {
	if i < len(ports) {
		return ports[i]
	}
	return 0
}

// of picks the nodes of one kind.
func of(list []node, kind Kind) []node {
	return slices.DeleteFunc(slices.Clone(list), func(n node) bool { return n.kind != kind })
}

// Needs lists the ports that a plan of the stack takes in Facts.Ports.
func Needs(s stack.Stack) []PortNeed {
	var needs []PortNeed
	list := nodes(s, Facts{}) // where they run does not matter here
	for _, n := range list {
		if n.kind.Traits().OwnPort() {
			needs = append(needs, PortNeed{Node: n.name, Fixed: n.fixed, Preferred: n.preferred})
		}
	}
	if s.Redis.Enabled {
		needs = append(needs, PortNeed{Node: PortRedisMaster, Fixed: s.Redis.MasterPort})
	}
	for _, n := range of(list, Web) {
		if kv := s.Apps[n.app].KV; kv != nil && kv.Admin {
			needs = append(needs, PortNeed{Node: adminPort(n.name)})
		}
	}
	if s.Metrics.Enabled && s.Metrics.Listen == "" {
		needs = append(needs, PortNeed{Node: PortMetrics})
	}
	return needs
}

// address is where a node listens.
func (b builder) address(n node) string {
	return net.JoinHostPort(n.host.Address, strconv.Itoa(b.facts.Ports[n.name]))
}

// behindService is where its own host reaches a node whose address is not the host's own;
// empty: at that address.
func (b builder) behindService(n node) string {
	if n.host.Listen == "" {
		return ""
	}
	return net.JoinHostPort(loopback, strconv.Itoa(b.facts.Ports[n.name]))
}

// addresses are where nodes listen.
func (b builder) addresses(list []node) []string {
	var all []string
	for _, n := range list {
		all = append(all, b.address(n))
	}
	return all
}

// checkNodes refuses what would make two nodes one, or leave one without a
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
