// Package stack is the declared stack: what a user writes in holdfast.yaml, with every default
// filled in, and the rules that it has to follow. It is pure: bytes in, values and complaints out.
// It reads no other file, opens no port and looks at no clock.
//
// Parse is the way in. It turns the YAML into a tree (tree.go), reads each section by a table of
// keys (key.go, keys*.go), fills in the defaults (defaults.go), and checks what concerns several
// values (validate*.go, hosts.go, virtual.go, tls.go). Mistakes have a line and a column; Warnings
// are about what is seldom meant.
//
// The same tables print a stack (Show), describe the file for editors (Schema), and find the
// Differences of two stacks. Overrides are changes made at run time, which the file does not have.
//
// What a stack amounts to on its hosts is package plan's.
package stack

import (
	"cmp"
	"slices"
	"time"
)

// Stack is a whole declared stack with every default filled in. It comes from Default or Parse.
type Stack struct {
	// Name distinguishes the stacks of a machine, and is part of the path of the state directory:
	// lower-case letters, digits and dashes, a letter first, 32 characters at most.
	Name string `yaml:"name"`
	// Hosts are the machines that it runs on, in the order of the file; empty: the one that
	// Holdfast runs on.
	Hosts []Host `yaml:"hosts"`
	// Network is how the nodes of different hosts communicate: Encrypted or Trusted; empty: there
	// are no hosts.
	Network string `yaml:"network"`
	// Entry is the address that clients use.
	Entry Entry `yaml:"entry"`
	// Balancers is how many HAProxy processes share the entry's port.
	Balancers int `yaml:"balancers"`
	// Apps are the applications behind the entry, by name.
	Apps map[string]App `yaml:"apps"`
	// Routes choose the application of a request: the first route that matches, or else the route
	// without a condition.
	Routes []Route `yaml:"routes"`
	// TCP are further entries at layer 4.
	TCP []TCPEntry `yaml:"tcp"`
	// Redis is the replicated store.
	Redis Redis `yaml:"redis"`
	// Backup is when and where the data of Redis is backed up.
	Backup Backup `yaml:"backup"`
	// Metrics is where Prometheus finds the stack's metrics.
	Metrics Metrics `yaml:"metrics"`
	// Timeouts are HAProxy's time-outs.
	Timeouts Timeouts `yaml:"timeouts"`
	// Retries is how often HAProxy tries again to reach a server before it gives up (its "retries").
	Retries int `yaml:"retries"`
	// Rollout is how a change reaches the nodes of an application.
	Rollout Rollout `yaml:"rollout"`
}

// Rollout is how a change reaches the nodes of an application.
type Rollout struct {
	// Surge is how many additional nodes an application has during a change. An application with a
	// single node has one in any case.
	Surge int `yaml:"surge"`
	// Parallel is how many of its nodes restart at once.
	Parallel int `yaml:"parallel"`
	// Settle is how long a node has to be well before the next one follows.
	Settle time.Duration `yaml:"settle"`
}

// Entry is the HTTP address of the stack.
type Entry struct {
	// Listen is host:port.
	Listen string `yaml:"listen"`
	// Statistics is the path of HAProxy's statistics page; empty: there is no such page.
	Statistics string `yaml:"statistics"`
	// TLS is how the entry speaks TLS; zero: without TLS.
	TLS TLS `yaml:"tls"`
	// Hosts are the host names that the entry serves for applications without tokens, besides those
	// that nobody else can have (see package hostname).
	Hosts []string `yaml:"hosts"`
	// Auth is who may use an entry that is not on loopback. The only value is "none": everybody who
	// can reach it. Without it every application behind the entry has to require tokens.
	Auth string `yaml:"auth"`
	// TrustedProxies are the addresses or networks (10.0.0.0/8) of the proxies that clients come
	// through. What these tell about a client is passed on (X-Forwarded-For and the like). What any
	// other sender claims is replaced by what the balancer sees.
	TrustedProxies []string `yaml:"trusted-proxies"`
	// ProxyProtocol is true where these proxies pass connections on unread, each preceded by the
	// client's address (the PROXY protocol).
	ProxyProtocol bool `yaml:"proxy-protocol"`
	// Log is which requests the balancers log: all, or errors, which are those that failed or were
	// retried.
	Log string `yaml:"log"`
	// LogPath puts the path of a request, without its query, into that log.
	LogPath bool `yaml:"log-path"`
	// Limits limit what one balancer accepts.
	Limits Limits `yaml:"limits"`
	// Errors are pages of HTML, by status, for the answers that a balancer gives by itself.
	Errors map[string]string `yaml:"errors"`
	// On are the hosts of the balancers; empty: all that may have them.
	On []string `yaml:"on"`
	// Virtual is the address that moves between the hosts of the balancers.
	Virtual Virtual `yaml:"virtual"`
}

// OnLoopback reports whether only this machine can reach the entry.
func (e Entry) OnLoopback() bool { return onLoopback(e.Listen) }

// Limits limit what one balancer accepts.
type Limits struct {
	// Connections is how many connections a balancer has at once (HAProxy's maxconn). Further ones
	// wait in the kernel's queue.
	Connections int `yaml:"connections"`
	// PerAddress is how many of them one client address may have; 0: three times as many as are
	// free.
	PerAddress int `yaml:"per-address"`
	// RequestsPerAddress is how many requests a second one client address may send,
	// RequestsPerToken how many with one token, and PerToken how many requests with one token may
	// be under way at once; 0: any number.
	RequestsPerAddress int `yaml:"requests-per-address"`
	RequestsPerToken   int `yaml:"requests-per-token"`
	PerToken           int `yaml:"per-token"`
}

// CountsRequests reports whether the balancers count the requests of one client.
func (l Limits) CountsRequests() bool {
	return l.RequestsPerAddress+l.RequestsPerToken+l.PerToken > 0
}

// TCPEntry is an address whose connections are passed on to an application as they are.
type TCPEntry struct {
	Listen string `yaml:"listen"`
	Mode   string `yaml:"mode"` // "tcp"
	// Auth is the same as in Entry.
	Auth string `yaml:"auth"`
	App  string `yaml:"app"`
	// TLS is how the entry speaks TLS; zero: without TLS.
	TLS TLS `yaml:"tls"`
}

// Metrics is the address at which the supervisor has the metrics of itself, of every node and of
// the balancers, for Prometheus.
type Metrics struct {
	Enabled bool `yaml:"enabled"`
	// Listen is host:port; empty: 127.0.0.1 and a port that is chosen on the first start and kept.
	Listen string `yaml:"listen"`
	// Auth is the same as in Entry.
	Auth string `yaml:"auth"`
}

// Kind is what runs an application.
type Kind string

// The kinds of application. An application has exactly one.
const (
	KV      Kind = "kv"      // Holdfast's own web node: Redis over HTTP
	Files   Kind = "files"   // a directory, served as it is
	Command Kind = "command" // the user's own program
	Servers Kind = "servers" // servers that run elsewhere
	Image   Kind = "image"   // the user's own container image
)

// Kinds are all kinds of application.
var Kinds = []Kind{KV, Files, Command, Servers, Image}

// Elsewhere reports whether something other than Holdfast runs the nodes.
func (k Kind) Elsewhere() bool { return k == Servers || k == Image }

// IsProgram reports whether the nodes are user programs that belong to the stack. Such a program
// has a user at the stack's Redis.
func (k Kind) IsProgram() bool { return k == Command || k == Image }

// App is one application: a HAProxy backend, and, unless the application runs elsewhere, the nodes
// behind it.
type App struct {
	// KV is set when the application is Holdfast's own web node.
	KV *KVApp `yaml:"kv"`
	// Files is the directory to serve; relative to the stack file.
	Files string `yaml:"files"`
	// Command is the user's program and its arguments. Expand replaces variables in the arguments
	// for each node.
	Command []string `yaml:"command"`
	// Servers are the addresses (host:port) of servers that something else runs.
	Servers []string `yaml:"servers"`
	// Image is the container image of the user's program. An export for containers creates its
	// nodes and writes their addresses to At.
	Image string `yaml:"image"`
	// Args are the arguments of an Image's program; empty: those of the image.
	Args []string `yaml:"args"`
	// Port is where an Image's program listens in its container.
	Port int `yaml:"port"`
	// At are the addresses (host:port) of an Image's nodes, in order; empty: there are no
	// containers yet.
	At []string `yaml:"at"`

	// Nodes is how many processes run; unused for Servers.
	Nodes int `yaml:"nodes"`
	// Ports are the nodes' ports in order. Ports that are not given are chosen on the first start
	// and kept.
	Ports []int `yaml:"ports"`
	// On are the hosts of its nodes; empty: all that may have them.
	On []string `yaml:"on"`

	// Dir is a Command's working directory, relative to Release or, without Release, to the stack
	// file.
	Dir string `yaml:"dir"`
	// Release is the directory of a Command's files, relative to the stack file. The nodes run from
	// copies of it, so that an older version can come back. Empty: they run from the files
	// themselves.
	Release string `yaml:"release"`
	// KeepReleases is how many copies of Release are kept, besides those in use.
	KeepReleases int `yaml:"keep-releases"`
	// Digest names the copy that the nodes run from; empty: there is no copy yet. It cannot be set
	// in a stack file.
	Digest string `yaml:"-"`
	// Discovery is how the balancers find the nodes of a KV or an Image by DNS; nil: the plan names
	// the nodes.
	// It cannot be set in a stack file.
	Discovery *Discovery `yaml:"-"`
	// Env is added to a Command's environment. Expand replaces variables in its values.
	Env map[string]string `yaml:"env"`
	// Redis is what a Command may do in the stack's Redis besides the data commands in database 0.
	Redis RedisAccess `yaml:"redis"`
	// StopSignal asks a Command to end: SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or SIGUSR2.
	StopSignal string `yaml:"stop-signal"`
	// Grace is how long a node may take to end before it is killed.
	Grace time.Duration `yaml:"grace"`

	// Sticky is the name of the cookie that keeps a client on its node; empty: there is no such
	// cookie.
	Sticky string `yaml:"sticky"`
	// Connections is how many requests one node gets at once, from all balancers together. Further
	// requests wait in the balancers. 0: no limit.
	Connections int `yaml:"connections"`
	// Queue is how many requests may wait for one node beyond Connections, in all balancers
	// together (HAProxy's maxqueue); 0: no limit except Timeouts.Queue.
	Queue int `yaml:"queue"`
	// SendProxy is true where the balancers send the client's address ahead of each connection (the
	// PROXY protocol).
	SendProxy bool `yaml:"send-proxy"`
	// Timeouts are time-outs of this application, for kinds other than KV and Files.
	Timeouts AppTimeouts `yaml:"timeouts"`
	// Health is how the balancers and the supervisor find out whether a node can serve.
	Health Health `yaml:"health"`
}

// Kind returns the kind of the application, or "" if it has none or several. In a validated stack
// there is always exactly one.
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

// Discovery is where balancers find nodes that are not in the plan.
type Discovery struct {
	At string // their DNS name and port
	// Nodes and Balancers are their numbers in the stack file, for the limits that they share.
	Nodes, Balancers int
}

// Programs returns the names of the applications that are user programs and have Redis, sorted.
func (s Stack) Programs() []string {
	if !s.Redis.Enabled {
		return nil
	}
	return slices.DeleteFunc(s.AppNames(), func(name string) bool { return !s.Apps[name].Kind().IsProgram() })
}

// ServesElsewhere reports whether the balancers send requests to servers that do not end together
// with the stack's nodes: to servers that the stack file names, or that are found by DNS.
func (s Stack) ServesElsewhere() bool {
	for _, a := range s.Apps {
		if a.Kind().Elsewhere() || a.Discovery != nil {
			return true
		}
	}
	return false
}

// RedisAccess is what a program's Redis user may do beyond what every program may.
type RedisAccess struct {
	// Allow are dangerous commands, and commands that change everybody's scripts and functions.
	// @dangerous stands for all dangerous ones.
	Allow []string `yaml:"allow"`
	// Patterns are the patterns that it may subscribe to, exactly as it writes them (PSUBSCRIBE).
	Patterns []string `yaml:"patterns"`
	// Databases are the databases that it may select besides database 0.
	Databases []int `yaml:"databases"`
}

// AllowedCommands returns the commands that Allow stands for, sorted.
func (a RedisAccess) AllowedCommands() []string { return allowedCommands(a.Allow) }

// Health is a health check. HAProxy manual, section 5.2: inter, rise, fall.
type Health struct {
	// Path is requested with GET, and the answer has to be 2xx or 3xx. Empty: the port has to
	// accept a connection.
	Path string `yaml:"path"`
	// Host is the Host header of the request. It may have a port.
	Host string `yaml:"host"`
	// Interval is the time between two checks.
	Interval time.Duration `yaml:"interval"`
	// Rise and Fall are how many checks in a row bring a node back, and take it out.
	Rise int `yaml:"rise"`
	Fall int `yaml:"fall"`
	// Start is how long a node may take to become ready after its start. It is unused for Servers. In
	// a pod of an Image it is how long the program may take until it listens, if that is longer than
	// the default there.
	Start time.Duration `yaml:"start"`
}

// SlowestStart returns the longest time that a node of any application may take to become ready.
func (s Stack) SlowestStart() time.Duration {
	var longest time.Duration
	for _, app := range s.Apps {
		longest = max(longest, app.Health.Start)
	}
	return longest
}

// Redis is the replicated store: one master, Replicas replicas, and Sentinels for failover.
type Redis struct {
	// Enabled is true where any application needs Redis (KV, Command, Image), unless the file sets
	// it.
	Enabled bool `yaml:"enabled"`
	// Server is the server program of the redis nodes and Sentinels: auto, redis or valkey.
	Server   string `yaml:"server"`
	Replicas int    `yaml:"replicas"`
	// Sentinels is how many Sentinels watch the master. A majority of them decides.
	Sentinels int `yaml:"sentinels"`
	// Ports are those of redis-1, redis-2, …, and SentinelPorts those of sentinel-1, …. Ports that
	// are not given are chosen on the first start and kept.
	Ports         []int `yaml:"ports"`
	SentinelPorts []int `yaml:"sentinel-ports"`
	// MasterPort is the balancers' port that always leads to the master; 0: it is chosen on the
	// first start and kept.
	MasterPort int `yaml:"master-port"`
	// On are the hosts of the redis nodes, and SentinelsOn those of the Sentinels; empty: all that
	// may have them.
	On          []string `yaml:"on"`
	SentinelsOn []string `yaml:"sentinels-on"`
	// Memory is Redis' maxmemory in bytes; 0: no limit.
	Memory Bytes `yaml:"memory"`
	// MemoryPolicy is Redis' maxmemory-policy.
	MemoryPolicy string `yaml:"memory-policy"`
	// Fsync is Redis' appendfsync: always, everysec or no. The append-only file itself is always
	// on. Without it a master that restarts empty would wipe its replicas.
	Fsync string `yaml:"fsync"`
	// Save are Redis' snapshot points, "seconds changes" each.
	Save []string `yaml:"save"`
	// DownAfter is how long a master may be silent before a Sentinel considers it down
	// (down-after-milliseconds).
	DownAfter time.Duration `yaml:"down-after"`
	// FailoverTimeout is Sentinel's failover-timeout. A second failover of the same master waits
	// twice as long.
	FailoverTimeout time.Duration `yaml:"failover-timeout"`
}

// The servers that redis.server may name. ServerAuto is Redis or else Valkey, whichever is
// installed.
const (
	ServerAuto   = "auto"
	ServerRedis  = "redis"
	ServerValkey = "valkey"
)

// Bytes is a size in bytes. In a file it is written 512mb or 2gb, in powers of 1024.
type Bytes int64

// AppTimeouts are HAProxy's time-outs for one application; 0: the stack's.
type AppTimeouts struct {
	Server time.Duration `yaml:"server"`
	Tunnel time.Duration `yaml:"tunnel"`
}

// Of returns the time-outs that apply to an application.
func (t Timeouts) Of(a App) AppTimeouts {
	return AppTimeouts{cmp.Or(a.Timeouts.Server, t.Server), cmp.Or(a.Timeouts.Tunnel, t.Tunnel)}
}

// Timeouts are HAProxy's time-outs under its names (manual, section 4.2, "timeout …").
type Timeouts struct {
	HTTPRequest time.Duration `yaml:"http-request"`
	Queue       time.Duration `yaml:"queue"`
	Connect     time.Duration `yaml:"connect"`
	Client      time.Duration `yaml:"client"`
	Server      time.Duration `yaml:"server"`
	// Tunnel is for lasting connections: WebSockets, streams of events, layer 4.
	Tunnel        time.Duration `yaml:"tunnel"`
	HTTPKeepAlive time.Duration `yaml:"http-keep-alive"`
	Check         time.Duration `yaml:"check"`
	// HardStop is how long a balancer goes on with its requests after it has taken up a new
	// configuration.
	HardStop time.Duration `yaml:"hard-stop-after"`
}
