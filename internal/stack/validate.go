package stack

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/yamltree"
)

// validate checks the rules that concern several values at once. Each single value has been checked
// by its key.
func validate(r *reader, s Stack) {
	validateApps(r, s)
	validateRoutes(r, s)
	validateProgramRedis(r, s)
	validateEntries(r, s)
	validateTLS(r, s)
	validateProxyProtocol(r, s)
	validateRedis(r, s)
	validateBackup(r, s)
	validateMetrics(r, s)
	validatePorts(r, s)
	validateShares(r, s)
	validateHosts(r, s)
	validateVirtual(r, s)
}

func validateApps(r *reader, s Stack) {
	if len(s.Apps) == 0 && !r.faulty("apps") {
		r.Report(r.positionOf("apps"), "apps: there is none: add one, such as web: {kv: {}}, or remove the key for the default")
	}

	for _, name := range s.AppNames() {
		p := path("apps").key(name)
		if !r.has(p) {
			continue // the default application
		}
		if slices.Contains(reserved, name) {
			r.Report(r.keyPosition(p), "%s: the name %q is that of Holdfast's own nodes: choose another, such as web", p, name)
		} else if !nameRule.pattern.MatchString(name) {
			r.Report(r.keyPosition(p), "apps: %s is no name for an application: write %s", yamltree.Quoted(name), nameRule.what)
		}
		if r.faulty(p) {
			continue
		}
		kind, kinds := appKind(p, r.has, s.Apps[name])
		switch {
		case len(kinds) == 0 && r.strange[p]: // most likely a misspelt kind
		case len(kinds) == 0:
			r.Report(r.keyPosition(p), "%s does not say what runs: give it one of kv, files, command and servers", p)
		case kind == "":
			var words []string
			for _, k := range kinds {
				words = append(words, string(k))
			}
			slices.SortFunc(words, func(a, b string) int {
				if r.spots[p.key(a)].key.Before(r.spots[p.key(b)].key) {
					return -1
				}
				return 1
			})
			r.Report(r.keyPosition(p.key(words[1])), "%s is %s at once: keep one, and make another application of the other", p, yamltree.Listed(words, "and"))
		default:
			validateApp(r, p, kind, s.Apps[name])
		}
	}
}

func validateApp(r *reader, p path, kind Kind, a App) {
	for _, k := range appKeys {
		if !k.fits(kind) && r.has(p.key(k.name)) {
			var owners []string
			for _, o := range k.kinds {
				owners = append(owners, string(o))
			}
			why := fmt.Sprintf("only %s has it", yamltree.Listed(owners, "and"))
			if len(owners) > 1 {
				why = fmt.Sprintf("only %s have it", yamltree.Listed(owners, "and"))
			}
			r.Report(r.keyPosition(p.key(k.name)), "%s does not fit an application of kind %s: %s; remove it", p.key(k.name), kind, why)
		}
	}

	// Kubernetes takes the time that an image's program has to start from the file.
	if start := p.key("health").key("start"); kind == Servers && r.has(start) {
		r.Report(r.keyPosition(start), "%s does not fit an application of kind %s: somebody else starts its servers; remove it", start, kind)
	}
	if kind == Image {
		validateImage(r, p, a)
		return
	}

	if kind == Servers {
		seen := map[string]bool{}
		for i, address := range a.Servers {
			if seen[address] {
				at := r.positionOf(p.key("servers").item(i))
				r.Report(at, "%s: %s stands in the list already: remove one", p.key("servers"), address)
			}
			seen[address] = true
		}
		return
	}

	if kind == KV && a.KV != nil {
		validateKV(r, p.key("kv"), *a.KV)
	}

	tooMany(r, p.key("ports"), a.Ports, p.key("nodes"), a.Nodes, "nodes")
}

// validateProgramRedis reports a program's rights in a Redis that the stack does not have.
func validateProgramRedis(r *reader, s Stack) {
	for _, name := range s.AppNames() {
		at := path("apps").key(name).key("redis")
		if s.Apps[name].Kind().IsProgram() && r.has(at) && !s.Redis.Enabled && !r.faulty("redis/enabled") {
			r.Report(r.keyPosition(at), "%s: the stack has no Redis (redis.enabled is false): remove it", at)
		}
	}
}

// tooMany reports more ports than nodes.
func tooMany(r *reader, p path, ports []int, count path, nodes int, what string) {
	if len(ports) > nodes && !r.faulty(count) {
		if nodes == 1 {
			what = strings.TrimSuffix(what, "s")
		}
		r.Report(r.keyPosition(p), "%s has %d ports for %d %s: remove %d, or raise %s",
			p, len(ports), nodes, what, len(ports)-nodes, count)
	}
}

func validateRoutes(r *reader, s Stack) {
	names := s.AppNames()
	if r.faulty("routes") || len(names) == 0 {
		return
	}

	var byDefault yamltree.Pos
	settled := false
	for i, route := range s.Routes {
		p := path("routes").item(i)
		switch at := r.positionOf(p); {
		case !r.has(p): // filled in: the route of the only application
			settled = true
			continue
		case r.faulty(p):
			settled = true // it may have had no condition
			continue
		case r.hasCondition(p):
			validateStrip(r, p, route)
		case byDefault != yamltree.Pos{}:
			r.Report(at, "routes: a second route without a condition: the one on line %d takes every request that is left; give this one a condition, such as path-prefix or host, or remove it", byDefault.Line)
		default:
			byDefault, settled = at, true
			validateStrip(r, p, route)
		}
		validateTarget(r, p, "the route", route.App, names)
	}

	switch {
	case settled:
	case len(s.Routes) == 0:
		r.Report(r.keyPosition("apps"), "routes: there are %d applications (%s) and nothing says which gets a request: add routes, the last of them \"- app: %s\"", len(names), yamltree.Listed(names, "and"), names[0])
	default:
		r.Report(r.keyPosition("routes"), "routes: no route takes the requests that match none of them: add one without a condition, \"- app: %s\"", names[0])
	}
}

// validateTarget reports a route or a tcp entry whose application does not exist.
func validateTarget(r *reader, p path, what, app string, names []string) {
	at := p.key("app")
	candidates := yamltree.Listed(names, "or")
	switch {
	case r.faulty(at):
	case !r.has(at):
		r.Report(r.positionOf(p), "%s: %s leads to no application: add app: %s", p, what, candidates)
	case !slices.Contains(names, app):
		hint := didYouMean(app, names)
		if hint == "" {
			hint = ": write " + candidates
		}
		r.Report(r.positionOf(at), "%s: there is no application %q%s", at, app, hint)
	}
}

// validateEntries checks the addresses that clients use: that nothing without tokens is open to
// other machines unless the file allows it, that tcp entries lead to applications, and that no
// server is the entry itself.
func validateEntries(r *reader, s Stack) {
	open := func(listen path, address, auth string, p path, apps []string) {
		if r.faulty(listen) || r.faulty(p.key("auth")) || auth != "" || onLoopback(address) {
			return
		}
		_, port, _ := net.SplitHostPort(address)
		for _, name := range apps {
			switch a, there := s.Apps[name]; {
			case !there || r.faulty(path("apps").key(name)): // reported elsewhere
			case a.Kind() != KV:
				r.Report(r.positionOf(listen), "%s: %s can be reached from other machines, and %s asks nobody for a password: write 127.0.0.1:%s, or add \"auth: none\" beside it to let everybody in", listen, address, name, port)
				return
			case !a.KV.HasTokens():
				r.Report(r.positionOf(listen), "%s: %s can be reached from other machines, and %s asks nobody for a token: add tokens to apps.%s.kv, write 127.0.0.1:%s, or add \"auth: none\" beside it to let everybody in", listen, address, name, name, port)
				return
			}
		}
	}

	var routed []string
	for _, route := range s.Routes {
		routed = append(routed, route.App)
	}

	open("entry/listen", s.Entry.Listen, s.Entry.Auth, "entry", routed)
	names := s.AppNames()
	for i, e := range s.TCP {
		p := path("tcp").item(i)
		if r.faulty(p) {
			continue
		}
		if !r.has(p.key("listen")) {
			r.Report(r.positionOf(p), "%s: the entry has no address: add listen, such as 127.0.0.1:6302", p)
		} else {
			open(p.key("listen"), e.Listen, e.Auth, p, []string{e.App})
		}
		validateTarget(r, p, "the entry", e.App, names)
	}

	for _, name := range names {
		for i, address := range s.Apps[name].Servers {
			if address == s.Entry.Listen && !r.faulty("entry/listen") {
				p := path("apps").key(name).key("servers")
				r.Report(r.positionOf(p.item(i)), "%s: %s is the entry itself: requests would go round in a circle; write the server's own address", p, address)
			}
		}
	}
}

// validateMetrics reports metrics that other machines can read although the file does not allow it.
func validateMetrics(r *reader, s Stack) {
	m := s.Metrics
	if m.Listen == "" || m.Auth != "" || onLoopback(m.Listen) || r.faulty("metrics/listen") || r.faulty("metrics/auth") {
		return
	}
	_, port, _ := net.SplitHostPort(m.Listen)
	r.Report(r.positionOf("metrics/listen"), "metrics.listen: %s can be reached from other machines, and the metrics ask nobody for a password: write 127.0.0.1:%s, or add \"auth: none\" beside it to let everybody read them", m.Listen, port)
}

// onLoopback reports whether only this machine can reach an address. A name other than localhost
// may lead anywhere.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

func validateRedis(r *reader, s Stack) {
	tooMany(r, "redis/ports", s.Redis.Ports, "redis/replicas", s.Redis.Replicas+1, "nodes")
	tooMany(r, "redis/sentinel-ports", s.Redis.SentinelPorts, "redis/sentinels", s.Redis.Sentinels, "sentinels")
	if s.Redis.Enabled || r.faulty("redis/enabled") || !r.has("redis/enabled") {
		return
	}
	for _, name := range s.AppNames() {
		if s.Apps[name].Kind() == KV {
			r.Report(r.positionOf("redis/enabled"), "redis.enabled: apps.%s is a kv, which keeps its data in Redis: remove \"enabled: false\", or the application", name)
		}
	}
}

// claim is a port in use, and by what.
type claim struct {
	port  int
	host  string // host of an entry; empty: of a node, on loopback
	owner path
	at    yamltree.Pos
}

func validatePorts(r *reader, s Stack) {
	var claims []claim
	entry := func(p path, address string) {
		host, port, err := net.SplitHostPort(address)
		n, _ := strconv.Atoi(port)
		if err == nil && !r.faulty(p) {
			claims = append(claims, claim{n, host, p, r.spots[p].value})
		}
	}

	nodes := func(p path, ports []int) {
		for i, n := range ports {
			if n != 0 {
				claims = append(claims, claim{n, "", p, r.positionOf(p.item(i))})
			}
		}
	}

	entry("entry/listen", s.Entry.Listen)
	if redirect := s.Entry.TLS.Redirect; redirect != "" {
		entry("entry/tls/redirect", redirect)
	}

	for i, e := range s.TCP {
		entry(path("tcp").item(i).key("listen"), e.Listen)
	}

	if s.Metrics.Enabled && s.Metrics.Listen != "" {
		entry("metrics/listen", s.Metrics.Listen)
	}

	for _, name := range s.AppNames() {
		nodes(path("apps").key(name).key("ports"), s.Apps[name].Ports)
	}

	nodes("redis/ports", s.Redis.Ports)
	nodes("redis/sentinel-ports", s.Redis.SentinelPorts)
	if s.Redis.MasterPort != 0 {
		claims = append(claims, claim{s.Redis.MasterPort, "", "redis/master-port", r.positionOf("redis/master-port")})
	}

	// The default entry has no place in the file and comes first, so that the complaint is about
	// what the file has.
	slices.SortStableFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.at.Line, b.at.Line), cmp.Compare(a.at.Column, b.at.Column))
	})
	for i, c := range claims {
		for _, earlier := range claims[:i] {
			if c.port != earlier.port || !portsClash(c.host, earlier.host) {
				continue
			}
			where := fmt.Sprintf("%s on line %d", earlier.owner, earlier.at.Line)
			if earlier.at.Line == 0 {
				where = fmt.Sprintf("%s, %s by default", earlier.owner, s.Entry.Listen)
			}
			r.Report(c.at, "%s: the port %d is taken by %s: choose another", c.owner, c.port, where)
			break
		}
	}
}

// portsClash reports whether the same port at two hosts clashes. It does not if both are single
// addresses that differ.
func portsClash(a, b string) bool {
	one := func(host string) bool {
		addr, err := netip.ParseAddr(host)
		return err == nil && !addr.IsUnspecified()
	}
	return a == b || !one(a) || !one(b)
}

// advise warns of what is allowed but seldom meant.
func advise(r *reader, s Stack) {
	if s.Balancers == 1 {
		r.warn(r.positionOf("balancers"), "balancers: with one balancer nobody answers while it is away: write 2")
	}

	for i, proxy := range s.Entry.TrustedProxies {
		if network, err := netip.ParsePrefix(proxy); err == nil && network.Bits() == 0 {
			r.warn(r.positionOf(path("entry/trusted-proxies").item(i)), "entry.trusted-proxies: %s is every address: each client can say who it is; write those of your proxies", proxy)
		}
	}

	if redis := s.Redis; redis.Enabled {
		at := r.positionOf("redis/sentinels")
		switch n := redis.Sentinels; {
		case redis.Replicas == 0:
			r.warn(r.positionOf("redis/replicas"), "redis.replicas: without a replica there is no failover, and every write is on one node alone: write 2")
		case n == 0:
			r.warn(at, "redis.sentinels: no quorum: without Sentinels nobody fails over when the master dies; write 3")
		case n == 1:
			r.warn(at, "redis.sentinels: no quorum: one Sentinel decides alone, and nobody when it is away: write 3")
		case n < 3:
			r.warn(at, "redis.sentinels: no quorum when one of %d is away, and then no failover: write 3", n)
		case n%2 == 0:
			r.warn(at, "redis.sentinels: no quorum when %d Sentinels are split in halves, and they bear the loss of %d, as %d do: write %d", n, n/2-1, n-1, n+1)
		}
		if redis.Replicas == 1 {
			r.warn(r.positionOf("redis/replicas"), "redis.replicas: with one replica, writes wait while either Redis node is away: write 2")
		}
	}

	adviseRoutes(r, s)
	adviseTLS(r, s)
	adviseHosts(r, s)
	adviseVirtual(r, s)
	used := map[string]bool{}
	for _, route := range s.Routes {
		used[route.App] = true
	}

	for _, e := range s.TCP {
		used[e.App] = true
	}

	for _, name := range s.AppNames() {
		p := path("apps").key(name)
		if !used[name] {
			r.warn(r.keyPosition(p), "%s: no route and no tcp entry leads to it: add one, or remove the application", p)
		}
		if keep := p.key("keep-releases"); s.Apps[name].Release == "" && r.has(keep) {
			r.warn(r.keyPosition(keep), "%s: without release no copies are made: set %s as well", keep, p.key("release"))
		}
		if a := s.Apps[name]; a.Kind().IsProgram() {
			adviseProgram(r, p, s, a)
		}
		if host := p.key("health").key("host"); s.Apps[name].Health.Path == "" && r.has(host) {
			r.warn(r.keyPosition(host), "%s: without health.path no request is made that could have it: set %s as well", host, p.key("health").key("path"))
		}
		if kv := s.Apps[name].KV; kv != nil {
			adviseKV(r, p.key("kv"), kv.Limits, s.Redis)
		}
		if a := s.Apps[name]; a.Queue > 0 && a.Connections == 0 {
			r.warn(r.keyPosition(p.key("queue")), "%s: without connections nothing ever waits for a node: set %s as well", p.key("queue"), p.key("connections"))
		}
	}
}
