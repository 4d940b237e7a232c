package stack

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
)

// Host is a machine, a container or a pod that runs a part of the stack.
type Host struct {
	Name string `yaml:"-"`
	// Address is the IP address at which the other hosts reach its nodes.
	Address string `yaml:"address"`
	// Only are the kinds of node that it takes (NodeKinds); none: all.
	Only []string `yaml:"only"`
	// Listen is as in plan.Place. No stack file has it.
	Listen string `yaml:"-"`
	// Shown is likewise as in plan.Place.
	Shown string `yaml:"-"`
}

// The kinds of node, as the stack file names them. Package plan has more to say of
// each.
const (
	OfBalancers = "balancer"
	OfApps      = "web"
	OfRedis     = "redis"
	OfSentinels = "sentinel"
)

// What Stack.Network may be.
const (
	Encrypted = "encrypted" // the nodes speak TLS
	Trusted   = "trusted"   // they speak in plain
)

// Encrypts reports whether the nodes of different hosts speak TLS with each other.
func (s Stack) Encrypts() bool { return s.Network == Encrypted }

// NodeKinds are all kinds of node.
var NodeKinds = []string{OfBalancers, OfApps, OfRedis, OfSentinels}

// Takes reports whether a host may have nodes of a kind.
func (h Host) Takes(kind string) bool {
	return len(h.Only) == 0 || slices.Contains(h.Only, kind)
}

// On are the hosts that the file names for nodes of a kind, and for kind OfApps of an
// application; none: any host that takes them.
func (s Stack) On(kind, app string) []string {
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

// onPath is where On stands in the file.
func onPath(kind, app string) path {
	return map[string]path{
		OfBalancers: "entry/on", OfApps: path("apps").key(app).key("on"),
		OfRedis: "redis/on", OfSentinels: "redis/sentinels-on",
	}[kind]
}

// HostsFor are the hosts that may have nodes of a kind, and for kind OfApps of an
// application, in the order of the file.
func (s Stack) HostsFor(kind, app string) []Host {
	on := s.On(kind, app)
	return slices.DeleteFunc(slices.Clone(s.Hosts), func(h Host) bool {
		return !h.Takes(kind) || len(on) > 0 && !slices.Contains(on, h.Name)
	})
}

// group are the nodes that are placed by one rule: of one kind, and of one application.
type group struct {
	kind, app string
	what      string // its nodes, for people
}

// groups are those of which the stack has nodes.
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

// hostNames are the names of the hosts, in the order of the file.
func (s Stack) hostNames() (names []string) {
	for _, h := range s.Hosts {
		names = append(names, h.Name)
	}
	return names
}

// OneMachine reports whether only the machine itself reaches the hosts: none has an
// address beyond loopback.
func (s Stack) OneMachine() bool {
	return !slices.ContainsFunc(s.Hosts, func(h Host) bool {
		a, err := netip.ParseAddr(h.Address)
		return err == nil && !a.IsLoopback()
	})
}

// validateHosts complains of hosts that cannot be, and of nodes that no host may have.
func validateHosts(r *reader, s Stack) {
	validateAddresses(r, s)
	// In Kubernetes the pods are the hosts, and no file names them.
	if s.Network == Encrypted && len(s.Hosts) == 0 && !r.faulty("hosts") && !r.faulty("network") {
		r.complain(r.keyAt("network"), "network: the file has no hosts, and so no network between them: add hosts, or remove the key (in Kubernetes the network is encrypted without it)")
	}
	for _, g := range s.groups() {
		validateOn(r, s, g)
	}
	if s.OneMachine() || !s.Entry.OnLoopback() || s.Entry.Auth != "" || r.faulty("entry/listen") || r.faulty("entry/auth") {
		return // validateEntries looks at an entry that others reach
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
		r.complain(r.keyAt("hosts"), "hosts: other machines reach the nodes of %s at the hosts' addresses, and %s asks nobody for a %s: %s", name, name, secret, remedy)
		return
	}
}

// validateAddresses complains of hosts without an address, or with one that another
// has.
func validateAddresses(r *reader, s Stack) {
	owners := map[string]string{}
	for _, h := range s.Hosts {
		p := path("hosts").key(h.Name)
		at := p.key("address")
		switch owner := owners[h.Address]; {
		case r.faulty(p) || r.faulty(at):
		case !nameRule.pattern.MatchString(h.Name):
			r.complain(r.keyAt(p), "hosts: %s is no name for a host: write %s", quoted(h.Name), nameRule.what)
		case h.Address == "":
			r.complain(r.keyAt(p), "%s: the host has no address: add address, such as 198.18.7.1", p)
		case owner != "":
			r.complain(r.near(at), "%s: %s is the address of %s as well: each host has one of its own", at, h.Address, owner)
		default:
			owners[h.Address] = h.Name
		}
	}
}

// validateOn complains where the hosts that are named for nodes, or that may have them,
// are not there.
func validateOn(r *reader, s Stack, g group) {
	p := onPath(g.kind, g.app)
	if r.faulty("hosts") || r.faulty(p) {
		return
	}
	names := s.hostNames()
	said := false
	seen := map[string]bool{}
	for i, name := range s.On(g.kind, g.app) {
		at := r.near(p.item(i))
		n := slices.Index(names, name)
		switch {
		case len(names) == 0:
			r.complain(r.keyAt(p), "%s: the file has no hosts: add hosts, or remove the key", p)
			return
		case n < 0:
			hint := didYouMean(name, names)
			if hint == "" {
				hint = ": write " + listed(names, "or")
			}
			r.complain(at, "%s: there is no host %q%s", p, name, hint)
		case seen[name]:
			r.complain(at, "%s: %s stands in the list already: remove one", p, name)
		case !s.Hosts[n].Takes(g.kind):
			r.complain(at, "%s: %s takes no %s (hosts.%s.only): write another host, or add %s there", p, name, g.what, name, g.kind)
		default:
			seen[name] = true
			continue
		}
		said = true
	}
	if len(names) > 0 && !said && len(s.HostsFor(g.kind, g.app)) == 0 {
		r.complain(r.keyAt("hosts"), "hosts: no host may have the %s: add %s to the only of one, or remove its only", g.what, g.kind)
	}
}

// adviseHosts warns of addresses that not everybody reaches who has to.
func adviseHosts(r *reader, s Stack) {
	if len(s.Hosts) < 2 || s.OneMachine() {
		return
	}
	for _, h := range s.Hosts {
		if a, err := netip.ParseAddr(h.Address); err == nil && a.IsLoopback() {
			at := path("hosts").key(h.Name).key("address")
			r.warn(r.near(at), "%s: %s is each machine to itself: the other hosts do not reach %s there; write the address that they reach", at, h.Address, h.Name)
		}
	}
	for _, name := range s.AppNames() {
		if k := s.Apps[name].Kind(); s.Encrypts() && (k == Command || k == Files) && len(s.HostsFor(OfApps, name)) > 0 {
			r.warn(r.keyAt(path("apps").key(name)), "apps.%s: its nodes speak plain HTTP or TCP with the balancers of other hosts, although the network is encrypted: have the network between the hosts be one that nobody else hears", name)
		}
	}
	at := r.near("entry/listen")
	if !r.has("entry/listen") {
		at = r.keyAt("hosts")
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

// splitListen are the two parts of a host:port.
func splitListen(address string) (host, port string) {
	host, port, _ = net.SplitHostPort(address)
	return host, port
}

// OnlyOn is the stack with one host alone, which has all of its nodes. It is what a stack of
// one machine is on the way to one of several hosts. The virtual address comes with them.
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

// Without is the stack without a host: neither its hosts nor the lists of them name it.
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
