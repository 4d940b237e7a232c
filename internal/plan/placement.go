package plan

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/stack"
)

// Placement is the name of the host on which each node runs, by node.
type Placement map[string]string

// HostsOf returns the hosts that a stack's file lists.
func HostsOf(s stack.Stack) (hosts []Place) {
	for _, h := range s.Hosts {
		hosts = append(hosts, Place{Name: h.Name, Address: h.Address, Listen: h.Listen, DisplayName: h.DisplayName})
	}
	return hosts
}

// Spread returns the placement of a stack whose file has hosts, and nil for any other stack.
//
// A node keeps the host that it has in kept, as long as that host exists and may have it: the
// node's data would have to move with it. A new node goes to the host with the fewest nodes of its
// kind (for an application: the fewest of its own nodes); among equals to the host with the fewest
// nodes of all; among equals to the first in the file. It goes to a host that is away only where no
// other host may have it.
func Spread(s stack.Stack, kept Placement, away ...string) (Placement, error) {
	if len(s.Hosts) == 0 {
		return nil, nil
	}

	placed := Placement{}
	alike := map[string]map[string]int{} // nodes of one kind and application, by host
	all := map[string]int{}              // nodes, by host
	put := func(n node, host string) {
		placed[n.name] = host
		if alike[n.group()] == nil {
			alike[n.group()] = map[string]int{}
		}
		alike[n.group()][host]++
		all[host]++
	}

	list := nodes(s, Facts{})
	for _, n := range list {
		if slices.ContainsFunc(n.hosts(s), func(h stack.Host) bool { return h.Name == kept[n.name] }) {
			put(n, kept[n.name])
		}
	}

	for _, n := range list {
		if placed[n.name] != "" {
			continue
		}
		hosts := n.hosts(s)
		if len(hosts) == 0 {
			return nil, fmt.Errorf("no host may have %s", n.name)
		}
		isAway := func(h stack.Host) bool { return slices.Contains(away, h.Name) }
		if there := slices.DeleteFunc(slices.Clone(hosts), isAway); len(there) > 0 {
			hosts = there
		}
		here := alike[n.group()]
		best := slices.MinFunc(hosts, func(a, b stack.Host) int {
			return cmp.Or(cmp.Compare(here[a.Name], here[b.Name]), cmp.Compare(all[a.Name], all[b.Name]))
		})
		put(n, best.Name)
	}
	return withKeepalived(s, placed, kept), nil
}

// Balance returns a placement in which nodes move from hosts with many of a kind (or application)
// to hosts with few. It moves as few nodes as possible, until no host has two more of a kind than
// another host that may have the node. The nodes with the highest numbers move, to the host with
// the fewest nodes of all, among equals to the first in the file.
//
// Balance is for new hosts, which Spread alone leaves empty.
func Balance(s stack.Stack, kept Placement) (Placement, error) {
	placed, err := Spread(s, kept)
	if len(placed) == 0 || err != nil {
		return placed, err
	}
	list := nodes(s, Facts{})
	all := map[string]int{}
	for _, n := range list {
		all[placed[n.name]]++
	}
	for _, n := range slices.Backward(list) {
		alike := map[string]int{}
		for _, o := range list {
			if o.group() == n.group() {
				alike[placed[o.name]]++
			}
		}
		best := slices.MinFunc(n.hosts(s), func(a, b stack.Host) int {
			return cmp.Or(cmp.Compare(alike[a.Name], alike[b.Name]), cmp.Compare(all[a.Name], all[b.Name]))
		})
		if from := placed[n.name]; alike[from] > alike[best.Name]+1 {
			all[from]--
			all[best.Name]++
			placed[n.name] = best.Name
		}
	}
	return withKeepalived(s, placed, kept), nil
}

// withKeepalived adds the keepalived nodes, which are where balancers are.
func withKeepalived(s stack.Stack, placed, kept Placement) Placement {
	balancers := ofKind(nodes(s, Facts{Hosts: HostsOf(s), Placement: placed}), Balancer)
	for _, n := range keepalivedNodes(s, kept, balancers) {
		placed[n.name] = n.host.Name
	}
	return placed
}

// group returns a name that all nodes have which can replace each other.
func (n node) group() string { return string(n.kind) + "/" + n.app }

// hosts returns the hosts of the stack file that may have a node.
func (n node) hosts(s stack.Stack) []stack.Host { return s.HostsFor(string(n.kind), n.app) }

// place returns the host of the i-th node of a kind. Hosts that the stack file does not list, those
// of a drill, come without a placement: there the nodes are dealt out in turn.
func (f Facts) place(node string, i int) Place {
	if p, stays := f.Stay[node]; stays {
		return p
	}
	hosts := places(f)
	if at := slices.IndexFunc(hosts, func(p Place) bool { return p.Name == f.Placement[node] }); at >= 0 {
		return hosts[at]
	}
	return hosts[i%len(hosts)]
}

// checkPlacement returns an error where a node has no host.
func (f Facts) checkPlacement(list []node) error {
	if f.Placement == nil {
		return nil
	}
	for _, n := range list {
		if n.kind == Keepalived {
			continue // it follows the balancers
		}
		if _, stays := f.Stay[n.name]; stays {
			continue
		}
		host, placed := f.Placement[n.name]
		switch {
		case !placed:
			return fmt.Errorf("no host was chosen for %s", n.name)
		case host != n.host.Name:
			return fmt.Errorf("%s is to run on %s, and there is no such host", n.name, host)
		}
	}
	return nil
}
