package stack

import (
	"maps"
	"slices"
	"time"
)

// entryConnections is how many connections a balancer takes by default, at all
// entries together. With those to Redis it needs 18,000 open files then. One
// client address gets three quarters at most, so that thousands of clients behind
// one address are served by two balancers.
const entryConnections = 8000

// keptBackups is how many backups are kept by default: those of a day, when one is
// taken every hour.
const keptBackups = 24

// Default is the stack of an empty file: the topology of a two-node web
// application on Redis with a master and two replicas.
func Default() Stack {
	s := base()
	fill(&s, func(path) bool { return false })
	return s
}

// base has every default that does not depend on another value; the rest is in
// fill.
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
			// A host that is gone answers nothing at all: a request waits
			// this long, times the retries, before it reaches another node.
			Connect: 2 * time.Second,
			Client:  time.Minute,
			Server:  time.Minute,
			// What lasts may have nothing to say for long. Who is gone is found out by
			// the kernel (TCP keep-alive), not by this.
			Tunnel:        time.Hour,
			HTTPKeepAlive: 10 * time.Second,
			// A hung node accepts connections and says nothing: each check
			// of it takes this long to fail.
			Check: 2 * time.Second,
			// Longer than a long poll waits, and a stream is silent.
			HardStop: 90 * time.Second,
		},
		Retries: 3,
		// Most programs that start and then die do so within it: they have tried
		// their database, or read their configuration.
		Rollout: Rollout{Parallel: 1, Settle: 3 * time.Second},
	}
}

// fill gives the values that depend on others, where has says that the file
// does not have them.
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
		// A directory need not have a page at "/": the files node answers at a
		// path of its own as long as the directory is there.
		Path: map[Kind]string{KV: "/healthz/ready", Files: "/healthz/live", Command: "/", Servers: "", Image: "/"}[kind],
		// A node that hangs gets requests until fall checks in a row have
		// failed, each after interval and timeouts.check: 2 x (0.5 s + 2 s).
		// The customary "inter 2000 fall 5" with a time-out of 10 s would
		// feed it for a minute, and a node whose port is closed for 10 s. Two
		// checks, not one, since a single late answer is no fault.
		Interval: 500 * time.Millisecond,
		// What frameworks that look at the Host header let through by default,
		// while they develop; a node's own address is in no such list.
		Host:  "localhost",
		Rise:  2,
		Fall:  2,
		Start: 15 * time.Second,
	}
	if kind == Command {
		h.Start = 30 * time.Second // not ours: it may load what it likes
	}
	if kind.Elsewhere() {
		h.Start = 0 // somebody else starts them
	}
	if kind == Servers {
		// Servers elsewhere are asked as gently as is customary.
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

// appKind is the kind of an application by the keys that the file has, right
// or wrong, and all kinds that it has. The kind is empty unless there is
// exactly one. Without a file, the values decide.
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

// AppNames are the names of the applications, sorted.
func (s Stack) AppNames() []string { return sortedKeys(s.Apps) }

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
