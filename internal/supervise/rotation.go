package supervise

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/servers"
)

// The balancers have health checks of their own, and decide where requests go. This file looks
// at what they have found, so that the stack is not reported ready while its clients get 503.

// leastRotation is the least time that the balancers get to see what the supervisor sees.
const leastRotation = 5 * time.Second

// rotationLimit returns how long that may take; it is longer if they check rarely.
func (s *Supervisor) rotationLimit() time.Duration {
	return max(leastRotation, plan.CheckedWithin(s.stack()))
}

// rotationEvery is how often the balancers are asked, and rotationTimeout how long one may take
// to respond.
const (
	rotationEvery   = 500 * time.Millisecond
	rotationTimeout = time.Second
)

// Unserved is an application for which a balancer has no usable server, so that it answers the
// application's requests with 503.
type Unserved struct {
	App      string `json:"app"`
	Balancer string `json:"balancer"`
	// Why is the balancer's view of the application's servers.
	Why string `json:"why"`
}

// rotation is the balancers' view of the applications' servers.
type rotation struct {
	// out has, by node, the reason why some balancer sends the node no requests.
	out      map[string]string
	unserved []Unserved
	// pending is true while a balancer has not yet checked some server, or has not responded.
	pending bool
}

// watchRotation shows the balancers' view of the nodes until ctx ends.
func (s *Supervisor) watchRotation(ctx context.Context) {
	ticker := time.NewTicker(rotationEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.showRotation(ctx)
		}
	}
}

// awaitRotation waits, for at most rotationLimit, until the balancers that are up send requests
// to every application's node that is up, and have checked every server elsewhere. Until their
// own checks have passed, clients would get 503.
func (s *Supervisor) awaitRotation(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.rotationLimit())
	defer cancel()
	var seen rotation
	settled := func() bool {
		seen = s.showRotation(ctx)
		return !seen.pending && len(seen.out) == 0
	}
	if !poll(ctx, settled) {
		s.log.Warn("a balancer does not send requests to every node yet", "nodes", seen.out, "applications", seen.unserved)
	}
}

// showRotation asks the balancers and shows their view, unless ctx has ended meanwhile.
func (s *Supervisor) showRotation(ctx context.Context) rotation {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	seen := s.lookAtRotation(ctx)
	if ctx.Err() == nil {
		s.statusBoard.setRotation(seen)
	}
	return seen
}

// lookAtRotation asks every balancer that is up, all at once.
func (s *Supervisor) lookAtRotation(ctx context.Context) rotation {
	ctx, cancel := context.WithTimeout(ctx, rotationTimeout)
	defer cancel()
	now := s.statusBoard.snapshot()
	up, hosts := map[string]bool{}, map[string]string{}
	var balancers []string
	for _, st := range now.Nodes {
		hosts[st.Name] = st.Host
		switch {
		case st.State != Up:
		case st.Kind == plan.Web:
			up[st.Name] = !s.drained(st.Name)
		case st.Kind == plan.Balancer:
			balancers = append(balancers, st.Name)
		}
	}
	answers := make([][]haproxy.Stat, len(balancers))
	var asking sync.WaitGroup
	for i, name := range balancers {
		asking.Go(func() { answers[i], _ = s.balancer(*s.node(name).spec()).Stat(ctx) })
	}
	asking.Wait()
	seen := rotation{out: map[string]string{}}
	for i, name := range balancers {
		s.freeClients(ctx, name, hosts, answers[i])
		// A balancer that does not respond is handled by its own probe.
		seen.pending = seen.pending || answers[i] == nil
		seen.add(name, answers[i], up, s.appOf)
	}
	return seen
}

// tellHealth tells the balancers that an application's node has died, or is ready again, if the
// application's requests may wait for a free connection. By themselves the balancers would
// notice a death by refused connections or by their next checks; meanwhile they would send the
// node the requests for which the others have no room. And they would need two checks to use
// the node again, while another node may die.
func (s *Supervisor) tellHealth(ctx context.Context, node plan.Process, up bool) {
	if s.stack().Apps[node.App].Connections == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rotationTimeout)
	defer cancel()
	for balancer, b := range s.balancersUp(Starting) {
		if up && s.knownElsewhere(ctx, balancer, b, node) {
			continue
		}
		for _, backend := range s.backendsOf(node.App) {
			err := b.SetHealth(ctx, backend, node.Node, up)
			if err != nil && !errors.Is(err, haproxy.ErrNoServer) {
				s.log.Warn("cannot tell a balancer how a node is", "node", node.Node, "up", up, "error", err)
			}
		}
	}
}

// knownElsewhere reports whether a balancer knows a node at a former address.
func (s *Supervisor) knownElsewhere(ctx context.Context, balancer string, b *haproxy.Client, node plan.Process) bool {
	rows, err := b.Stat(ctx)
	return err == nil && knownElsewhere(rows, node.Node, s.addressFor(balancer, &node))
}

// knownElsewhere reports whether, according to a balancer's statistics, it knows a node at another
// address.
func knownElsewhere(rows []haproxy.Stat, node, address string) bool {
	return slices.ContainsFunc(rows, func(r haproxy.Stat) bool {
		return r.Server == node && r.Address != "" && r.Address != address
	})
}

// backendsOf returns the balancers' backends in which an application's nodes are checked
// (haproxy.cfg of package plan). Not every balancer has all of them.
func (s *Supervisor) backendsOf(app string) []string {
	backends := []string{app}
	for i, entry := range s.stack().TCP {
		if entry.App == app {
			backends = append(backends, "tcp."+strconv.Itoa(i+1))
		}
	}
	return backends
}

// freeClients ends the sessions at servers that hang, so that their clients need not wait for
// HAProxy's timeout. HAProxy can do that by itself when a server goes down (on-marked-down).
// But it also does so when a server has died, and then cuts off the sessions that it is just
// sending to another server: see shares.go of package plan.
//
// If another host does not respond at all, its servers are left out: the kernel ends the
// connections to it, and their requests go to other servers (wire.go of package plan).
//
// HAProxy newer than 2.6 does not send the requests of such sessions to another server, but
// closes their clients' connections without a response. With it, the sessions are left until
// the node is killed (see node.hangLimit) or responds. Only at a node that an operator has
// paused they are ended, because nothing kills that node.
func (s *Supervisor) freeClients(ctx context.Context, balancer string, hosts map[string]string, stats []haproxy.Stat) {
	silent := func(row haproxy.Stat) bool {
		return row.Unreached() && hosts[row.Server] != hosts[balancer]
	}
	st, _ := s.statusBoard.snapshot().Node(balancer)
	ends := !resends(st.Server)
	if ends {
		s.sessionsEnd.Store(true)
	}
	for _, row := range hanging(stats, silent) {
		if n := s.node(row.Server); ends && n != nil && !n.paused.Load() {
			continue
		}
		if err := s.balancer(*s.node(balancer).spec()).EndSessions(ctx, row.Backend, row.Server); err != nil {
			s.log.Warn("cannot end the sessions at a server that hangs", "balancer", balancer, "server", row.Server, "error", err)
		}
	}
}

// resends reports whether a balancer's HAProxy, named as in NodeStatus.Server, sends a request
// whose session is ended to another server.
func resends(server string) bool {
	is, known := servers.Named(server)
	return !known || is.Resends()
}

// hanging returns the servers that have sessions and hang, according to their own checks or to
// those of the server that they track. It leaves out those for which silent returns true.
func hanging(stats []haproxy.Stat, silent func(haproxy.Stat) bool) (rows []haproxy.Stat) {
	hangs := map[string]bool{}
	for _, row := range stats {
		if row.IsServer() && row.Hangs() && !silent(row) {
			hangs[row.Backend+"/"+row.Server] = true
		}
	}
	for _, row := range stats {
		if row.IsServer() && row.Sessions > 0 && (hangs[row.Backend+"/"+row.Server] || hangs[row.Tracks]) {
			rows = append(rows, row)
		}
	}
	return rows
}

// add adds one balancer's view of the servers. up has the nodes that are up by the supervisor's
// probes. appOf returns the application behind a proxy.
func (r *rotation) add(balancer string, stats []haproxy.Stat, up map[string]bool, appOf func(proxy string) string) {
	type verdict struct {
		served bool
		why    []string
	}
	apps, order := map[string]*verdict{}, []string{}
	for _, row := range stats {
		app := appOf(row.Backend)
		if app == "" || !row.IsServer() {
			continue
		}
		v := apps[row.Backend]
		if v == nil {
			v = &verdict{}
			apps[row.Backend], order = v, append(order, row.Backend)
		}
		r.pending = r.pending || strings.TrimPrefix(row.CheckStatus, "* ") == "INI"
		if row.Serves() {
			v.served = true
			continue
		}
		v.why = append(v.why, row.Server+" is "+row.Finding())
		if up[row.Server] && r.out[row.Server] == "" {
			r.out[row.Server] = fmt.Sprintf("%s sends it no requests: %s", balancer, row.Finding())
		}
	}
	for _, proxy := range order {
		if v := apps[proxy]; !v.served {
			r.unserved = append(r.unserved, Unserved{App: appOf(proxy), Balancer: balancer, Why: someOf(v.why)})
		}
	}
}

// someOf joins the first of several findings.
func someOf(why []string) string {
	const shown = 3
	if len(why) <= shown {
		return strings.Join(why, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(why[:shown], "; "), len(why)-shown)
}

// appOf returns the application behind a proxy of the balancers (haproxy.cfg of package plan);
// empty: the proxy is for none.
func (s *Supervisor) appOf(proxy string) string {
	if _, there := s.stack().Apps[proxy]; there {
		return proxy
	}
	if number, ok := strings.CutPrefix(proxy, "tcp."); ok {
		if i, err := strconv.Atoi(number); err == nil && i >= 1 && i <= len(s.stack().TCP) {
			return s.stack().TCP[i-1].App
		}
	}
	return ""
}

// inRotation counts the servers of the given nodes that a balancer has, and those of them that
// get requests because its own checks have passed.
func inRotation(ctx context.Context, b *haproxy.Client, nodes map[string]bool) (there, served int, err error) {
	stats, err := b.Stat(ctx)
	for _, st := range stats {
		if nodes[st.Server] && st.Tracks == "" {
			there++
			if st.Serves() {
				served++
			}
		}
	}
	return there, served, err
}

// knownToBalancers returns the redis nodes that every balancer knows at their current
// addresses, and could direct programs to; nil: that is unknown, or the balancers direct nobody
// to Redis.
func (s *Supervisor) knownToBalancers(ctx context.Context) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var known map[string]bool
	for _, b := range s.runningBalancers() {
		rows, err := b.Stat(ctx)
		if err != nil {
			return nil
		}
		here := map[string]bool{}
		for _, r := range rows {
			if n := s.node(r.Server); n != nil && isRedis(r.Server) && (r.Address == "" || r.Address == n.spec().Address) && (known == nil || known[r.Server]) {
				here[r.Server] = true
			}
		}
		known = here
	}
	if len(known) == 0 {
		return nil
	}
	return known
}

// servedAt reports whether a balancer sends requests to a node, as far as it knows the node at
// this address.
func servedAt(rows []haproxy.Stat, node, address string) bool {
	return !slices.ContainsFunc(rows, func(r haproxy.Stat) bool {
		at := r.Address == "" || r.Address == address
		return r.Server == node && r.Tracks == "" && at && !r.Serves()
	})
}

// addressFor returns the address at which a balancer reaches a node. A balancer on another host
// cannot use the node's local address.
func (s *Supervisor) addressFor(balancer string, p *plan.Process) string {
	if s.home(balancer).name == s.home(p.Node).name {
		return p.LocalAddress()
	}
	return p.Address
}
