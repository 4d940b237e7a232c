// Package plan says what follows from a stack: for each host the files to
// write and the processes to run, in order. It is pure: no clock, no disk, no
// network. Package supervise carries a plan out.
package plan

import (
	"cmp"
	"time"

	"holdfast/internal/stack"
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
	// Address is where the other hosts reach it.
	Address string `json:"address"`
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
	// Listen is where its redis nodes and Sentinels listen, where Address leads there and is
	// not the host's own, as that of a Service is; empty: at Address.
	Listen string `json:"listen,omitempty"`
	// Shown is what people and clients see as the name of its nodes, where it is a pod of
	// which others have a node of the same name; empty: the node's.
	Shown string `json:"shown,omitempty"`
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
	RedisServer Program = "redis-server" // or valkey-server, where there is no other
	OnlyRedis   Program = "redis-server:redis"
	OnlyValkey  Program = "redis-server:valkey"
	Self        Program = "holdfast"

	KeepalivedProgram Program = "keepalived"
)

// RedisProgram is the program of the redis nodes and Sentinels of a stack.
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

// String is the name of the program's file.
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
	// Address is host:port where it listens: a balancer's is the entry's; empty: nowhere.
	Address string `json:"address"`
	// Local is where its own host reaches it in plain, where it speaks TLS at Address;
	// empty: at Address.
	Local string `json:"local,omitempty"`
	// Virtual are the virtual addresses that a keepalived may have, and Interface is where.
	Virtual   []string `json:"virtual,omitempty"`
	Interface string   `json:"interface,omitempty"`
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

	ProbeKeepalived ProbeKind = "keepalived" // its process for VRRP runs
)

// Probe is how the supervisor sees that a process is alive and ready.
type Probe struct {
	Kind ProbeKind `json:"kind"`
	// Ready and Live are paths for ProbeHTTP; Live may be empty.
	Ready string `json:"ready,omitempty"`
	Live  string `json:"live,omitempty"`
	// Host is the Host header that they are asked with.
	Host string `json:"host,omitempty"`
	// Proxy has a connection begin with the PROXY protocol.
	Proxy bool `json:"proxy,omitempty"`
	// Timeout is how long the balancers wait for the answer to a check; 0: it
	// is no balancer's business.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Socket is HAProxy's runtime socket, relative to the state directory.
	Socket string `json:"socket,omitempty"`
}

// Near is where the process' own host reaches it in plain.
func (p Process) Near() string { return cmp.Or(p.Local, p.Address) }
