package plan

import (
	"cmp"
	"fmt"
	"slices"

	"holdfast/internal/stack"
)

// Placement is where the nodes of a stack run: the name of a host, by node.
type Placement map[string]string

// HostsOf are the hosts of a stack whose file has some.
func HostsOf(s stack.Stack) (hosts []Place) {
	for _, h := range s.Hosts {
		hosts = append(hosts, Place{Name: h.Name, Address: h.Address, Listen: h.Listen, Shown: h.Shown})
	}
	return hosts
}

// Spread returns the placement of a stack whose file has hosts; of another one, nil. A
// node that kept has stays where it is, as long as that host exists and may have it:
// with a node its data would move. A new node goes to a host that has the fewest of
// its kind (of an application, of its nodes), of those to the one with the fewest nodes
// of all, of those to the first in the file. It goes to none of the hosts that are away where
// others may have it.
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
	return withKeepers(s, placed, kept), nil
}

// Balance returns a placement in which nodes have moved from hosts with many of a kind (of
// an application, of its nodes) to hosts with few, as few nodes as that takes: no host has
// two more of a kind than another one that may have it. The nodes with the highest numbers
// move, to the host with the fewest nodes of all, of those to the first in the file. It is
// for hosts that come: Spread alone leaves them empty.
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
	return withKeepers(s, placed, kept), nil
}

// withKeepers adds the keepalived nodes, which follow the balancers.
func withKeepers(s stack.Stack, placed, kept Placement) Placement {
	balancers := of(nodes(s, Facts{Hosts: HostsOf(s), Placement: placed}), Balancer)
	for _, n := range keepers(s, kept, balancers) {
		placed[n.name] = n.host.Name
	}
	return placed
}

// group names the nodes that stand in for each other.
func (n node) group() string { return string(n.kind) + "/" + n.app }

// hosts are those of the stack file that may have a node.
func (n node) hosts(s stack.Stack) []stack.Host { return s.HostsFor(string(n.kind), n.app) }

// place is the host of the i-th node of a kind. Hosts that the stack file does not
// have, those of a drill, come without a placement: the nodes go round them.
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

// checkPlacement refuses one that does not say where a node runs.
func (f Facts) checkPlacement(list []node) error {
	if f.Placement == nil {
		return nil
	}
	for _, n := range list {
		if n.kind == Keepalived {
			continue // it is where a balancer is
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
