package drill

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"holdfast/internal/isolate"
)

// drop is one direction in which no packet passes: from a host, or the clients, to another.
type drop struct{ from, to string }

func (d drop) String() string { return d.from + " to " + d.to }

// both returns the directions between two sides, each of which may have several members.
func both(some, others []string) []drop {
	return slices.Concat(oneWay(some, others), oneWay(others, some))
}

// oneWay returns the directions from some to others.
func oneWay(some, others []string) []drop {
	var all []drop
	for _, a := range some {
		for _, b := range others {
			all = append(all, drop{a, b})
		}
	}
	return all
}

// hostNames returns the names of hosts.
func hostNames(some ...host) []string {
	var all []string
	for _, one := range some {
		all = append(all, one.name)
	}
	return all
}

// port returns the bridge port of a host, or of this machine.
func (h *hosts) port(name string) string {
	for _, one := range h.all {
		if one.name == name {
			return one.port
		}
	}
	return clientsPort
}

// cutRules returns the commands of nft(8) that drop and count all IP packets in some directions, of
// existing connections as of new ones.
//
// Other packets pass. So the hardware address of a host that cannot be reached stays known (ARP),
// and packets to it vanish, as behind a router, instead of being refused. ARP packets from virtual
// addresses are dropped as well: a host that is cut off keeps its virtual address, and would take
// it over again and again from the host that can be reached.
func (h *hosts) cutRules(drops []drop) string {
	var text strings.Builder
	text.WriteString("add table bridge cut\nadd chain bridge cut forward { type filter hook forward priority 0; }\n")
	for _, d := range drops {
		way := fmt.Sprintf("add rule bridge cut forward iifname %q oifname %q", h.port(d.from), h.port(d.to))
		fmt.Fprintf(&text, "%s ether type ip counter drop comment %q\n", way, d)
		fmt.Fprintf(&text, "%s arp saddr ip %s drop\n", way, h.virtualRange())
	}
	return text.String()
}

// virtualRange returns the range of the virtual addresses in a drill's network.
func (h *hosts) virtualRange() netip.Prefix {
	first := h.machine.As4()
	first[3] = virtualNumber
	return netip.PrefixFrom(netip.AddrFrom4(first), 28)
}

// uncutStep returns the step that lets everything pass again.
func (h *hosts) uncutStep() step {
	return step{
		Why: "the cut between the hosts", Command: []string{"ip", "netns", "exec", h.bridge, "nft", "-f", "-"},
		// Deleting a table that is missing is an error, and adding one that exists is not.
		Input:  "add table bridge cut\ndelete table bridge cut\n",
		Unless: netnsDir + "/" + h.bridge,
	}
}

// dropped returns how many packets the cut has stopped, by direction.
func (h *hosts) dropped(ctx context.Context) (map[string]int, error) {
	text, err := output(ctx, "", "ip", "netns", "exec", h.bridge, "nft", "-j", "list", "table", "bridge", "cut")
	if err != nil {
		return nil, err
	}
	return isolate.ParseCounters(text)
}

// isRefused reports whether an error is a refused connection: the host is there, and no process
// listens.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
