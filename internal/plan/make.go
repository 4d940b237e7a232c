package plan

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/quicktemplate"

	"holdfast/internal/stack"
)

// maxSocketPath is the longest path of a unix socket, in bytes, that HAProxy accepts. HAProxy binds
// a longer, temporary name first, which has to fit into the 108 bytes of sockaddr_un.
const maxSocketPath = 97

// builder makes one plan.
type builder struct {
	stack stack.Stack
	facts Facts
	hosts map[string]HostFacts // by name
	nodes []node
}

// Make returns the plan of a validated stack. Facts.Ports must have the port of every node of
// Needs, and hosts the facts of every host, by name.
func Make(s stack.Stack, f Facts, hosts map[string]HostFacts) (Plan, error) {
	b := builder{stack: s, facts: f, hosts: hosts, nodes: nodes(s, f)}
	if err := b.check(); err != nil {
		return Plan{}, err
	}
	p := Plan{Stack: s, Name: s.Name, EntryURL: scheme(s.Entry) + "://" + entryHost(b.entry())}
	if s.Entry.Statistics != "" {
		p.StatisticsURL = p.EntryURL + s.Entry.Statistics
	}
	if p.Metrics = s.Metrics.Listen; p.Metrics == "" {
		p.Metrics = net.JoinHostPort("127.0.0.1", strconv.Itoa(f.Ports[PortMetrics]))
	}
	if !s.Metrics.Enabled {
		p.Metrics = ""
	}
	for _, h := range places(f) {
		made, err := b.render(h)
		if err != nil {
			return Plan{}, err
		}
		p.Hosts = append(p.Hosts, made)
	}
	return p, nil
}

// checkHost returns an error where the plan could not work on a host.
func (b builder) checkHost(name string) error {
	h, known := b.hosts[name]
	if !known {
		return fmt.Errorf("nothing is known of the host %s", name)
	}
	for _, dir := range []string{h.StateDir, h.BaseDir} {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("the directory %q is not an absolute path", dir)
		}
	}
	// Redis expands patterns in the name of an included file. In an address HAProxy takes a dollar
	// for a variable, and a comma for the end of the address.
	if i := strings.IndexFunc(h.StateDir, func(r rune) bool {
		return r < ' ' || r == 0x7f || strings.ContainsRune(`*?["\$,`, r)
	}); i >= 0 {
		return fmt.Errorf("the state directory %q has a character that the configuration of Redis or HAProxy cannot take (%q): choose another with --state", h.StateDir, h.StateDir[i])
	}
	return nil
}

// check returns an error where the plan could not work with the facts.
func (b builder) check() error {
	for _, app := range b.stack.WithoutContainers() {
		if b.stack.Apps[app].Discovery == nil {
			return fmt.Errorf("apps.%s.image: a container image runs in containers alone: 'holdfast export' makes them; here write a command, or servers, in its place", app)
		}
	}
	for _, place := range places(b.facts) {
		if err := b.checkHost(place.Name); err != nil {
			return err
		}
	}
	for _, n := range ofKind(b.nodes, Balancer) {
		if path := b.path(n, BalancerSocket); len(path) > maxSocketPath {
			return fmt.Errorf("the state directory %s is too long a path: HAProxy's socket in it would be %d bytes long, and %d is the most; choose a shorter one with --state",
				b.host(n).StateDir, len(path), maxSocketPath)
		}
	}
	if b.stack.Redis.Enabled {
		for _, password := range b.facts.Secrets.passwords() {
			if *password.value == "" {
				return fmt.Errorf("the secrets have no password for %s", password.user)
			}
		}
		for _, user := range b.programUsers() {
			if user.Password == "" {
				return fmt.Errorf("the secrets have no password for %s", user.Name)
			}
		}
	}
	return checkNodes(b.nodes, b.facts, b.stack)
}

// host returns the facts of a node's host.
func (b builder) host(n node) HostFacts { return b.hosts[n.host.Name] }

// sameHostNodes returns the nodes on a node's host, including the node itself.
func (b builder) sameHostNodes(n node) []node {
	return slices.DeleteFunc(slices.Clone(b.nodes), func(o node) bool { return !o.runsOn(n.host) })
}

// render returns what one host has to have and to run.
func (b builder) render(h Place) (Host, error) {
	made := Host{Name: h.Name, Address: h.Address, Dirs: []string{"logs", "nodes"}}
	for _, n := range b.nodes {
		if !n.runsOn(h) {
			continue
		}
		dirs, files, err := b.files(n)
		if err != nil {
			return Host{}, fmt.Errorf("%s: %w", n.name, err)
		}
		if n.kind == Balancer && len(b.stack.CertificateEntries()) > 0 && !slices.Contains(made.Dirs, CertificatesDir) {
			made.Dirs = append(made.Dirs, CertificatesDir)
		}
		made.Dirs = append(append(made.Dirs, nodePath(n)), dirs...)
		made.Files = append(made.Files, files...)
		made.Processes = append(made.Processes, b.process(n))
	}
	slices.SortStableFunc(made.Processes, func(x, y Process) int { return x.Stage - y.Stage })
	return made, nil
}

// nodePath returns a path in a node's directory, relative to the state directory.
func nodePath(n node, elem ...string) string {
	return filepath.Join(append([]string{"nodes", n.name}, elem...)...)
}

// path returns the absolute path of a file of a node.
func (b builder) path(n node, elem ...string) string {
	return filepath.Join(b.host(n).StateDir, nodePath(n, elem...))
}

// files returns a node's files, and the directories that it needs besides its own.
func (b builder) files(n node) (dirs []string, files []File, err error) {
	add := func(name string, once bool, fill func(w *quicktemplate.Writer)) {
		if err != nil {
			return
		}
		var content string
		if content, err = render(fill); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		// Only the owner may read the files: most of them contain a secret.
		files = append(files, File{Path: nodePath(n, name), Mode: 0o600, Content: content, Once: once})
	}

	switch n.kind {
	case Balancer:
		if b.host(n).HAProxyUser != "" {
			dirs = append(dirs, nodePath(n, chrootDir))
		}
		add("haproxy.cfg", false, func(w *quicktemplate.Writer) { streamhaproxyConf(w, b.haproxy(n)) })
		files = append(files, File{Path: nodePath(n, ServerStates), Mode: 0o600, Content: noStates})
		if b.stack.Redis.Enabled {
			files = append(files, File{Path: nodePath(n, awaitMasterFile), Mode: 0o600, Content: awaitMaster})
		}
	case Redis:
		dirs = append(dirs, nodePath(n, "data"))
		data := b.redis(n)
		add("users.acl", false, func(w *quicktemplate.Writer) { streamredisUsersACL(w, data) })
		add("base.conf", false, func(w *quicktemplate.Writer) { streamredisBaseConf(w, data) })
		add("redis.conf", true, func(w *quicktemplate.Writer) { streamredisConf(w, data) })
	case Sentinel:
		data := b.sentinel(n)
		if data.ID == "" {
			return nil, nil, fmt.Errorf("the secrets have no run id for it")
		}
		add("users.acl", false, func(w *quicktemplate.Writer) { streamsentinelUsersACL(w, data) })
		add("base.conf", false, func(w *quicktemplate.Writer) { streamsentinelBaseConf(w, data) })
		add("sentinel.conf", true, func(w *quicktemplate.Writer) { streamsentinelConf(w, data) })
	case Web:
		if kv := b.stack.Apps[n.app].KV; kv != nil && len(kv.Tokens) > 0 {
			add(tokensFile, false, func(w *quicktemplate.Writer) { streamtokensYAML(w, kv.Tokens) })
		}
	case Keepalived:
		files, err = b.keepalivedFiles(n)
	}
	return dirs, files, err
}

// process returns a node's process.
func (b builder) process(n node) Process {
	t := n.kind.Traits()
	p := Process{
		Node: n.name, Kind: n.kind, App: n.app, Address: b.address(n),
		Stage: t.Stage, Program: t.Program, StopSignal: t.StopSignal, Grace: t.Grace, Probe: Probe{Kind: t.Probe},
	}
	if p.Program.IsRedis() {
		p.Program = RedisProgram(b.stack.Redis)
	}
	switch n.kind {
	case Balancer:
		p.Address = b.listens(n)
		p.Args = []string{"-W", "-S", b.path(n, MasterSocket) + ",mode,600", "-f", b.path(n, "haproxy.cfg")}
		p.Grace = b.hardStop()
		p.Probe.Socket = nodePath(n, BalancerSocket)
	case Redis:
		p.Args = []string{b.path(n, "redis.conf"), "--include", b.path(n, "base.conf")}
		p.Local = b.behindService(n)
	case Sentinel:
		p.Args = []string{b.path(n, "sentinel.conf"), "--sentinel", "--include", b.path(n, "base.conf")}
		p.Local = b.behindService(n)
	case Web:
		b.app(n, &p)
	case Keepalived:
		b.keepalivedProcess(n, &p)
	}
	return p
}

// app fills in the process of an application's node.
func (b builder) app(n node, p *Process) {
	app := b.stack.Apps[n.app]
	port := strconv.Itoa(b.facts.Ports[n.name])
	p.Grace = app.Grace
	p.Start = app.Health.Start
	p.Probe = b.appProbe(app)
	env := map[string]string{}
	switch app.Kind() {
	case stack.KV:
		p.Program = Self
		p.Args = []string{"web"}
		if b.servesTLS(n) {
			p.Local = b.localAddress(n)
		}
		if p.Probe.Kind == ProbeHTTP {
			p.Probe.Live = "/healthz/live"
		}
		maps.Copy(env, b.kvEnv(n, *app.KV))
		maps.Copy(env, b.redisEnv(n, redisUser{Name: "web", Password: b.facts.Secrets.Web}, true))
		if app.KV.Admin {
			p.Admin = env["HOLDFAST_ADMIN"]
		}
		p.RestartFreeEnv = []string{"HOLDFAST_THREADS"}
		if b.stack.DerivedStreams(n.app) {
			p.RestartFreeEnv = append(p.RestartFreeEnv, "HOLDFAST_STREAMS")
		}
		// The number of replicas that must have a write before it is acknowledged.
		env["HOLDFAST_MIN_ACKS"] = strconv.Itoa(min(b.stack.Redis.Replicas, 1))
	case stack.Files:
		p.Program = Self
		p.Args = []string{"files", "--dir", b.resolve(n, app.Files)}
		env["HOLDFAST_HOSTS"] = strings.Join(hosts(b.stack), ",")
	case stack.Command:
		home := ProgramDir(b.host(n), n.app, app)
		p.Program = Program(ResolveProgram(home, app.Command[0]))
		own := map[string]string{"HOST": n.host.Address, "PORT": port, "HOLDFAST_NODE": n.name}
		for _, arg := range app.Command[1:] {
			p.Args = append(p.Args, stack.Expand(arg, lookIn(own)))
		}
		p.Dir = Resolve(home, app.Dir)
		if app.Release != "" {
			p.Release = app.Digest
			env["HOLDFAST_RELEASE"] = app.Digest
		}
		if app.StopSignal != "" {
			p.StopSignal = app.StopSignal
		}
		if b.stack.Redis.Enabled && b.stack.Redis.Sentinels > 0 {
			p.Stage = stageAppBehindBalancer
		}
		ours := b.redisEnv(n, b.programUser(n.app), false)
		maps.Copy(env, ours)
		for name, value := range app.Env { // the user's variables override ours
			env[name] = stack.Expand(value, lookIn(own, ours))
		}
	}

	env["HOST"], env["PORT"], env["HOLDFAST_NODE"] = n.host.Address, port, n.displayName()
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.Env = append(p.Env, k+"="+env[k])
	}
}

// lookIn returns a function that looks a name up in several maps, in this order.
func lookIn(maps ...map[string]string) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		for _, m := range maps {
			if v, there := m[name]; there {
				return v, true
			}
		}
		return "", false
	}
}

// appProbe returns the probe of an application's node, which asks the same as the balancers do.
func (b builder) appProbe(app stack.App) Probe {
	probe := Probe{Kind: ProbeTCP, Timeout: checkTimeout(b.stack, app), Proxy: app.SendProxy}
	if app.Health.Path != "" {
		probe.Kind, probe.Ready, probe.Host = ProbeHTTP, app.Health.Path, app.Health.Host
	}
	return probe
}

// listens returns where a balancer listens for clients. That is the entry's address, or, where the
// entry listens at every address of its host, the host's address with the entry's port.
func (b builder) listens(n node) string {
	if len(b.facts.Hosts) == 0 {
		return b.stack.Entry.Listen
	}
	h, port, err := net.SplitHostPort(b.stack.Entry.Listen)
	if err != nil || h != "" && h != "*" && h != "0.0.0.0" && h != "::" {
		return b.stack.Entry.Listen
	}
	return net.JoinHostPort(n.host.Address, port)
}

// entry returns the address of the entry for clients: the virtual one, or else that of the first
// balancer.
func (b builder) entry() string {
	balancers := ofKind(b.nodes, Balancer)
	if virtual := b.stack.Entry.Virtual.Bare(); len(virtual) > 0 && len(ofKind(b.nodes, Keepalived)) > 0 {
		_, port, _ := net.SplitHostPort(b.stack.Entry.Listen)
		return net.JoinHostPort(virtual[0], port)
	}
	if len(balancers) == 0 {
		return b.stack.Entry.Listen
	}
	return b.listens(balancers[0])
}

// Resolve returns a path of a stack file as an absolute path; a relative one starts from baseDir.
func Resolve(baseDir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(baseDir, path)
}

// ResolveProgram does the same for a program. It returns a bare name as it is, to be looked up on
// PATH.
func ResolveProgram(baseDir, name string) string {
	if !strings.Contains(name, "/") {
		return name
	}
	return Resolve(baseDir, name)
}

// ReleasesDir returns the directory of the copies of an application's files, relative to the state
// directory.
func ReleasesDir(app string) string { return filepath.Join("releases", app) }

// ProgramDir returns the directory that relative paths in an application's command start from. For
// an application with a release this is the copy of the release, or, before the first copy is made,
// the directory that is to be copied.
func ProgramDir(h HostFacts, name string, app stack.App) string {
	switch {
	case app.Release == "":
		return h.BaseDir
	case app.Digest == "":
		return Resolve(h.BaseDir, app.Release)
	}
	return filepath.Join(h.StateDir, ReleasesDir(name), app.Digest)
}

// resolve returns a path of the stack file as an absolute path on a node's host.
func (b builder) resolve(n node, path string) string { return Resolve(b.host(n).BaseDir, path) }

// entryHost returns an address under which clients on this machine reach listen, which may stand
// for every address of the machine.
func entryHost(listen string) string {
	h, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch h {
	case "", "*", "0.0.0.0":
		h = "127.0.0.1"
	case "::":
		h = "::1"
	}
	return net.JoinHostPort(h, port)
}
