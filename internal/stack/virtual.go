package stack

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"holdfast/internal/yamltree"
)

// Virtual is one or two addresses that belong to one host of the stack at a time. An address moves
// to another host when the balancers of the first no longer serve (VRRP).
type Virtual struct {
	// Addresses are the addresses with the length of their network, such as 198.18.7.100/24; empty:
	// the stack has no virtual address.
	Addresses []string `yaml:"address"`
	// Interface is the network interface that gets them; empty: on each host the interface with the
	// host's own address.
	Interface string `yaml:"interface"`
	// Advertise is the time between two messages of the host that has an address. Another host
	// takes the address when three messages are missing.
	Advertise time.Duration `yaml:"advertise"`
	// Router is the virtual router id of the first address in VRRP. The second address has the next
	// id.
	Router int `yaml:"router"`
}

// Limits of VRRP version 3 (RFC 5798), and sensible limits of our own.
const (
	maxVirtual    = 2
	leastAdvert   = 100 * time.Millisecond
	mostAdvert    = 10 * time.Second
	advertStep    = 10 * time.Millisecond // VRRP sends the time in hundredths of a second
	defaultAdvert = 300 * time.Millisecond
	defaultRouter = 51
	maxRouter     = 255
)

// Enabled reports whether the stack has a virtual address.
func (v Virtual) Enabled() bool { return len(v.Addresses) > 0 }

// Bare returns the addresses without the length of their networks.
func (v Virtual) Bare() (all []string) {
	for _, a := range v.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil {
			all = append(all, p.Addr().String())
		}
	}
	return all
}

var virtualKeys = []key[Virtual]{
	textsKey("address", virtualRule, false, func(v *Virtual) *[]string { return &v.Addresses },
		"The address with the length of its network, such as 198.18.7.100/24. With two, each host prefers another one, so that the balancers of both serve."),
	textKey("interface", interfaceRule, func(v *Virtual) *string { return &v.Interface },
		"The network interface that gets the address. Default: on each host, the one that has the host's own address."),
	advertiseKey(),
	numberKey("router", 1, maxRouter, func(v *Virtual) *int { return &v.Router },
		"The number of the address in VRRP (virtual router id), which no other VRRP in the same network may have; a second address has the next one. Default: 51."),
}

// virtualKey is a section that Show leaves out without a virtual address.
func virtualKey() key[Entry] {
	k := sectionKey("virtual", virtualKeys, func(e *Entry) *Virtual { return &e.Virtual },
		"An address that moves between the hosts, by keepalived (VRRP): the host that has it is one whose balancers serve. Needs hosts, and on them keepalived and the right to set addresses. Default: none.")
	show := k.show
	k.show = func(e *Entry) any {
		if !e.Virtual.Enabled() {
			return nil
		}
		return show(e)
	}
	return k
}

// advertiseKey is a time with bounds at both ends.
func advertiseKey() key[Virtual] {
	k := durationKey("advertise", leastAdvert, func(v *Virtual) *time.Duration { return &v.Advertise },
		"The time between two messages of the host that has the address; when three are missing another host takes it. 1s suits machines that stall now and then. Default: 300ms.")
	read := k.read
	k.read = func(r *reader, p path, n *yamltree.Node, v *Virtual) {
		switch read(r, p, n, v); {
		case r.faulty(p):
		case v.Advertise > mostAdvert:
			r.ReportOnce(n.Pos, "%s is %s: write %s or less", p, n.Text, shortDuration(mostAdvert))
		case v.Advertise%advertStep != 0:
			r.ReportOnce(n.Pos, "%s is %s: VRRP counts hundredths of a second: write %s", p, n.Text, shortDuration(v.Advertise.Round(advertStep)))
		}
	}
	return k
}

var (
	virtualRule = rule{
		what:    "an address with the length of its network, such as 198.18.7.100/24",
		pattern: regexp.MustCompile(`^[0-9A-Fa-f:.]+/[0-9]{1,3}$`),
		check:   checkVirtual,
	}
	interfaceRule = rule{
		what: "the name of a network interface, such as eth0",
		// The kernel allows 15 bytes. keepalived's configuration allows no quotes and the like.
		pattern: regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,14}$`),
	}
)

// checkVirtual returns what is wrong with an address that a host could not have besides its own, or
// "".
func checkVirtual(s string) string {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil {
			return fmt.Sprintf("%s lacks the length of its network: write it as its hosts have theirs, such as %s/24", yamltree.Quoted(s), a)
		}
		return fmt.Sprintf("%s is no address with the length of its network: write one such as 198.18.7.100/24", yamltree.Quoted(s))
	}
	switch a := p.Addr(); {
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback():
		return fmt.Sprintf("%s is no address that other machines could reach: write one such as 198.18.7.100/24", yamltree.Quoted(s))
	case p.Bits() == 0:
		return fmt.Sprintf("%s is in a network of all addresses: write the length of the hosts' network, such as %s/24", yamltree.Quoted(s), a)
	case a == p.Masked().Addr() && !p.IsSingleIP() && p.Bits() < a.BitLen()-1:
		return fmt.Sprintf("%s is a network: write an address of it that nobody has", yamltree.Quoted(s))
	case p.String() != s || a.Is4In6():
		return fmt.Sprintf("%s is written %s: write it so", yamltree.Quoted(s), netip.PrefixFrom(a.Unmap(), p.Bits()))
	}
	return ""
}

// fillVirtual sets the defaults of a virtual address.
func fillVirtual(v *Virtual, has func(path) bool) {
	if !v.Enabled() {
		return
	}
	if !has("entry/virtual/advertise") {
		v.Advertise = defaultAdvert
	}
	if !has("entry/virtual/router") {
		v.Router = defaultRouter
	}
}

// validateVirtual checks the virtual address against the hosts and the entry.
func validateVirtual(r *reader, s Stack) {
	const p = path("entry/virtual")
	v := s.Entry.Virtual
	if !r.has(p) || r.faulty(p) {
		return
	}
	if !v.Enabled() {
		if !r.has(p.key("address")) {
			r.Report(r.keyPosition(p), "%s: there is no address: add address, such as 198.18.7.100/24", p)
		}
		return
	}
	if len(s.Hosts) == 0 && !r.faulty("hosts") {
		r.Report(r.keyPosition(p), "%s: a virtual address needs hosts, between which it moves: add hosts, or remove the key", p)
		return
	}
	if len(v.Addresses) > maxVirtual {
		r.Report(r.positionOf(p.key("address").item(maxVirtual)), "%s has %d addresses: write one, or two so that two hosts serve", p.key("address"), len(v.Addresses))
		return
	}
	if last := v.Router + len(v.Addresses) - 1; last > maxRouter {
		r.Report(r.positionOf(p.key("router")), "%s is %d, and the second address would be %d: write %d or less", p.key("router"), v.Router, last, maxRouter+1-len(v.Addresses))
	}

	for i := range v.Addresses {
		validateVirtualAddress(r, s, i)
	}

	if host, port := splitListen(s.Entry.Listen); !r.faulty("entry/listen") && !everyAddress(host) {
		at := r.positionOf("entry/listen")
		if !r.has("entry/listen") {
			at = r.keyPosition(p)
		}
		r.Report(at, "entry.listen: %s is one address, and the balancers have to answer at the virtual one as well: write 0.0.0.0:%s", s.Entry.Listen, port)
	}
}

// validateVirtualAddress checks one virtual address against those of the hosts.
func validateVirtualAddress(r *reader, s Stack, i int) {
	const list = path("entry/virtual/address")
	at := r.positionOf(list.item(i))
	if r.faulty(list.item(i)) {
		return
	}
	text := s.Entry.Virtual.Addresses[i]
	address, err := netip.ParsePrefix(text)
	if err != nil {
		return // reported already
	}
	for _, earlier := range s.Entry.Virtual.Addresses[:i] {
		if other, err := netip.ParsePrefix(earlier); err == nil && other.Addr() == address.Addr() {
			r.Report(at, "%s: %s stands in the list already: remove one", list, address.Addr())
		}
	}
	for _, h := range s.Hosts {
		if h.Address == address.Addr().String() {
			r.Report(at, "%s: %s is the address of the host %s, and stays there: write one that nobody has", list, h.Address, h.Name)
		}
	}
	for _, h := range s.HostsFor(OfBalancers, "") {
		if host, err := netip.ParseAddr(h.Address); err == nil && host.Is4() != address.Addr().Is4() {
			r.Report(at, "%s: %s and the address of the host %s, %s, are not of one version of IP, and VRRP needs that: write another one", list, address.Addr(), h.Name, host)
			return
		}
	}
}

// adviseVirtual warns of a virtual address that could not move, or not be reached.
func adviseVirtual(r *reader, s Stack) {
	const p = path("entry/virtual")
	if !s.Entry.Virtual.Enabled() {
		return
	}
	hosts := s.HostsFor(OfBalancers, "")
	if len(hosts) > s.Balancers {
		hosts = hosts[:max(s.Balancers, 0)]
	}
	if len(hosts) == 1 {
		r.warn(r.keyPosition(p), "%s: only %s has balancers, and the address cannot move: have balancers on two hosts", p, hosts[0].Name)
	}
	for i, text := range s.Entry.Virtual.Addresses {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		if outside := slices.IndexFunc(hosts, func(h Host) bool {
			a, err := netip.ParseAddr(h.Address)
			return err == nil && !network.Contains(a)
		}); outside >= 0 {
			r.warn(r.positionOf(p.key("address").item(i)), "%s: the address of the host %s, %s, is not in the network of %s, and nobody may find it there: write one of the hosts' network, with its length", p.key("address"), hosts[outside].Name, hosts[outside].Address, text)
		}
	}
}

// everyAddress reports whether the host of an address to listen on stands for every address.
func everyAddress(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || host == "*" || err == nil && a.IsUnspecified()
}
