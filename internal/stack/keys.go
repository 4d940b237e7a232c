package stack

import (
	"slices"
	"time"

	"holdfast/internal/yamltree"
)

// The keys of the stack file, section by section, in the order in which Show writes them. A new key
// is a field in stack.go, a line here, and a default in defaults.go.

// Bounds far beyond any real stack. They catch, say, a port in the wrong line.
const (
	maxBalancers = 64
	maxNodes     = 256
	maxReplicas  = 64
	maxCount     = 1_000_000
)

var stackKeys, appKeys = tables()

// tables is a function because an application's keys refer to a section that refers back to them.
func tables() ([]key[Stack], []key[App]) {
	apps := []key[App]{
		kvKey(),
		textKey("files", directoryRule, func(a *App) *string { return &a.Files },
			"A directory whose files Holdfast serves; relative to this file.").only(Files),
		commandKey(),
		textsKey("servers", addressRule, false, func(a *App) *[]string { return &a.Servers },
			"Addresses (host:port) of servers that run elsewhere.").only(Servers),
		textKey("image", imageRule, func(a *App) *string { return &a.Image },
			"The container image of a program of your own. 'holdfast export' makes containers of it, in which PORT says where it has to listen, and REDIS_URL where Redis is.").only(Image),
		textsKey("args", argumentRule, false, func(a *App) *[]string { return &a.Args },
			"The arguments of the image's program. Default: those of the image.").only(Image),
		numberKey("port", 1, 65535, func(a *App) *int { return &a.Port },
			"Where the image's program listens in its container. Default: 8080.").only(Image),
		textsKey("at", addressRule, false, func(a *App) *[]string { return &a.At },
			"The addresses (host:port) of the image's containers. 'holdfast export' writes them.").only(Image),
		numberKey("nodes", 1, maxNodes, func(a *App) *int { return &a.Nodes },
			"How many processes of it run. Default: 2 for kv, command and image, 1 for files.").only(KV, Files, Command, Image),
		portsKey("ports", func(a *App) *[]int { return &a.Ports },
			"The ports of its nodes in order; those left open are chosen on the first start and kept.").only(KV, Files, Command),
		onKey("on", func(a *App) *[]string { return &a.On }, "its nodes").only(KV, Files, Command),
		textKey("dir", directoryRule, func(a *App) *string { return &a.Dir },
			"The command's working directory; relative to release, else to this file. Default: release, else that of this file.").only(Command),
		textKey("release", directoryRule, func(a *App) *string { return &a.Release },
			"A directory with the files of the command. Its nodes run from a copy that rollout makes, so that --undo brings back the code, too; a relative command and dir are looked for there. Relative to this file.").only(Command),
		keepReleasesKey(),
		envKey(),
		programRedisKey(),
		textKey("stop-signal", stopSignalRule, func(a *App) *string { return &a.StopSignal },
			"The signal that asks the program to end.").only(Command, Image),
		durationKey("grace", 0, func(a *App) *time.Duration { return &a.Grace },
			"How long a node may take to end before it is killed.").only(KV, Files, Command, Image),
		textKey("sticky", cookieRule, func(a *App) *string { return &a.Sticky },
			"The name of a cookie that keeps a client on its node; none: every request goes to any node."),
		numberKey("connections", 0, maxCount, func(a *App) *int { return &a.Connections },
			"How many requests one node gets at once, from all balancers and entries together, which share it evenly; the rest wait in the balancers. 0: no limit. Default: 64 for kv, whose streams, long polls, large bodies and reads from cache or replicas are not counted (0 where it allows a blocking command, reads elsewhere than at the master or has a hold above 10s), 0 for the others."),
		numberKey("queue", 0, maxCount, func(a *App) *int { return &a.Queue },
			"How many requests may wait for one node beyond connections, in all balancers together, which share it evenly. 0: no limit but timeouts.queue."),
		sendProxyKey(),
		appTimeoutsKey(),
		sectionKey("health", healthKeys, func(a *App) *Health { return &a.Health },
			"How the balancers see that a node can serve."),
	}

	top := []key[Stack]{
		textKey("name", nameRule, func(s *Stack) *string { return &s.Name },
			"Tells the stacks of one machine apart."),
		hostsKey(),
		textKey("network", networkRule, func(s *Stack) *string { return &s.Network },
			"What the hosts think of the network between them: encrypted, the nodes of different hosts speak TLS with each other, by certificates of the stack's own authority; trusted, they speak in plain. Default with hosts: encrypted."),
		sectionKey("entry", entryKeys, func(s *Stack) *Entry { return &s.Entry },
			"The HTTP address that clients use."),
		numberKey("balancers", 1, maxBalancers, func(s *Stack) *int { return &s.Balancers },
			"How many HAProxy processes share the entry's port; with two, one may die."),
		appsKey(apps),
		sectionsKey("routes", routeKeys, func(s *Stack) *[]Route { return &s.Routes },
			"Which application a request goes to: the first route that matches, else the one without a condition. A single application needs none."),
		sectionsKey("tcp", tcpKeys, func(s *Stack) *[]TCPEntry { return &s.TCP },
			"Further addresses, whose bytes go to an application as they come (layer 4)."),
		sectionKey("redis", redisKeys, func(s *Stack) *Redis { return &s.Redis },
			"The replicated store: one master, its replicas, and the Sentinels that fail over."),
		backupKey(),
		sectionKey("metrics", metricsKeys, func(s *Stack) *Metrics { return &s.Metrics },
			"Where Prometheus finds the state of the stack, its nodes and its balancers."),
		sectionKey("timeouts", timeoutKeys, func(s *Stack) *Timeouts { return &s.Timeouts },
			"HAProxy's time-outs, by its names."),
		numberKey("retries", 0, 100, func(s *Stack) *int { return &s.Retries },
			"How often HAProxy tries again to reach a server before it gives up."),
		sectionKey("rollout", rolloutKeys, func(s *Stack) *Rollout { return &s.Rollout },
			"How a change reaches the nodes of an application while the stack runs: one after the other, the next when the last is in rotation and was well for a while."),
	}
	return top, apps
}

var rolloutKeys = []key[Rollout]{
	numberKey("surge", 0, maxNodes, func(r *Rollout) *int { return &r.Surge },
		"How many nodes more than its number an application has meanwhile, started before any other is stopped. One with a single node has one more in any case."),
	numberKey("parallel", 1, maxNodes, func(r *Rollout) *int { return &r.Parallel },
		"How many of its nodes are started anew at once; at most half of them."),
	durationKey("settle", 0, func(r *Rollout) *time.Duration { return &r.Settle },
		"For how long a node has to be in rotation and well before the next one follows. One that dies within it stops the change, and is put back."),
}

var entryKeys = []key[Entry]{
	textKey("listen", addressRule, func(e *Entry) *string { return &e.Listen },
		"host:port. One that is not on loopback needs tokens in every application that it leads to, or auth: none."),
	textKey("statistics", statisticsRule, func(e *Entry) *string { return &e.Statistics },
		"The path of HAProxy's statistics page; none: no page."),
	textKey("auth", authRule, func(e *Entry) *string { return &e.Auth },
		"Who may use an entry that is not on loopback. none: everybody who reaches it."),
	tlsKey(),
	textsKey("hosts", entryHostRule, false, func(e *Entry) *[]string { return &e.Hosts },
		"Host names that the entry answers to, such as www.example.com, *.example.com for all names below one, or \"*\" for every name. It does so by itself for addresses, names without a dot, this machine's name, names below localhost, internal, svc and cluster.local, and the hosts of routes and health checks. Others get 421, unless the application asks for tokens: a page of another site could have its name lead here."),
	textsKey("trusted-proxies", proxyRule, false, func(e *Entry) *[]string { return &e.TrustedProxies },
		"Addresses or networks of proxies in front, such as 10.0.0.5 or 10.0.0.0/8. Their X-Forwarded-For, Forwarded and the like reach the applications; those of others are replaced by what the balancer sees."),
	proxyProtocolKey(),
	textKey("log", logRule, func(e *Entry) *string { return &e.Log },
		"Which requests the balancers log: errors, those that failed or were tried again; all, which costs them an eighth of their time."),
	boolKey("log-path", func(e *Entry) *bool { return &e.LogPath },
		"Whether the balancers log the path of a request, without its query. It is the users' data: at a web node it has keys and values in it."),
	sectionKey("limits", limitKeys, func(e *Entry) *Limits { return &e.Limits },
		"What one balancer takes on."),
	errorsKey(),
	onKey("on", func(e *Entry) *[]string { return &e.On }, "the balancers"),
	virtualKey(),
}

var limitKeys = []key[Limits]{
	numberKey("connections", 1, maxCount, func(l *Limits) *int { return &l.Connections },
		"How many connections one balancer has at once, at the entry and again at each tcp entry; further ones wait in the kernel's queue. Default: 8000, divided by the number of entries."),
	numberKey("per-address", 0, maxCount, func(l *Limits) *int { return &l.PerAddress },
		"How many of them one client address (of IPv6, a /64 network) has at once; further ones get 429 or are closed. Of an address behind trusted-proxies its requests under way are counted instead. 0: no fixed number; an address has at most three times as many as are free, behind trusted-proxies any number."),
	numberKey("requests-per-address", 0, maxCount, func(l *Limits) *int { return &l.RequestsPerAddress },
		"How many requests a second one client address (of IPv6, a /64 network) has at most in one balancer; further ones get 429. Behind trusted-proxies the address is the last one in X-Forwarded-For. 0: any number."),
	numberKey("requests-per-token", 0, maxCount, func(l *Limits) *int { return &l.RequestsPerToken },
		"How many requests a second one token (Authorization, or _token in the query) has at most in one balancer, whether it is valid or not; further ones get 429. 0: any number."),
	numberKey("per-token", 0, maxCount, func(l *Limits) *int { return &l.PerToken },
		"How many requests of one token one balancer has under way at once, streams among them; further ones get 429. 0: any number."),
}

var healthKeys = []key[Health]{
	textKey("path", healthPathRule, func(h *Health) *string { return &h.Path },
		"Asked with GET, has to answer 2xx or 3xx; none: the port has to accept a connection. Default: /healthz/ready for kv, /healthz/live for files, / for command and image, none for servers."),
	textKey("host", healthHostRule, func(h *Health) *string { return &h.Host },
		"The Host header that path is asked with, for a program that answers to the names of its site alone."),
	durationKey("interval", 50*time.Millisecond, func(h *Health) *time.Duration { return &h.Interval },
		"The time between two checks. Default: 500ms; 2s for servers."),
	numberKey("rise", 1, 1000, func(h *Health) *int { return &h.Rise },
		"How many good checks in a row bring a node back."),
	numberKey("fall", 1, 1000, func(h *Health) *int { return &h.Fall },
		"How many bad checks in a row take a node out. Default: 2; 5 for servers."),
	startKey(),
}

// startKey is a time that Show leaves out for servers elsewhere.
func startKey() key[Health] {
	k := durationKey("start", time.Second, func(h *Health) *time.Duration { return &h.Start },
		"How long a node may take to become ready after its start; up and restart wait so long. For an image in Kubernetes, how long until it listens. Default: 30s for command, 15s for kv and files, 2m for an image in Kubernetes, which cannot be less.")
	show := k.show
	k.show = func(h *Health) any {
		if h.Start == 0 {
			return nil
		}
		return show(h)
	}
	return k
}

var metricsKeys = []key[Metrics]{
	boolKey("enabled", func(m *Metrics) *bool { return &m.Enabled },
		"Whether the supervisor has an address for Prometheus (/metrics); \"holdfast plan\" shows it."),
	textKey("listen", addressRule, func(m *Metrics) *string { return &m.Listen },
		"host:port; one that is not on loopback needs auth: none. Default: 127.0.0.1, at a port that is chosen on the first start and kept."),
	textKey("auth", authRule, func(m *Metrics) *string { return &m.Auth },
		"Who may read the metrics at an address that is not on loopback. none: everybody who reaches it."),
}

var tcpKeys = []key[TCPEntry]{
	textKey("listen", addressRule, func(e *TCPEntry) *string { return &e.Listen },
		"host:port. One that is not on loopback needs tokens in every application that it leads to, or auth: none."),
	textKey("mode", modeRule, func(e *TCPEntry) *string { return &e.Mode },
		"tcp, the only mode."),
	textKey("auth", authRule, func(e *TCPEntry) *string { return &e.Auth },
		"Who may use an entry that is not on loopback. none: everybody who reaches it."),
	textKey("app", appRule, func(e *TCPEntry) *string { return &e.App },
		"The application that gets the bytes."),
	tcpTLSKey(),
}

var redisKeys = []key[Redis]{
	boolKey("enabled", func(t *Redis) *bool { return &t.Enabled },
		"Whether Redis runs at all. Default: true when an application is kv, command or image."),
	textKey("server", serverRule, func(t *Redis) *string { return &t.Server },
		"Which server the redis nodes and Sentinels run: redis, valkey, or auto: Redis where it is installed, else Valkey. What one has written the other cannot always read, and a change that could lose data is refused."),
	numberKey("replicas", 0, maxReplicas, func(t *Redis) *int { return &t.Replicas },
		"How many copies of the master there are; one of them takes its place when it dies."),
	numberKey("sentinels", 0, maxReplicas, func(t *Redis) *int { return &t.Sentinels },
		"How many Sentinels watch the master. A majority of them fails it over: 3 bear the loss of one, 5 of two."),
	portsKey("ports", func(t *Redis) *[]int { return &t.Ports },
		"The ports of redis-1, redis-2, … in order; those left open are chosen on the first start and kept."),
	portsKey("sentinel-ports", func(t *Redis) *[]int { return &t.SentinelPorts },
		"The ports of sentinel-1, sentinel-2, … in order; those left open are chosen on the first start and kept."),
	masterPortKey(),
	onKey("on", func(t *Redis) *[]string { return &t.On }, "the redis nodes"),
	onKey("sentinels-on", func(t *Redis) *[]string { return &t.SentinelsOn }, "the Sentinels"),
	{
		name: "memory",
		doc:  "The most memory that the data of one Redis node may take (maxmemory), such as 512mb; 0: no limit.",
		read: func(r *reader, p path, n *yamltree.Node, t *Redis) {
			v, ok := r.readSize(p, n, "a size such as 512mb or 2gb, or 0 for no limit")
			if ok && v != 0 && v < 1<<20 {
				r.ReportOnce(n.Pos, "%s is %s: an empty Redis needs more; write 1mb or more, or 0 for no limit", p, n.Text)
			} else if ok {
				t.Memory = v
			}
		},
		show: func(t *Redis) any {
			if t.Memory == 0 {
				return 0
			}
			return t.Memory.Text()
		},
		schema: func() schema { return sizeSchema(0) },
	},
	textKey("memory-policy", memoryPolicyRule, func(t *Redis) *string { return &t.MemoryPolicy },
		"What happens to a write when the memory is full (maxmemory-policy); noeviction refuses it, the others drop data."),
	textKey("fsync", fsyncRule, func(t *Redis) *string { return &t.Fsync },
		"When the append-only file reaches the disk (appendfsync): always, everysec or no. The file itself is always on."),
	textsKey("save", saveRule, true, func(t *Redis) *[]string { return &t.Save },
		"Snapshots: \"SECONDS CHANGES\" each; []: none."),
	durationKey("down-after", 100*time.Millisecond, func(t *Redis) *time.Duration { return &t.DownAfter },
		"How long the master may be silent before a Sentinel holds it for down."),
	durationKey("failover-timeout", 100*time.Millisecond, func(t *Redis) *time.Duration { return &t.FailoverTimeout },
		"Sentinel's failover-timeout: a second failover of the same master waits twice as long."),
}

var timeoutKeys = []key[Timeouts]{
	durationKey("http-request", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.HTTPRequest },
		"How long a client may take to send the head of a request, and then its body, as far as a balancer keeps it before it passes it on (15 KB)."),
	durationKey("queue", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Queue },
		"How long a request may wait for a free node."),
	durationKey("connect", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Connect },
		"How long a connection to a node may take to stand."),
	durationKey("client", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Client },
		"How long a client may be silent."),
	durationKey("server", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Server },
		"How long a node may be silent."),
	durationKey("tunnel", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Tunnel },
		"How long a connection that lasts may be silent on both sides: a WebSocket, a stream of events (a request with text/event-stream in Accept), a connection of a tcp entry."),
	durationKey("http-keep-alive", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.HTTPKeepAlive },
		"How long a connection may idle between two requests."),
	durationKey("check", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.Check },
		"How long a health check may take once it is connected."),
	durationKey("hard-stop-after", time.Millisecond, func(t *Timeouts) *time.Duration { return &t.HardStop },
		"How long a balancer that takes up another configuration (a reload) goes on with what it has in hand by the former one: requests, streams, connections at layer 4 and to Redis through it. Then they are cut. Never less than server, that of an application included, nor than the longest grace of an application."),
}

// appsKey is the applications by name. Applications in the file replace the default one.
func appsKey(apps []key[App]) key[Stack] {
	return key[Stack]{
		name: "apps",
		doc:  "The applications behind the entry, by name; each is exactly one of kv, files, command, servers and image. Default: web, a kv of 2 nodes.",
		read: func(r *reader, p path, n *yamltree.Node, s *Stack) {
			if n.Shape == yamltree.Empty {
				return
			}
			s.Apps = map[string]App{}
			named, _ := r.readNames(p, n, "applications by name, such as web, and below each what runs")
			for _, e := range named {
				var a App
				readKeys(r, p.key(e.Key), e.Value, apps, &a)
				s.Apps[e.Key] = a
			}
		},
		show: func(s *Stack) any {
			out := mapping{}
			for _, name := range s.AppNames() {
				a := s.Apps[name]
				fitting := slices.DeleteFunc(slices.Clone(apps), func(k key[App]) bool { return !k.fits(a.Kind()) })
				out = append(out, pair{name, "", showKeys(fitting, &a)})
			}
			return out
		},
		schema: func() schema {
			return schema{
				"type":                 []any{"object", "null"},
				"minProperties":        1,
				"propertyNames":        schema{"pattern": nameRule.pattern.String(), "not": schema{"enum": anys(reserved)}},
				"additionalProperties": appSchema(apps),
			}
		},
	}
}

func commandKey() key[App] {
	k := textsKey("command", argumentRule, false, func(a *App) *[]string { return &a.Command },
		"The program and its arguments, a list. In an argument $HOST, $PORT and $HOLDFAST_NODE, or ${HOST} and so on, stand for the node's address and name, and $$ for a $; everything else stays as it is.")
	list := k.read
	k.read = func(r *reader, p path, n *yamltree.Node, a *App) {
		if n.Shape == yamltree.Text {
			r.ReportOnce(n.Pos, "%s is a text: write a list, such as %s; no shell takes it apart", p, exampleCommand(n.Text))
			return
		}
		list(r, p, n, a)
		if len(a.Command) > 0 && !r.faulty(p.item(0)) {
			if complaint := checkFilePath(a.Command[0], `a program, such as python3 or ./server`); complaint != "" {
				r.ReportOnce(r.positionOf(p.item(0)), "%s: %s", p, complaint)
			}
		}
	}
	k.schema = func() schema {
		return schema{"type": "array", "minItems": 1, "items": argumentRule.schema()}
	}
	return k.only(Command)
}

// masterPortKey is a port that Show leaves out where the file does not set it.
func masterPortKey() key[Redis] {
	k := numberKey("master-port", 1, 65535, func(t *Redis) *int { return &t.MasterPort },
		"The port of the balancers that always leads to the master, which REDIS_URL has. Default: chosen on the first start and kept.")
	show := k.show
	k.show = func(t *Redis) any {
		if t.MasterPort == 0 {
			return nil
		}
		return show(t)
	}
	return k
}

// keepReleasesKey is a number that Show leaves out for applications without releases.
func keepReleasesKey() key[App] {
	k := numberKey("keep-releases", 2, maxCount, func(a *App) *int { return &a.KeepReleases },
		"How many copies of release are kept. One that a node runs, and the last two that ran, are kept in any case.").only(Command)
	show := k.show
	k.show = func(a *App) any {
		if a.Release == "" {
			return nil
		}
		return show(a)
	}
	return k
}

func envKey() key[App] {
	return key[App]{
		name:  "env",
		doc:   "Added to the program's environment, beside HOST, PORT, HOLDFAST_NODE, REDIS_URL and, for a command alone, REDIS_SENTINELS and REDIS_MASTER_NAME; in a value, $ and one of these names, or ${NAME}, stand for its value, and $$ for a $.",
		kinds: []Kind{Command, Image},
		read: func(r *reader, p path, n *yamltree.Node, a *App) {
			named, _ := r.readNames(p, n, "variables, such as LOG_LEVEL: debug, below it")
			for _, e := range named {
				below := p.key(e.Key)
				if complaint := checkVariable(e.Key); complaint != "" {
					r.ReportOnce(e.At, "%s: %s", p, complaint)
					continue
				}
				if v, ok := r.readText(below, e.Value, envValueRule); ok {
					if a.Env == nil {
						a.Env = map[string]string{}
					}
					a.Env[e.Key] = v
				}
			}
		},
		show: func(a *App) any {
			if len(a.Env) == 0 {
				return nil
			}
			out := mapping{}
			for _, name := range sortedKeys(a.Env) {
				out = append(out, pair{name, "", a.Env[name]})
			}
			return out
		},
		schema: func() schema {
			return schema{
				"type":                 []any{"object", "null"},
				"propertyNames":        schema{"pattern": variable.String(), "not": schema{"enum": anys(ownVariables)}},
				"additionalProperties": envValueRule.schema(),
			}
		},
	}
}
