package doctor

import (
	"time"

	"fmt"
	"slices"
	"strings"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
)

// The web nodes and the balancers, compared with the state of the nodes themselves.

// heldMany is the number of requests at one node that wait for Redis from which they pile up. Under
// load some tens wait at any moment.
const heldMany = 1000

func checkInSync(f *findings) {
	masters := f.masters()
	for _, n := range f.Nodes {
		if n.Web == nil {
			continue
		}
		w := n.Web
		level := Error
		if f.failing() {
			level = Note
		}
		switch {
		case w.Master == "":
			f.add(level, n.Name, n.Name+" knows no Redis master", "its requests wait and get 503", "see the findings about Redis; curl ENTRY/healthz/master says why")
			continue
		case len(masters) == 1 && w.Master != masters[0].Address:
			f.add(level, n.Name, fmt.Sprintf("%s uses the master %s, and it is %s", n.Name, f.withName(w.Master), f.withName(masters[0].Address)),
				"its writes wait, or go to a node that is replaced", "it follows within a second; if it stays so, 'holdfast restart "+n.Name+"'")
		}
		switch {
		case f.Stack.Redis.Replicas == 0:
		case w.Wrote && w.InSync == 0:
			f.add(level, n.Name, n.Name+" has no replica in sync", "no write is acknowledged: writes wait and get 503", "see why the replicas do not run or do not keep up")
		case w.Wrote && w.InSync < w.Replicas:
			// The node learns only at its next write that a replica is back, which may be long
			// after.
			f.add(Note, n.Name, fmt.Sprintf("%s had %d of %d replicas that are online in sync at its last write", n.Name, w.InSync, w.Replicas),
				"a replica did not keep up then", "if it is so again and again, see its disk, its processor and the network")
		case w.Replicas < f.Stack.Redis.Replicas:
			f.add(Warning, n.Name, fmt.Sprintf("%s sees %d of %s online", n.Name, w.Replicas, plural(f.Stack.Redis.Replicas, "replica")), "the next fault may stop writes", "see the findings about Redis")
		}
		if !w.Ready {
			f.add(Warning, n.Name, n.Name+" is not ready by its own word", "balancers send it nothing; it is cut off from Redis, or about to end", "'holdfast logs "+n.Name+"'")
		}
		if w.Held > heldMany {
			f.add(Warning, n.Name, fmt.Sprintf("%s holds %d requests that wait for Redis", n.Name, w.Held), "there is no master, or more load than Redis carries; at 10,000 it answers 503", "see the findings about Redis, and who asks so much")
		}
	}
}

func checkRotation(f *findings) {
	checkDrained(f)
	for _, b := range f.Nodes {
		if b.Balancer == nil {
			continue
		}
		served := map[string]bool{}
		var apps []string // in the order of the configuration
		for _, s := range b.Balancer.Servers {
			f.checkServer(b, s)
			if s.App == "" {
				continue
			}
			if !slices.Contains(apps, s.Backend) {
				apps = append(apps, s.Backend)
			}
			served[s.Backend] = served[s.Backend] || s.Serves
		}
		for _, backend := range apps {
			known := slices.ContainsFunc(f.Supervisor.Unserved, func(u Unserved) bool { return u.App == backend && u.Balancer == b.Name })
			if !served[backend] && !known {
				f.add(Error, b.Name, fmt.Sprintf("%s has no server for %s", b.Name, backend), "requests for it get 503 there", "see why its nodes do not answer their health checks")
			}
		}
		f.checkMasterWay(b)
		if b.Balancer.Stopping {
			f.add(Warning, b.Name, b.Name+" is about to end (a soft stop was asked for)", "it takes no new connections", "wait for it; 'holdfast status'")
		}
		if c, most := b.Balancer.Connections, b.Balancer.MaxConnections; most > 0 && c*100 >= most*nearlyFull {
			f.add(Warning, b.Name, fmt.Sprintf("%s has %d of %d connections", b.Name, c, most), "further ones wait in the kernel", "see who connects; raise entry.limits.connections, and the limit of open files with it")
		}
	}
}

// checkDrained notes the nodes that their operator has taken out of rotation.
func checkDrained(f *findings) {
	for _, n := range f.Nodes {
		if n.Drained {
			f.add(Note, n.Name, n.Name+" is drained: its operator has taken it out of rotation", "the balancers send it no requests, and the other nodes have its part of them", fmt.Sprintf("'holdfast undrain %s' puts it back", n.Name))
		}
	}
}

// checkServer compares a balancer's view of one server with the state of the node.
func (f *findings) checkServer(b Node, s Server) {
	n := f.node(s.Name)
	switch {
	case s.App == "":
		return
	case n != nil && n.Drained && !s.Serves: // see checkDrained
	case s.State == "MAINT" || s.State == "DRAIN":
		f.add(Warning, s.Name, fmt.Sprintf("%s has %s of %s in the state %s", b.Name, s.Name, s.Backend, s.State),
			"it gets no new requests: somebody took it out and did not put it back, or it is about to be stopped",
			fmt.Sprintf("'holdfast restart %s' puts it back", s.Name))
	case n == nil && !s.Serves: // a server elsewhere
		f.add(Warning, s.Name, fmt.Sprintf("%s sends %s of %s no requests: %s", b.Name, s.Name, s.Backend, s.Finding), "the others get its share", "see why that server does not answer its health check")
	case n == nil || n.Process == nil && !s.Serves:
	case n.Process == nil:
		f.add(Warning, s.Name, fmt.Sprintf("%s sends requests to %s, which does not run", b.Name, s.Name), "they are sent again to another, and take longer", "its health check takes it out within seconds")
	case !s.Serves && n.State == "up" && !n.Process.Stopped && n.Silent == "":
		f.add(Warning, s.Name, fmt.Sprintf("%s sends %s no requests: %s; the supervisor holds it for up", b.Name, s.Name, s.Finding), "the others get its share",
			"a balancer and the supervisor ask the same: 'holdfast logs "+s.Name+"'; after a start it takes some checks")
	}
}

// checkMasterWay checks where a balancer sends programs that do not support Sentinel.
func (f *findings) checkMasterWay(b Node) {
	masters := f.masters()
	var to []string
	there := false
	for _, s := range b.Balancer.Servers {
		if s.Backend != plan.RedisMasterBackend && s.Backend != plan.RedisMasterAloneBackend {
			continue
		}
		there = true
		if s.Serves && !slices.Contains(to, s.Name) {
			to = append(to, s.Name)
		}
	}
	if !there || len(masters) != 1 || f.failing() || slices.Equal(to, []string{masters[0].Name}) {
		return
	}
	where := "nowhere"
	if len(to) > 0 {
		where = "to " + strings.Join(to, " and ")
	}
	level := Warning
	if len(f.Stack.Programs()) > 0 {
		level = Error
	}
	f.add(level, b.Name, fmt.Sprintf("%s leads programs that use REDIS_URL %s, and the master is %s", b.Name, where, masters[0].Name),
		"programs that know no Sentinels reach a wrong node, or none", "its checks follow within a second; if it stays so, 'holdfast restart "+b.Name+"'")
}

func checkVersions(f *findings) {
	byKind := map[string][]Node{}
	var kinds []string
	untested := map[servers.Server][]Node{}
	var order []servers.Server
	for _, n := range f.Nodes {
		if n.Process == nil {
			continue
		}
		switch {
		case n.Version != "" && n.Installed != "" && n.Version != n.Installed:
			f.add(Warning, n.Name, fmt.Sprintf("%s runs version %s, and %s is installed", n.Name, n.Version, n.Installed), "what the new version mends is not mended yet",
				"'holdfast restart "+n.Name+"', one node after the other, the Redis master last")
		case n.Process.Replaced:
			f.add(Note, n.Name, n.Name+" runs a program whose file was replaced since it was started", "it runs the former one", "'holdfast restart "+n.Name+"'")
		}
		is := servers.Server{Name: n.Server, Version: n.Version}
		program := n.Server
		if program == "" || n.Version == "" {
			continue
		}
		if is.Untested() != "" {
			if untested[is] == nil {
				order = append(order, is)
			}
			untested[is] = append(untested[is], n)
		}
		if program == servers.Valkey { // Valkey counts together with Redis
			program = servers.Redis
		}
		if byKind[program] == nil {
			kinds = append(kinds, program)
		}
		byKind[program] = append(byKind[program], n)
	}

	for _, kind := range kinds {
		nodes := byKind[kind]
		if !slices.ContainsFunc(nodes, func(n Node) bool { return n.Version != nodes[0].Version || n.Server != nodes[0].Server }) {
			continue
		}
		var words []string
		for _, n := range nodes {
			version := n.Version
			if n.Server == servers.Valkey {
				version = n.Server + " " + version
			}
			words = append(words, n.Name+" "+version)
		}
		f.add(Warning, "", "the nodes run different versions of "+kind+": "+strings.Join(words, ", "),
			"a replica cannot always read what a newer master sends", "'holdfast restart' those with the older version, the Redis master last")
	}

	for _, is := range order {
		f.add(Note, "", fmt.Sprintf("%s %s %v, and Holdfast was tested with %s %s", names(untested[is]), nodesRun(len(untested[is])), is, is.Name, is.Untested()),
			"it most probably works; nobody has looked", "use a version that was tested, or try it on a copy of the stack first")
	}

	if f.NoLua {
		f.add(Note, "", "HAProxy is built without Lua", "while there is no Redis master, and in a switchover, the balancers refuse programs that use REDIS_URL: they cannot hold them for the next master",
			"install a HAProxy with Lua (Debian's is), or have programs repeat for some seconds what is refused")
	}
	if f.Supervisor.Process != nil && f.Supervisor.Process.Replaced {
		f.add(Note, "", "the supervisor runs a program whose file was replaced since it was started", "it is a former version",
			"'holdfast upgrade': the nodes go on, and the new one adopts them")
	}
}

func checkStackFile(f *findings) {
	var outdated []Node
	for _, n := range f.Nodes {
		if n.Outdated && n.Process != nil {
			outdated = append(outdated, n)
		}
	}
	if f.Mistakes != "" {
		f.add(Error, "", "the stack file has mistakes: "+f.Mistakes, "'holdfast up', 'apply' and 'upgrade' refuse it: the stack does not start again after 'down' or a loss of power",
			"correct it: 'holdfast config check' names each mistake")
	}
	for _, why := range f.KeptPages {
		f.add(Warning, "", "the file of a page is refused: "+why, "the balancers answer with the page that was there before, and 'holdfast apply' refuses the stack file",
			"put a page there, or correct the stack file; then 'holdfast apply'")
	}
	if f.Differs {
		f.add(Warning, "", "the stack file differs from what runs", "what was changed in the file has no effect yet",
			"'holdfast apply --plan' shows what would be done, 'holdfast apply' does it")
	}
	if len(outdated) > 0 {
		f.add(Warning, "", fmt.Sprintf("%s run with other settings than the stack has for them", names(outdated)),
			"a change of the stack, or a new version of Holdfast, has no effect there yet", "'holdfast apply'; or 'holdfast restart' each, the Redis master last")
	}
	for _, why := range f.References {
		f.add(Error, "", why, "a node that needs it cannot start again", "put it back, or correct the stack file: 'holdfast config check'")
	}
}

func checkFiles(f *findings) {
	for _, file := range f.Files {
		n := f.node(file.Node)
		if n != nil && n.Outdated {
			continue // the change of the stack file explains it
		}
		switch {
		case file.Missing && f.running() == 0: // 'up' writes it
		case file.Missing:
			f.add(Warning, file.Node, file.Path+" is missing", "the node cannot start again by itself", "'holdfast up -d' writes it anew, after the supervisor has ended")
		default:
			f.add(Warning, file.Node, fmt.Sprintf("%s was changed by hand: line %d is %q, and the plan has %q", file.Path, file.Line, file.Has, file.Wants),
				"the change takes effect when the node is started again, and is lost with the next 'up'", "put it into the stack file, if it has a key for it; else change it back")
		}
	}
}

func checkReleases(f *findings) {
	for _, r := range f.Releases {
		do := fmt.Sprintf("'holdfast rollout %s' copies the files anew, and gives up what the program has written to them; give it another place for what it writes", r.App)
		if r.Damaged != "" {
			f.add(Error, "", fmt.Sprintf("%s runs from a copy of its files (apps.%[1]s.release): %s", r.App, r.Damaged),
				"its nodes cannot start again, and no change of the stack begins", do)
			continue
		}
		f.add(Warning, "", fmt.Sprintf("the release %s of %s is not as it was copied: %s", r.Digest, r.App, firstOf(r.Changed)),
			"a node that is started again may not be what the others are, and 'holdfast rollout --undo' may not bring back what ran", do)
	}
}

func checkCertificates(f *findings) {
	for _, c := range f.Certificates {
		if c.Entry {
			checkCertificate(f, c)
			continue
		}
		left := c.Ends.Sub(f.Now)
		switch {
		case c.Broken != "":
			f.add(Error, "", fmt.Sprintf("the certificate %s, for %s, cannot be read: %s", c.Path, c.For, c.Broken), "what needs it cannot start again", "put a good one there")
		case left <= 0:
			f.add(Error, "", fmt.Sprintf("the certificate %s (%s), for %s, ended on %s", c.Path, c.Subject, c.For, c.Ends.Format("2006-01-02 15:04")), "whoever checks it refuses the connection", "renew it, and restart what uses it")
		case left < endsSoon:
			f.add(Warning, "", fmt.Sprintf("the certificate %s (%s), for %s, ends in %s, on %s", c.Path, c.Subject, c.For, roughly(left), c.Ends.Format("2006-01-02 15:04")),
				"after that whoever checks it refuses the connection", "renew it, and restart what uses it")
		}
	}
}

// shownEndsSoon and shownEndsNow are how long before its end a certificate of the entry is a
// warning, and an error. Automatic renewal happens weeks before.
const (
	shownEndsSoon = 14 * 24 * time.Hour
	shownEndsNow  = 2 * 24 * time.Hour
)

// checkCertificate judges a certificate that an entry presents.
func checkCertificate(f *findings, c Certificate) {
	const do = "have the files of the stack file (tls) renewed; the balancers take them up by themselves within seconds"
	left, ends := c.Ends.Sub(f.Now), c.Ends.UTC().Format("2006-01-02 15:04")
	level := Error
	if left >= shownEndsNow {
		level = Warning
	}
	switch {
	case c.Ends.IsZero():
	case left <= 0:
		f.add(Error, "", fmt.Sprintf("the certificate %s (%s) of an entry ended on %s", c.Path, c.Subject, ends), "clients refuse the connection", do)
	case left < shownEndsSoon:
		f.add(level, "", fmt.Sprintf("the certificate %s (%s) of an entry ends in %s, on %s", c.Path, c.Subject, roughly(left), ends), "after that clients refuse the connection", do)
	}
	if c.Refused != "" {
		f.add(Warning, "", fmt.Sprintf("the file %s of an entry is refused: %s", c.Path, c.Refused), "the certificate that was there before is shown, until it ends", "put a good certificate and its key there; the balancers take them up by themselves")
	}
	if c.Gap != "" {
		f.add(Warning, "", fmt.Sprintf("%s: %s", c.Path, c.Gap), "clients that do not know the issuer by themselves refuse the connection", "write the whole chain; the balancers take it up by themselves")
	}
}

func nodesRun(nodes int) string {
	if nodes == 1 {
		return "runs"
	}
	return "run"
}
