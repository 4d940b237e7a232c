// Package stack holds the declared stack: what a user writes in holdfast.yaml,
// with every default, and the rules that a stack has to keep. It is pure:
// bytes in, values and complaints out. It reads no file, opens no port and
// asks nobody for the time; what follows from a stack is package plan's.
package stack

import (
	"cmp"
	"slices"
	"time"
)

// Stack is a whole declared stack with every default filled in. Default and
// Parse are the ways to get one.
type Stack struct {
	// Name tells stacks on one machine apart; it is part of their state
	// directory's path. Lower-case letters, digits and dashes, a letter
	// first, 32 characters at most.
	Name string `yaml:"name"`
	// Hosts are the machines that it runs on, in the order of the file; none: the one
	// that Holdfast runs on.
	Hosts []Host `yaml:"hosts"`
	// Network is Encrypted or Trusted: how the nodes of different hosts speak with each
	// other. Empty: there are no hosts.
	Network string `yaml:"network"`
	// Entry is the address that clients use.
	Entry Entry `yaml:"entry"`
	// Balancers is how many HAProxy processes share the entry's port.
	Balancers int `yaml:"balancers"`
	// Apps are the applications behind the entry, by name.
	Apps map[string]App `yaml:"apps"`
	// Routes choose the application of a request: the first that matches,
	// else the one without a condition.
	Routes []Route `yaml:"routes"`
	// TCP are further entries, at layer 4.
	TCP []TCPEntry `yaml:"tcp"`
	// Redis is the replicated store.
	Redis Redis `yaml:"redis"`
	// Backup is about copies of its data.
	Backup Backup `yaml:"backup"`
	// Metrics is where Prometheus finds how the stack is.
	Metrics Metrics `yaml:"metrics"`
	// Timeouts are HAProxy's.
	Timeouts Timeouts `yaml:"timeouts"`
	// Retries is how often HAProxy tries to reach a server before it gives
	// up (its "retries").
	Retries int `yaml:"retries"`
	// Rollout is how a change reaches the nodes of an application.
	Rollout Rollout `yaml:"rollout"`
}

// Rollout is how a change reaches the nodes of an application.
type Rollout struct {
	// Surge is how many nodes more than its number an application has meanwhile. One
	// with a single node has one more in any case.
	Surge int `yaml:"surge"`
	// Parallel is how many of its nodes are started anew at once.
	Parallel int `yaml:"parallel"`
	// Settle is for how long a node has to be well before the next one follows.
	Settle time.Duration `yaml:"settle"`
}

// Entry is the HTTP address of the stack.
type Entry struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// Statistics is the path of HAProxy's statistics page; empty: none.
	Statistics string `yaml:"statistics"`
	// TLS is how the entry speaks TLS; zero: it does not.
	TLS TLS `yaml:"tls"`
	// Hosts are names that the entry answers to, where an application behind it
	// takes no tokens, beside those that nobody else can have: see package
	// hostname.
	Hosts []string `yaml:"hosts"`
	// Auth says who may use an entry that is not on loopback. The only
	// value is "none": everybody who can reach it. Without it every
	// application behind the entry has to ask for tokens.
	Auth string `yaml:"auth"`
	// TrustedProxies are the addresses, or networks (10.0.0.0/8), of proxies
	// that clients come through: what these say of a client is passed on
	// (X-Forwarded-For and its kin). What anybody else says of itself is
	// replaced by what the balancer sees.
	TrustedProxies []string `yaml:"trusted-proxies"`
	// ProxyProtocol is true where these proxies pass connections on unread, and say first
	// from whom each is (the PROXY protocol).
	ProxyProtocol bool `yaml:"proxy-protocol"`
	// Log is which requests the balancers log: all, or errors, which are those
	// that failed or were tried again.
	Log string `yaml:"log"`
	// LogPath puts the path of a request, without its query, into that log.
	LogPath bool `yaml:"log-path"`
	// Limits bound what one balancer takes on.
	Limits Limits `yaml:"limits"`
	// Errors are pages of HTML, by status, for what a balancer answers by itself.
	Errors map[string]string `yaml:"errors"`
	// On are the hosts of the balancers; none: all that take them.
	On []string `yaml:"on"`
	// Virtual is the address that moves between the hosts of the balancers.
	Virtual Virtual `yaml:"virtual"`
}

// OnLoopback reports whether only this machine reaches the entry.
func (e Entry) OnLoopback() bool { return onLoopback(e.Listen) }

// Limits bound what one balancer takes on.
type Limits struct {
	// Connections at once, per balancer (HAProxy's maxconn); further ones
	// wait in the kernel's queue.
	Connections int `yaml:"connections"`
	// PerAddress is how many of them one client address has at most; 0: three
	// times as many as are free.
	PerAddress int `yaml:"per-address"`
	// RequestsPerAddress is how many requests a second one client address has at most,
	// RequestsPerToken how many one token has, and PerToken how many of its requests are
	// under way at once; 0: any number.
	RequestsPerAddress int `yaml:"requests-per-address"`
	RequestsPerToken   int `yaml:"requests-per-token"`
	PerToken           int `yaml:"per-token"`
}

// CountsRequests reports whether the balancers count the requests of one client.
func (l Limits) CountsRequests() bool {
	return l.RequestsPerAddress+l.RequestsPerToken+l.PerToken > 0
}

// TCPEntry is an address whose bytes go to an application as they come.
type TCPEntry struct {
	Listen string `yaml:"listen"`
	Mode   string `yaml:"mode"` // "tcp"
	// Auth is as in Entry.
	Auth string `yaml:"auth"`
	App  string `yaml:"app"`
	// TLS is how it speaks TLS; zero: it does not.
	TLS TLS `yaml:"tls"`
}

// Metrics is the address at which the supervisor tells Prometheus of itself, of every
// node, and of the balancers.
type Metrics struct {
	Enabled bool `yaml:"enabled"`
	// Listen is host:port; empty: 127.0.0.1 and a port that is chosen on the first
	// start and kept.
	Listen string `yaml:"listen"`
	// Auth is as in Entry.
	Auth string `yaml:"auth"`
}

// Kind says what runs an application.
type Kind string

// The kinds of application. An application has exactly one.
const (
	KV      Kind = "kv"      // Holdfast's own web node: Redis over HTTP
	Files   Kind = "files"   // a directory, served as it is
	Command Kind = "command" // the user's own program
	Servers Kind = "servers" // addresses that run elsewhere
	Image   Kind = "image"   // the user's own container image
)

// Kinds are all kinds of application.
var Kinds = []Kind{KV, Files, Command, Servers, Image}

// Elsewhere reports whether something other than Holdfast runs the nodes.
func (k Kind) Elsewhere() bool { return k == Servers || k == Image }

// IsProgram reports whether the nodes are programs of the user's own that belong to the
// stack: they have a user at its Redis.
func (k Kind) IsProgram() bool { return k == Command || k == Image }

// App is one application: a HAProxy backend and, but for kinds that run elsewhere, the
// nodes behind it.
type App struct {
	// KV is set when the application is Holdfast's own web node.
	KV *KVApp `yaml:"kv"`
	// Files is the directory to serve; relative to the stack file.
	Files string `yaml:"files"`
	// Command is the user's program and its arguments, which are expanded for
	// each node: see Expand.
	Command []string `yaml:"command"`
	// Servers are host:port addresses that something else runs.
	Servers []string `yaml:"servers"`
	// Image is the container image of the user's program. An export for containers makes
	// its nodes, and writes their addresses to At.
	Image string `yaml:"image"`
	// Args are the arguments of an Image's program; none: those of the image.
	Args []string `yaml:"args"`
	// Port is where an Image's program listens in its container.
	Port int `yaml:"port"`
	// At are the addresses (host:port) of an Image's nodes, in order; empty: there are no
	// containers yet.
	At []string `yaml:"at"`

	// Nodes is how many processes run; not for Servers.
	Nodes int `yaml:"nodes"`
	// Ports are the nodes' ports in order; those left open are chosen on
	// the first start and kept.
	Ports []int `yaml:"ports"`
	// On are the hosts of its nodes; none: all that take them.
	On []string `yaml:"on"`

	// Dir is a Command's working directory; relative to Release where there is one, else
	// to the stack file.
	Dir string `yaml:"dir"`
	// Release is the directory of a Command's files, of which its nodes run copies, so
	// that an older version can come back; relative to the stack file. Empty: they run
	// where their files lie.
	Release string `yaml:"release"`
	// KeepReleases is how many copies of Release are kept, those in use beside.
	KeepReleases int `yaml:"keep-releases"`
	// Digest names the copy that the nodes run from; empty: there is none yet. No
	// stack file has it.
	Digest string `yaml:"-"`
	// Found is how the balancers find the nodes of a KV by DNS; nil: the plan names the nodes.
	// No stack file has it.
	Found *Found `yaml:"-"`
	// Env is added to a Command's environment; its values are expanded, too.
	Env map[string]string `yaml:"env"`
	// Redis is what a Command may do at the stack's Redis, beside the data commands
	// in database 0.
	Redis RedisAccess `yaml:"redis"`
	// StopSignal asks a Command to end: SIGTERM, SIGINT, SIGQUIT, SIGHUP,
	// SIGUSR1 or SIGUSR2.
	StopSignal string `yaml:"stop-signal"`
	// Grace is how long a node may take to end before it is killed.
	Grace time.Duration `yaml:"grace"`

	// Sticky is the name of the cookie that keeps a client on its node;
	// empty: none.
	Sticky string `yaml:"sticky"`
	// Connections is how many requests one node gets at once, from all
	// balancers together; the rest wait in the balancers. 0: no limit.
	Connections int `yaml:"connections"`
	// Queue is how many requests may wait for one node beyond Connections, in
	// all balancers together (HAProxy's maxqueue); 0: no limit but
	// Timeouts.Queue.
	Queue int `yaml:"queue"`
	// SendProxy is true where a node is told first whose each connection is (the PROXY
	// protocol).
	SendProxy bool `yaml:"send-proxy"`
	// Timeouts are those that an application of other people's making has of its own.
	Timeouts AppTimeouts `yaml:"timeouts"`
	// Health is how the balancers and the supervisor see that a node can
	// serve.
	Health Health `yaml:"health"`
}

// Kind is the kind of the application; empty when it has none or several,
// which no validated stack does.
func (a App) Kind() Kind {
	var kinds []Kind
	if a.KV != nil {
		kinds = append(kinds, KV)
	}
	if a.Files != "" {
		kinds = append(kinds, Files)
	}
	if len(a.Command) > 0 {
		kinds = append(kinds, Command)
	}
	if len(a.Servers) > 0 {
		kinds = append(kinds, Servers)
	}
	if a.Image != "" {
		kinds = append(kinds, Image)
	}
	if len(kinds) != 1 {
		return ""
	}
	return kinds[0]
}

// Found is where balancers find nodes that the plan of none of them names.
type Found struct {
	At string // their DNS name and port
	// Nodes and Balancers are how many the stack file has, for the limits that they share.
	Nodes, Balancers int
}

// Programs are the names of the applications that are the user's own programs and
// have Redis, in order.
func (s Stack) Programs() []string {
	if !s.Redis.Enabled {
		return nil
	}
	return slices.DeleteFunc(s.AppNames(), func(name string) bool { return !s.Apps[name].Kind().IsProgram() })
}

// ServesElsewhere reports whether balancers send requests to servers that do not end with
// the stack's own nodes: those that the stack file names, or that are found by DNS.
func (s Stack) ServesElsewhere() bool {
	for _, a := range s.Apps {
		if a.Kind().Elsewhere() || a.Found != nil {
			return true
		}
	}
	return false
}

// RedisAccess is what a program's Redis user may do beyond what every program may.
type RedisAccess struct {
	// Allow are dangerous commands, and those that change everybody's scripts and
	// functions; @dangerous is all of the first.
	Allow []string `yaml:"allow"`
	// Patterns are those that it may subscribe to, as it writes them (PSUBSCRIBE).
	Patterns []string `yaml:"patterns"`
	// Databases are those that it may select beside database 0.
	Databases []int `yaml:"databases"`
}

// AllowedCommands are the commands that Allow names, in order.
func (a RedisAccess) AllowedCommands() []string { return allowedCommands(a.Allow) }

// Health is a health check. HAProxy manual, section 5.2: inter, rise, fall.
type Health struct {
	// Path is asked with GET and has to answer 2xx or 3xx. Empty: the port
	// has to accept a connection.
	Path string `yaml:"path"`
	// Host is the Host header of the question, perhaps with a port.
	Host string `yaml:"host"`
	// Interval is the time between two checks.
	Interval time.Duration `yaml:"interval"`
	// Rise and Fall are how many checks in a row bring a node back or take
	// it out.
	Rise int `yaml:"rise"`
	Fall int `yaml:"fall"`
	// Start is how long a node may take to become ready once it is started;
	// not for Servers.
	Start time.Duration `yaml:"start"`
}

// SlowestStart is the longest that a node of any application may take to
// become ready.
func (s Stack) SlowestStart() time.Duration {
	var longest time.Duration
	for _, app := range s.Apps {
		longest = max(longest, app.Health.Start)
	}
	return longest
}

// Redis is the replicated store: one master, Replicas replicas, and Sentinels
// to fail over.
type Redis struct {
	// Enabled is true when any application needs Redis (KV, Command), unless
	// the file says otherwise.
	Enabled bool `yaml:"enabled"`
	// Server is which server program the redis nodes and Sentinels run: auto, redis or
	// valkey.
	Server   string `yaml:"server"`
	Replicas int    `yaml:"replicas"`
	// Sentinels is how many watch the master. A majority of them decides.
	Sentinels int `yaml:"sentinels"`
	// Ports of redis-1, redis-2, …; SentinelPorts of sentinel-1, …. Those
	// left open are chosen on the first start and kept.
	Ports         []int `yaml:"ports"`
	SentinelPorts []int `yaml:"sentinel-ports"`
	// MasterPort is the balancers' port that always leads to the master; 0: it is chosen on
	// the first start and kept.
	MasterPort int `yaml:"master-port"`
	// On are the hosts of the redis nodes, SentinelsOn those of the Sentinels; none: all
	// that take them.
	On          []string `yaml:"on"`
	SentinelsOn []string `yaml:"sentinels-on"`
	// Memory is Redis' maxmemory in bytes; 0: no limit.
	Memory Bytes `yaml:"memory"`
	// MemoryPolicy is Redis' maxmemory-policy.
	MemoryPolicy string `yaml:"memory-policy"`
	// Fsync is Redis' appendfsync: always, everysec or no. The append-only
	// file itself is always on: without it a master reborn empty would wipe
	// its replicas.
	Fsync string `yaml:"fsync"`
	// Save are Redis' snapshot points, "seconds changes" each.
	Save []string `yaml:"save"`
	// DownAfter is how long a master may be silent before a Sentinel holds
	// it for down (down-after-milliseconds).
	DownAfter time.Duration `yaml:"down-after"`
	// FailoverTimeout is Sentinel's failover-timeout: a second failover of
	// the same master waits twice as long.
	FailoverTimeout time.Duration `yaml:"failover-timeout"`
}

// The servers that redis.server may name. ServerAuto is the first of the others that is
// installed.
const (
	ServerAuto   = "auto"
	ServerRedis  = "redis"
	ServerValkey = "valkey"
)

// Bytes is a size in bytes; in a file 512mb, 2gb (powers of 1024).
type Bytes int64

// AppTimeouts are time-outs of HAProxy's of one application; 0: the stack's.
type AppTimeouts struct {
	Server time.Duration `yaml:"server"`
	Tunnel time.Duration `yaml:"tunnel"`
}

// Of are an application's time-outs.
func (t Timeouts) Of(a App) AppTimeouts {
	return AppTimeouts{cmp.Or(a.Timeouts.Server, t.Server), cmp.Or(a.Timeouts.Tunnel, t.Tunnel)}
}

// Timeouts are HAProxy's, by its names (manual, section 4.2, "timeout …").
type Timeouts struct {
	HTTPRequest time.Duration `yaml:"http-request"`
	Queue       time.Duration `yaml:"queue"`
	Connect     time.Duration `yaml:"connect"`
	Client      time.Duration `yaml:"client"`
	Server      time.Duration `yaml:"server"`
	// Tunnel is for connections that last: WebSockets, streams of events, layer 4.
	Tunnel        time.Duration `yaml:"tunnel"`
	HTTPKeepAlive time.Duration `yaml:"http-keep-alive"`
	Check         time.Duration `yaml:"check"`
	// HardStop is for what a balancer has in hand when it takes up another configuration.
	HardStop time.Duration `yaml:"hard-stop-after"`
}
