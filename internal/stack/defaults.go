package stack

import (
	"maps"
	"slices"
	"time"
)

// entryConnections is how many connections a balancer takes by default, for all entries together.
// With those to Redis it then needs 18,000 open files. One client address gets at most three
// quarters, so two balancers serve thousands of clients behind one address.
const entryConnections = 8000

// keptBackups is how many backups are kept by default: a day's, if one is taken every hour.
const keptBackups = 24

// Default returns the stack of an empty file: a two-node web application on Redis with a master and
// two replicas.
func Default() Stack {
	s := base()
	fill(&s, func(path) bool { return false })
	return s
}

// base returns every default that does not depend on another value. The others are in fill.
func base() Stack {
	return Stack{
		Name: "holdfast",
		Entry: Entry{
			Listen:     "127.0.0.1:6301",
			Statistics: "/web-app",
			Log:        "errors",
			Limits:     Limits{Connections: entryConnections},
		},
		Balancers: 2,
		Apps:      map[string]App{"web": {KV: newKV()}},
		Redis: Redis{
			Replicas:        2,
			Sentinels:       3,
			MemoryPolicy:    "noeviction",
			Server:          ServerAuto,
			Fsync:           "everysec",
			Save:            []string{"900 1", "300 10", "60 10000"},
			DownAfter:       500 * time.Millisecond,
			FailoverTimeout: 2 * time.Second,
		},
		Metrics: Metrics{Enabled: true},
		Timeouts: Timeouts{
			HTTPRequest: 10 * time.Second,
			Queue:       time.Minute,
			// A host that is gone does not answer at all. A request waits this long, times the
			// retries, before it reaches another node.
			Connect: 2 * time.Second,
			Client:  time.Minute,
			Server:  time.Minute,
			// A lasting connection may have nothing to send for a long time. TCP keep-alive, and
			// not this time-out, finds out that a client is gone.
			Tunnel:        time.Hour,
			HTTPKeepAlive: 10 * time.Second,
			// A hung node accepts connections and does not answer: each check of it takes this long
			// to fail.
			Check: 2 * time.Second,
			// It is longer than a long poll may wait or a stream may be silent.
			HardStop: 90 * time.Second,
		},
		Retries: 3,
		// Most programs that die after their start do so within this time: by then they have tried
		// their database, or read their configuration.
		Rollout: Rollout{Parallel: 1, Settle: 3 * time.Second},
	}
}

// fill sets the values that depend on others, where has reports that the file does not set them.
func fill(s *Stack, has func(path) bool) {
	for name, a := range s.Apps {
		p := path("apps").key(name)
		if kind, _ := appKind(p, has, a); kind != "" {
			fillApp(&a, kind, func(k path) bool { return has(p + "/" + k) })
			s.Apps[name] = a
		}
		if a.Kind() == KV || a.Kind().IsProgram() {
			s.Redis.Enabled = s.Redis.Enabled || !has("redis/enabled")
		}
	}

	if s.Backup.To != "" && !has("backup/keep") {
		s.Backup.Keep = keptBackups
	}
	if len(s.Hosts) > 0 && !has("network") {
		s.Network = Encrypted
	}

	fillVirtual(&s.Entry.Virtual, has)
	for i := range s.TCP {
		if s.TCP[i].Mode == "" {
			s.TCP[i].Mode = "tcp"
		}
	}

	if !has("entry/limits/connections") {
		s.Entry.Limits.Connections = entryConnections / (1 + len(s.TCP))
	}
	if names := s.AppNames(); len(names) == 1 && len(s.Routes) == 0 {
		s.Routes = []Route{{App: names[0]}}
	}

	for name, a := range s.Apps {
		if a.KV != nil && !has(path("apps").key(name).key("connections")) {
			a.Connections = kvConnections(*a.KV, s.Shares(name))
			s.Apps[name] = a
		}
		if a.KV != nil && !has(path("apps").key(name).key("kv").key("limits").key("streams")) {
			a.KV.Limits.Streams = s.kvStreams(*a.KV)
		}
	}
}

// fillApp gives an application the defaults of its kind.
func fillApp(a *App, kind Kind, has func(path) bool) {
	if kind != Servers {
		if !has("nodes") {
			a.Nodes = map[Kind]int{KV: 2, Files: 1, Command: 2, Image: 2}[kind]
		}
		if !has("stop-signal") {
			a.StopSignal = "SIGTERM"
		}
		if !has("grace") {
			a.Grace = 10 * time.Second
		}
	}

	if kind == Image && !has("port") {
		a.Port = 8080
	}
	if a.Release != "" && !has("keep-releases") {
		a.KeepReleases = 5
	}
	if a.KV != nil {
		fillKV(a.KV, func(k path) bool { return has("kv/" + k) })
	}

	h := Health{
		// A directory need not have a page at "/": the files node answers at a path of its own as
		// long as the directory exists.
		Path: map[Kind]string{KV: "/healthz/ready", Files: "/healthz/live", Command: "/", Servers: "", Image: "/"}[kind],
		// A node that hangs gets requests until fall checks in a row have failed, each after
		// interval and timeouts.check: 2 x (0.5 s + 2 s). The usual "inter 2000 fall 5" with a
		// time-out of 10 s would send it requests for a minute, and for 10 s to a node whose port
		// is closed. It takes two checks, because a single late answer is not a fault.
		Interval: 500 * time.Millisecond,
		// Frameworks that check the Host header accept this name by default in development. They do
		// not accept a node's address.
		Host:  "localhost",
		Rise:  2,
		Fall:  2,
		Start: 15 * time.Second,
	}

	if kind == Command {
		h.Start = 30 * time.Second // a user's program may have much to load
	}
	if kind.Elsewhere() {
		h.Start = 0 // Holdfast does not start them
	}
	if kind == Servers {
		// Servers elsewhere are checked as gently as is usual.
		h.Interval, h.Fall = 2*time.Second, 5
	}
	if has("health/path") {
		h.Path = a.Health.Path
	}
	if has("health/host") {
		h.Host = a.Health.Host
	}
	if has("health/interval") {
		h.Interval = a.Health.Interval
	}
	if has("health/rise") {
		h.Rise = a.Health.Rise
	}
	if has("health/fall") {
		h.Fall = a.Health.Fall
	}
	if has("health/start") {
		h.Start = a.Health.Start
	}

	a.Health = h
}

// appKind returns the kind of an application by the keys that the file has, even if their values
// are wrong, and all kinds that the file gives it. The first result is empty unless there is
// exactly one. Where the file has none of these keys, the values decide.
func appKind(p path, has func(path) bool, a App) (Kind, []Kind) {
	var kinds []Kind
	for _, k := range Kinds {
		if has(p.key(string(k))) {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 && a.Kind() != "" {
		kinds = []Kind{a.Kind()}
	}
	if len(kinds) == 1 {
		return kinds[0], kinds
	}
	return "", kinds
}

// AppNames returns the names of the applications, sorted.
func (s Stack) AppNames() []string { return sortedKeys(s.Apps) }

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
