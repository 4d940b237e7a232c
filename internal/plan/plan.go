// Package plan says what follows from a stack: for each host the files to
// write and the processes to run, in order. It is pure: no clock, no disk, no
// network. Package supervise carries a plan out.
package plan

import (
	"time"

	"holdfast/internal/stack"
)

// Kind is the kind of a node.
type Kind string

// The kinds of node.
const (
	Balancer Kind = "balancer"
	Web      Kind = "web" // any application's node
	Redis    Kind = "redis"
	Sentinel Kind = "sentinel"
)

// Plan is a stack made concrete.
type Plan struct {
	Stack stack.Stack `json:"-"`
	// Name is the stack's.
	Name string `json:"name"`
	// EntryURL is where clients go, such as http://127.0.0.1:6301.
	EntryURL string `json:"entry"`
	// StatisticsURL is HAProxy's page; empty: none.
	StatisticsURL string `json:"statistics,omitempty"`
	// Metrics is host:port of the supervisor's metrics; empty: none.
	Metrics string `json:"metrics,omitempty"`
	Hosts   []Host `json:"hosts"`
}

// Host is what one machine has to have and to run.
type Host struct {
	Name string `json:"name"`
	// Dirs are directories to make (0700), relative to the state directory,
	// parents first.
	Dirs  []string `json:"dirs"`
	Files []File   `json:"files"`
	// Processes stand in the order of their start: ascending Stage, and
	// those of one stage at once.
	Processes []Process `json:"processes"`
}

// Place is a host of the stack, as far as the others have to know of it.
type Place struct {
	Name string `json:"name"`
	// Address is where the other hosts, and whoever supervises them all, reach
	// its nodes.
	Address string `json:"address"`
	// Netns is the path of the network namespace that its processes run in;
	// empty: none of its own.
	Netns string `json:"netns,omitempty"`
}

// File is one file to write before its node starts.
type File struct {
	// Path is relative to the state directory.
	Path string `json:"path"`
	// Mode is the file's permission bits; 0600 for what holds a secret.
	Mode    uint32 `json:"mode"`
	Content string `json:"content"`
	// Once is for a file that its server rewrites: it is written when it
	// does not exist, and never again.
	Once bool `json:"once,omitempty"`
}

// Program is what a process runs: a name that package supervise looks up.
type Program string

// The programs. Any other value is a path or a name on PATH.
const (
	HAProxy     Program = "haproxy"
	RedisServer Program = "redis-server"
	Self        Program = "holdfast"
)

// Process is one process of the stack: a node.
type Process struct {
	Node string `json:"node"` // such as web-2
	Kind Kind   `json:"kind"`
	App  string `json:"app,omitempty"`
	// Address is host:port where it listens: a balancer's is the entry's.
	Address string `json:"address"`
	// Netns is the path of the network namespace that it is started in; empty:
	// its starter's.
	Netns string `json:"netns,omitempty"`
	// Admin is host:port of a web node's metrics and profiles; empty: none.
	Admin string `json:"admin,omitempty"`
	// Stage orders the start: processes of a stage start together when
	// those of the stages before are ready.
	Stage   int      `json:"stage"`
	Program Program  `json:"program"`
	Args    []string `json:"args"`
	// Env is added to the supervisor's environment ("K=V").
	Env []string `json:"env,omitempty"`
	// Soft are names of variables in Env that depend on how many nodes there are: a
	// process that runs with another value need not be started anew.
	Soft []string `json:"soft,omitempty"`
	// Dir is the working directory; empty: the node's own, nodes/NODE in the
	// state directory. Absolute otherwise.
	Dir string `json:"dir,omitempty"`
	// Release is the digest of the release that a program runs from; empty: none.
	Release string `json:"release,omitempty"`
	// Start is how long it may take to become ready; 0: as long as any.
	Start time.Duration `json:"start,omitempty"`
	// StopSignal asks it to end, by name (SIGTERM); after Grace it is killed.
	StopSignal string        `json:"stop-signal"`
	Grace      time.Duration `json:"grace"`
	Probe      Probe         `json:"probe"`
}

// ProbeKind says how to ask a process whether it is well.
type ProbeKind string

// The probes.
const (
	ProbeHTTP     ProbeKind = "http"     // GET Ready and Live at the address
	ProbeTCP      ProbeKind = "tcp"      // the address accepts a connection
	ProbeHAProxy  ProbeKind = "haproxy"  // the runtime socket answers
	ProbeRedis    ProbeKind = "redis"    // ROLE
	ProbeSentinel ProbeKind = "sentinel" // PING
)

// Probe is how the supervisor sees that a process is alive and ready.
type Probe struct {
	Kind ProbeKind `json:"kind"`
	// Ready and Live are paths for ProbeHTTP; Live may be empty.
	Ready string `json:"ready,omitempty"`
	Live  string `json:"live,omitempty"`
	// Host is the Host header that they are asked with.
	Host string `json:"host,omitempty"`
	// Timeout is how long the balancers wait for the answer to a check; 0: it
	// is no balancer's business.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Socket is HAProxy's runtime socket, relative to the state directory.
	Socket string `json:"socket,omitempty"`
}

// Machine are the facts about where a plan will run, gathered by whoever asks
// for the plan.
type Machine struct {
	// StateDir is the absolute path of the stack's state directory.
	StateDir string
	// BaseDir is the absolute directory that the stack file's relative paths
	// start from.
	BaseDir string
	// Hosts are where the nodes run; none: on this machine, at 127.0.0.1.
	Hosts []Place
	// Names are the machine's own.
	Names []string
	// HAProxyUser is the user and group that HAProxy drops to; empty when it
	// is not started as root.
	HAProxyUser string
	// Cores is how many processors there are; 0: unknown.
	Cores int
	// Files is how many files a process may have open (RLIMIT_NOFILE, the hard
	// limit); 0: unknown.
	Files int
	// Ports has the port of every node that listens on one of its own (web,
	// redis, sentinel; see Needs), of PortRedisMaster when there is one, and
	// of the web nodes' admin ports.
	Ports map[string]int
	// Secrets has a password for each Redis user.
	Secrets Secrets
	// Drained are the applications' nodes that the balancers send nothing, although
	// they may run.
	Drained map[string]bool
	// Replication is what is known of the Redis master; zero at the first boot.
	Replication Replication
}

// Replication is what the stack knows of its Redis master apart from addresses:
// a node keeps its name and its data when it moves to another port or host. The
// epochs are Sentinel's own (sentinel.c, Redis 7.0): every failover has a higher
// one than the failover before it.
type Replication struct {
	// Master is the name of the redis node that is the master. It is empty when
	// no node has been one: redis-1 is the first.
	Master string `json:"master,omitempty"`
	// ConfigEpoch is the epoch of the failover that made it the master.
	ConfigEpoch int64 `json:"config-epoch,omitempty"`
	// LeaderEpoch is the highest epoch in which a Sentinel voted, and
	// CurrentEpoch the highest that one has heard of.
	LeaderEpoch  int64 `json:"leader-epoch,omitempty"`
	CurrentEpoch int64 `json:"current-epoch,omitempty"`
}

// FirstMaster is the redis node that is made the master at the first boot.
const FirstMaster = "redis-1"

// adminPort is the name in Machine.Ports of a web node's port for metrics and
// profiles. No node has a dot in its name.
func adminPort(node string) string { return node + ".admin" }

// PortRedisMaster is the name in Machine.Ports of the balancers' port that
// always leads to the Redis master, for programs that know no Sentinels.
const PortRedisMaster = "redis-master"

// PortMetrics is the name in Machine.Ports of the supervisor's port for Prometheus,
// where the stack file names none.
const PortMetrics = "metrics"

// Secrets are the passwords of the Redis users and of drills at the entry, 64
// hexadecimal digits each, and the Sentinels' run ids, 40 digits each.
type Secrets struct {
	Web         string            `json:"web"`
	Replication string            `json:"replication"`
	Sentinel    string            `json:"sentinel"`
	Scripts     string            `json:"scripts"`      // of the users as which clients' scripts run
	ReadScripts string            `json:"read-scripts"` // of those of clients who may only read
	Operator    string            `json:"operator"`
	Balancer    string            `json:"balancer"`
	Drill       string            `json:"drill"`        // see DrillHeader
	Source      string            `json:"source"`       // see SourceHeaderName
	SentinelIDs map[string]string `json:"sentinel-ids"` // by node
	// Programs are the passwords of the users' own programs, by application.
	Programs map[string]string `json:"programs"`
}

// PortNeed is a node that needs a port of its own.
type PortNeed struct {
	Node string
	// Fixed is the port that the stack file names; 0: to be chosen.
	Fixed int
	// Preferred is the port to take when it is free and none is fixed; 0:
	// any.
	Preferred int
}
