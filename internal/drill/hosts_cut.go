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

// drop is a direction in which nothing passes any more: from a host, or the
// clients, to another.
type drop struct{ from, to string }

func (d drop) String() string { return d.from + " to " + d.to }

// both are the directions between two sides; the sides may be of several.
func both(some, others []string) []drop {
	return slices.Concat(oneWay(some, others), oneWay(others, some))
}

// oneWay are the directions from some to others.
func oneWay(some, others []string) []drop {
	var all []drop
	for _, a := range some {
		for _, b := range others {
			all = append(all, drop{a, b})
		}
	}
	return all
}

// hostNames are the names of hosts.
func hostNames(some ...host) []string {
	var all []string
	for _, one := range some {
		all = append(all, one.name)
	}
	return all
}

// port is where a host, or this machine, is plugged in.
func (h *hosts) port(name string) string {
	for _, one := range h.all {
		if one.name == name {
			return one.port
		}
	}
	return clientsPort
}

// cutRules are the commands of nft(8) that drop what goes in some directions,
// of connections that there are as of new ones, and count it. What is no IP
// passes: the address of a host that cannot be reached stays known (ARP), so
// that packets to it vanish, as behind a router, and are not refused. Not so the
// virtual addresses: a host that is cut off keeps its address, and would win it
// again and again by ARP from the one that can be reached.
func (h *hosts) cutRules(drops []drop) string {
	var text strings.Builder
	text.WriteString("add table bridge cut\nadd chain bridge cut forward { type filter hook forward priority 0; }\n")
	for _, d := range drops {
		way := fmt.Sprintf("add rule bridge cut forward iifname %q oifname %q", h.port(d.from), h.port(d.to))
		fmt.Fprintf(&text, "%s ether type ip counter drop comment %q\n", way, d)
		fmt.Fprintf(&text, "%s arp saddr ip %s drop\n", way, h.virtual())
	}
	return text.String()
}

// virtual is where the virtual addresses of a drill's network are.
func (h *hosts) virtual() netip.Prefix {
	first := h.machine.As4()
	first[3] = virtualNumber
	return netip.PrefixFrom(netip.AddrFrom4(first), 28)
}

// uncut is the step that lets everything pass again.
func (h *hosts) uncut() step {
	return step{
		Why: "the cut between the hosts", Command: []string{"ip", "netns", "exec", h.bridge, "nft", "-f", "-"},
		// Deleting what is not there is an error; adding what is there is none.
		Input:  "add table bridge cut\ndelete table bridge cut\n",
		Unless: netnsDir + "/" + h.bridge,
	}
}

// dropped counts the packets that the cut has stopped, by direction.
func (h *hosts) dropped(ctx context.Context) (map[string]int, error) {
	text, err := output(ctx, "", "ip", "netns", "exec", h.bridge, "nft", "-j", "list", "table", "bridge", "cut")
	if err != nil {
		return nil, err
	}
	return isolate.ParseCounters(text)
}

// isRefused reports whether somebody was there and refused a connection.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
