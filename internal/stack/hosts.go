package stack

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"holdfast/internal/yamltree"
)

// Host is a machine, a container or a pod that runs a part of the stack.
type Host struct {
	Name string `yaml:"-"`
	// Address is the IP address at which the other hosts reach its nodes.
	Address string `yaml:"address"`
	// Only are the kinds of node that it takes (NodeKinds); empty: all.
	Only []string `yaml:"only"`
	// Listen is the one of plan.Place. It cannot be set in a stack file.
	Listen string `yaml:"-"`
	// DisplayName is the one of plan.Place. It cannot be set in a stack file.
	DisplayName string `yaml:"-"`
}

// The kinds of node that a stack file can name. See plan.Kind for more about them.
const (
	OfBalancers = "balancer"
	OfApps      = "web"
	OfRedis     = "redis"
	OfSentinels = "sentinel"
)

// The values of Stack.Network.
const (
	Encrypted = "encrypted" // the nodes speak TLS
	Trusted   = "trusted"   // they use no TLS
)

// Encrypts reports whether the nodes of different hosts speak TLS with each other.
func (s Stack) Encrypts() bool { return s.Network == Encrypted }

// NodeKinds are all kinds of node that a stack file can name.
var NodeKinds = []string{OfBalancers, OfApps, OfRedis, OfSentinels}

// Takes reports whether a host may have nodes of a kind.
func (h Host) Takes(kind string) bool {
	return len(h.Only) == 0 || slices.Contains(h.Only, kind)
}

// HostNamesFor returns the hosts that the file names for nodes of a kind, and for OfApps for those
// of one application; empty: any host that takes them.
func (s Stack) HostNamesFor(kind, app string) []string {
	switch kind {
	case OfBalancers:
		return s.Entry.On
	case OfApps:
		return s.Apps[app].On
	case OfRedis:
		return s.Redis.On
	default:
		return s.Redis.SentinelsOn
	}
}

// hostNamesPath returns the path of the key that HostNamesFor reads in the file.
func hostNamesPath(kind, app string) path {
	return map[string]path{
		OfBalancers: "entry/on", OfApps: path("apps").key(app).key("on"),
		OfRedis: "redis/on", OfSentinels: "redis/sentinels-on",
	}[kind]
}

// HostsFor returns the hosts that may have nodes of a kind, and for OfApps those of one
// application, in the order of the file.
func (s Stack) HostsFor(kind, app string) []Host {
	on := s.HostNamesFor(kind, app)
	return slices.DeleteFunc(slices.Clone(s.Hosts), func(h Host) bool {
		return !h.Takes(kind) || len(on) > 0 && !slices.Contains(on, h.Name)
	})
}

// group is the nodes that are placed by one rule: those of one kind, or for OfApps of one
// application.
type group struct {
	kind, app string
	what      string // the nodes, in messages
}

// groups returns the groups that the stack has nodes of.
func (s Stack) groups() []group {
	all := []group{{OfBalancers, "", "balancers"}}
	for _, name := range s.AppNames() {
		if k := s.Apps[name].Kind(); k != "" && !k.Elsewhere() {
			all = append(all, group{OfApps, name, "nodes of " + name})
		}
	}
	if s.Redis.Enabled {
		all = append(all, group{OfRedis, "", "redis nodes"})
		if s.Redis.Sentinels > 0 {
			all = append(all, group{OfSentinels, "", "Sentinels"})
		}
	}
	return all
}

// hostNames returns the names of the hosts, in the order of the file.
func (s Stack) hostNames() (names []string) {
	for _, h := range s.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// OneMachine reports whether the hosts can only be reached from this machine: none has an address
// beyond loopback. It is true for a stack without hosts.
func (s Stack) OneMachine() bool {
	return !slices.ContainsFunc(s.Hosts, func(h Host) bool {
		a, err := netip.ParseAddr(h.Address)
		return err == nil && !a.IsLoopback()
	})
}

// validateHosts reports mistakes in the hosts, and nodes that no host may have.
func validateHosts(r *reader, s Stack) {
	validateAddresses(r, s)
	// In Kubernetes the pods are the hosts, and the file does not name them.
	if s.Network == Encrypted && len(s.Hosts) == 0 && !r.faulty("hosts") && !r.faulty("network") {
		r.Report(r.keyPosition("network"), "network: the file has no hosts, and so no network between them: add hosts, or remove the key (in Kubernetes the network is encrypted without it)")
	}
	for _, g := range s.groups() {
		validateOn(r, s, g)
	}
	if s.OneMachine() || !s.Entry.OnLoopback() || s.Entry.Auth != "" || r.faulty("entry/listen") || r.faulty("entry/auth") {
		return // validateEntries checks an entry that other machines can reach
	}
	for _, name := range s.AppNames() {
		a := s.Apps[name]
		if k := a.Kind(); k == "" || k.Elsewhere() || k == KV && a.KV.HasTokens() || r.faulty(path("apps").key(name)) {
			continue
		}
		secret, remedy := "password", "add \"auth: none\" below entry to let everybody in"
		if a.Kind() == KV {
			secret, remedy = "token", fmt.Sprintf("add tokens to apps.%s.kv, or %s", name, remedy)
		}
		r.Report(r.keyPosition("hosts"), "hosts: other machines reach the nodes of %s at the hosts' addresses, and %s asks nobody for a %s: %s", name, name, secret, remedy)
		return
	}
}

// validateAddresses reports hosts without an address, and hosts with the address of another host.
func validateAddresses(r *reader, s Stack) {
	owners := map[string]string{}
	for _, h := range s.Hosts {
		p := path("hosts").key(h.Name)
		at := p.key("address")
		switch owner := owners[h.Address]; {
		case r.faulty(p) || r.faulty(at):
		case !nameRule.pattern.MatchString(h.Name):
			r.Report(r.keyPosition(p), "hosts: %s is no name for a host: write %s", yamltree.Quoted(h.Name), nameRule.what)
		case h.Address == "":
			r.Report(r.keyPosition(p), "%s: the host has no address: add address, such as 198.18.7.1", p)
		case owner != "":
			r.Report(r.positionOf(at), "%s: %s is the address of %s as well: each host has one of its own", at, h.Address, owner)
		default:
			owners[h.Address] = h.Name
		}
	}
}

// validateOn reports where the hosts that are named for nodes do not exist, or no host may have the
// nodes.
func validateOn(r *reader, s Stack, g group) {
	p := hostNamesPath(g.kind, g.app)
	if r.faulty("hosts") || r.faulty(p) {
		return
	}

	names := s.hostNames()
	said := false
	seen := map[string]bool{}
	for i, name := range s.HostNamesFor(g.kind, g.app) {
		at := r.positionOf(p.item(i))
		n := slices.Index(names, name)
		switch {
		case len(names) == 0:
			r.Report(r.keyPosition(p), "%s: the file has no hosts: add hosts, or remove the key", p)
			return
		case n < 0:
			hint := didYouMean(name, names)
			if hint == "" {
				hint = ": write " + yamltree.Listed(names, "or")
			}
			r.Report(at, "%s: there is no host %q%s", p, name, hint)
		case seen[name]:
			r.Report(at, "%s: %s stands in the list already: remove one", p, name)
		case !s.Hosts[n].Takes(g.kind):
			r.Report(at, "%s: %s takes no %s (hosts.%s.only): write another host, or add %s there", p, name, g.what, name, g.kind)
		default:
			seen[name] = true
			continue
		}
		said = true
	}

	if len(names) > 0 && !said && len(s.HostsFor(g.kind, g.app)) == 0 {
		r.Report(r.keyPosition("hosts"), "hosts: no host may have the %s: add %s to the only of one, or remove its only", g.what, g.kind)
	}
}

// adviseHosts warns of addresses that some of the other hosts or clients cannot reach.
func adviseHosts(r *reader, s Stack) {
	if len(s.Hosts) < 2 || s.OneMachine() {
		return
	}
	for _, h := range s.Hosts {
		if a, err := netip.ParseAddr(h.Address); err == nil && a.IsLoopback() {
			at := path("hosts").key(h.Name).key("address")
			r.warn(r.positionOf(at), "%s: %s is each machine to itself: the other hosts do not reach %s there; write the address that they reach", at, h.Address, h.Name)
		}
	}
	for _, name := range s.AppNames() {
		if k := s.Apps[name].Kind(); s.Encrypts() && (k == Command || k == Files) && len(s.HostsFor(OfApps, name)) > 0 {
			r.warn(r.keyPosition(path("apps").key(name)), "apps.%s: its nodes speak plain HTTP or TCP with the balancers of other hosts, although the network is encrypted: have the network between the hosts be one that nobody else hears", name)
		}
	}
	at := r.positionOf("entry/listen")
	if !r.has("entry/listen") {
		at = r.keyPosition("hosts")
	}
	host, port := splitListen(s.Entry.Listen)
	if s.Entry.OnLoopback() {
		r.warn(at, "entry.listen: %s is reached on each host alone: write 0.0.0.0:%s for clients elsewhere", s.Entry.Listen, port)
		return
	}
	for _, h := range s.Hosts {
		if others := s.HostsFor(OfBalancers, ""); h.Address == host && (len(others) > 1 || len(others) == 1 && others[0].Name != h.Name) {
			r.warn(at, "entry.listen: only %s has the address %s, and no balancer elsewhere can listen there: write 0.0.0.0:%s, or entry.on: [%s]", h.Name, host, port, h.Name)
		}
	}
}

// splitListen returns the two parts of a host:port, or "" for both if it is invalid.
func splitListen(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

// OnlyOn returns the stack with this host as its only one, which has all of the nodes. A stack of
// one machine takes this form on its way to several hosts; it gets its virtual address with them.
func (s Stack) OnlyOn(h Host) Stack {
	h.Only = nil
	s.Hosts = []Host{h}
	s.Entry.On, s.Entry.Virtual = nil, Virtual{}
	s.Redis.On, s.Redis.SentinelsOn = nil, nil
	s.Apps = maps.Clone(s.Apps)
	for name, app := range s.Apps {
		app.On = nil
		s.Apps[name] = app
	}
	return s
}

// Without returns the stack without a host. It removes the name from every list of hosts, too.
func (s Stack) Without(host string) Stack {
	but := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == host })
	}
	s.Hosts = slices.DeleteFunc(slices.Clone(s.Hosts), func(h Host) bool { return h.Name == host })
	s.Entry.On, s.Redis.On, s.Redis.SentinelsOn = but(s.Entry.On), but(s.Redis.On), but(s.Redis.SentinelsOn)
	s.Apps = maps.Clone(s.Apps)
	for name, app := range s.Apps {
		app.On = but(app.On)
		s.Apps[name] = app
	}
	return s
}
