// Package plan turns a stack into what each host has to do: the files to write and the processes to
// run, in order. It is pure: no clock, no disk, no network.
//
// Make is the way in. It lists the nodes (nodes.go), fills in the templates of their files
// (*.qtpl), and returns a Plan of Hosts with Files and Processes. Besides the stack it needs Facts,
// such as ports, secrets and the Placement of nodes on hosts (placement.go). Each kind of node has
// a row in traits (kinds.go) and a file with its data: haproxy.go and its neighbours for the
// balancers, redis.go, kv.go, virtual.go for keepalived.
//
// Diff compares two plans, and Steps puts the changes between them into an order. Losses and Shape
// say what is weak in how nodes are spread. PodOf and InPod derive the plan of one Kubernetes pod.
//
// Package supervise carries a plan out, and package export writes it for other systems.
package plan

import (
	"cmp"
	"time"

	"holdfast/internal/stack"
)

// Plan is what a stack amounts to on its hosts.
type Plan struct {
	Stack stack.Stack `json:"-"`
	// Name is the stack's name.
	Name string `json:"name"`
	// EntryURL is where clients go, such as http://127.0.0.1:6301.
	EntryURL string `json:"entry"`
	// StatisticsURL is the address of HAProxy's statistics page; empty: there is no such page.
	StatisticsURL string `json:"statistics,omitempty"`
	// Metrics is host:port of the supervisor's metrics; empty: there are none.
	Metrics string `json:"metrics,omitempty"`
	Hosts   []Host `json:"hosts"`
}

// Host is what one machine has to have and to run.
type Host struct {
	Name string `json:"name"`
	// Address is where the other hosts reach it.
	Address string `json:"address"`
	// Dirs are directories to make (0700), relative to the state directory,
	// parents first.
	Dirs  []string `json:"dirs"`
	Files []File   `json:"files"`
	// Processes are in the order of their start: by ascending Stage, and all of one stage at once.
	Processes []Process `json:"processes"`
}

// Place is a host of the stack as the other hosts know it.
type Place struct {
	Name string `json:"name"`
	// Address is where the other hosts, and a supervisor of all of them, reach its nodes.
	Address string `json:"address"`
	// Listen is where its redis nodes and Sentinels listen if Address leads there without being the
	// host's own, as the address of a Service does; empty: at Address.
	Listen string `json:"listen,omitempty"`
	// DisplayName is the name that people and clients see for its nodes. It is set for a pod,
	// because other pods have a node of the same name; empty: the node's name.
	DisplayName string `json:"shown,omitempty"`
}

// File is one file to write before its node starts.
type File struct {
	// Path is relative to the state directory.
	Path string `json:"path"`
	// Mode is the file's permission bits; 0600 for what holds a secret.
	Mode    uint32 `json:"mode"`
	Content string `json:"content"`
	// Once is for a file that its server rewrites: the file is only written when it does not exist.
	Once bool `json:"once,omitempty"`
}

// Program is what a process runs: a name that package supervise looks up.
type Program string

// The programs. Any other value is a path, or a name on PATH.
const (
	HAProxy     Program = "haproxy"
	RedisServer Program = "redis-server" // or valkey-server, where redis-server is not installed
	OnlyRedis   Program = "redis-server:redis"
	OnlyValkey  Program = "redis-server:valkey"
	Self        Program = "holdfast"

	KeepalivedProgram Program = "keepalived"
)

// RedisProgram returns the program of a stack's redis nodes and Sentinels.
func RedisProgram(r stack.Redis) Program {
	switch r.Server {
	case stack.ServerRedis:
		return OnlyRedis
	case stack.ServerValkey:
		return OnlyValkey
	}
	return RedisServer
}

// IsRedis reports whether the program is a Redis, or a Valkey.
func (p Program) IsRedis() bool { return p == RedisServer || p == OnlyRedis || p == OnlyValkey }

// String returns the name of the program's file.
func (p Program) String() string {
	switch p {
	case OnlyRedis:
		return "redis-server"
	case OnlyValkey:
		return "valkey-server"
	}
	return string(p)
}

// Process is one process of the stack: a node.
type Process struct {
	Node string `json:"node"` // such as web-2
	Kind Kind   `json:"kind"`
	App  string `json:"app,omitempty"`
	// Address is host:port where it listens; a balancer's is the entry's. It is empty where it does
	// not listen.
	Address string `json:"address"`
	// Local is where its own host reaches it without TLS, if it speaks TLS at Address; empty: at
	// Address.
	Local string `json:"local,omitempty"`
	// Virtual are the virtual addresses that a keepalived may hold, and Interface is the network
	// interface that gets them.
	Virtual   []string `json:"virtual,omitempty"`
	Interface string   `json:"interface,omitempty"`
	// Admin is host:port of a web node's metrics and profiles; empty: there are none.
	Admin string `json:"admin,omitempty"`
	// Stage orders the start: the processes of a stage start together when those of the earlier
	// stages are ready.
	Stage   int      `json:"stage"`
	Program Program  `json:"program"`
	Args    []string `json:"args"`
	// Env is added to the supervisor's environment ("K=V").
	Env []string `json:"env,omitempty"`
	// RestartFreeEnv are the names of variables in Env that depend on how many nodes there are. A
	// process need not restart when only their values change.
	RestartFreeEnv []string `json:"soft,omitempty"`
	// Dir is the absolute path of the working directory; empty: the node's own, nodes/NODE in the
	// state directory.
	Dir string `json:"dir,omitempty"`
	// Release is the digest of the release that a program runs from; empty: it has no release.
	Release string `json:"release,omitempty"`
	// Start is how long it may take to become ready; 0: the default.
	Start time.Duration `json:"start,omitempty"`
	// StopSignal is the name of the signal that asks it to end (SIGTERM). After Grace it is killed.
	StopSignal string        `json:"stop-signal"`
	Grace      time.Duration `json:"grace"`
	Probe      Probe         `json:"probe"`
}

// ProbeKind is a way to ask a process whether it is well.
type ProbeKind string

// The probes.
const (
	ProbeHTTP     ProbeKind = "http"     // GET Ready and Live at the address
	ProbeTCP      ProbeKind = "tcp"      // the address accepts a connection
	ProbeHAProxy  ProbeKind = "haproxy"  // the runtime socket responds
	ProbeRedis    ProbeKind = "redis"    // ROLE
	ProbeSentinel ProbeKind = "sentinel" // PING

	ProbeKeepalived ProbeKind = "keepalived" // its VRRP process runs
)

// Probe is how the supervisor finds out whether a process is alive and ready.
type Probe struct {
	Kind ProbeKind `json:"kind"`
	// Ready and Live are paths for ProbeHTTP; Live may be empty.
	Ready string `json:"ready,omitempty"`
	Live  string `json:"live,omitempty"`
	// Host is the Host header of the requests.
	Host string `json:"host,omitempty"`
	// Proxy begins each connection with the PROXY protocol.
	Proxy bool `json:"proxy,omitempty"`
	// Timeout is how long the balancers wait for the answer to a check; 0: the balancers do not
	// check the process.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Socket is HAProxy's runtime socket, relative to the state directory.
	Socket string `json:"socket,omitempty"`
}

// LocalAddress returns where the process' own host reaches it without TLS.
func (p Process) LocalAddress() string { return cmp.Or(p.Local, p.Address) }
