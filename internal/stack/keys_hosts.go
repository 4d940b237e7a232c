package stack

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"holdfast/internal/yamltree"
)

// The keys of a host, and those that name the hosts of nodes.

var hostKeys = []key[Host]{
	textKey("address", hostAddressRule, func(h *Host) *string { return &h.Address },
		"The IP address at which the other hosts reach this one."),
	textsKey("only", oneOf(NodeKinds...), false, func(h *Host) *[]string { return &h.Only },
		"The kinds of node that the host takes: balancer, web (the applications), redis, sentinel. [sentinel] makes it a witness: it has a vote, and no data. Default: all."),
}

var (
	hostAddressRule = rule{
		what:    "an IP address, such as 198.18.7.1",
		pattern: regexp.MustCompile(`^[0-9A-Fa-f:.]+$`),
		check:   checkHostAddress,
	}
	networkRule = oneOf(Encrypted, Trusted)
	// validate checks whether the host exists.
	onRule = rule{what: "the name of a host", check: func(s string) string {
		return checkPrintable(s, "the name of a host")
	}}
)

// checkHostAddress returns what is wrong with an address that other hosts cannot use, or "".
func checkHostAddress(s string) string {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		if port, err := netip.ParseAddrPort(s); err == nil {
			return fmt.Sprintf("%s has a port: write the address alone, %s", yamltree.Quoted(s), port.Addr())
		}
		if _, err := netip.ParsePrefix(s); err == nil {
			return fmt.Sprintf("%s is a network: write the address alone, such as 198.18.7.1", yamltree.Quoted(s))
		}
		// A name that does not resolve while a host is lost would stop the failover.
		return fmt.Sprintf("%s is no IP address: write one such as 198.18.7.1; a name may not resolve when it matters", yamltree.Quoted(s))
	case a.Zone() != "":
		return fmt.Sprintf("%s has a zone, which other hosts do not know: write an address that all of them reach", yamltree.Quoted(s))
	case a.IsUnspecified(), a.IsMulticast():
		return fmt.Sprintf("%s is the address of no single host: write one such as 198.18.7.1", yamltree.Quoted(s))
	case a.Unmap().String() != s:
		return fmt.Sprintf("%s is written %s: write it so", yamltree.Quoted(s), a.Unmap())
	}
	return ""
}

// onKey returns the key of a list of hosts.
func onKey[T any](name string, at func(*T) *[]string, what string) key[T] {
	return textsKey(name, onRule, false, at,
		"The hosts that "+what+" run on, such as [one, two]. Default: every host that takes them.")
}

// hostsKey is the hosts by name. Their order matters.
func hostsKey() key[Stack] {
	return key[Stack]{
		name: "hosts",
		doc:  "The machines that the stack runs on, by name; without it, this one alone. The nodes of each kind are spread over them. 'config check' says what the loss of each would end.",
		read: func(r *reader, p path, n *yamltree.Node, s *Stack) {
			named, ok := r.readNames(p, n, "hosts by name, such as one, and below each its address")
			if !ok {
				return
			}
			s.Hosts = nil
			for _, e := range named {
				h := Host{Name: e.Key}
				readKeys(r, p.key(e.Key), e.Value, hostKeys, &h)
				s.Hosts = append(s.Hosts, h)
			}
		},
		show: func(s *Stack) any {
			if len(s.Hosts) == 0 {
				return nil
			}
			out := mapping{}
			for _, h := range slices.Clone(s.Hosts) {
				out = append(out, pair{h.Name, "", showKeys(hostKeys, &h)})
			}
			return out
		},
		schema: func() schema {
			host := objectSchema(hostKeys)
			host["required"] = []any{"address"}
			return schema{
				"type":                 []any{"object", "null"},
				"propertyNames":        schema{"pattern": nameRule.pattern.String()},
				"additionalProperties": host,
			}
		},
	}
}
