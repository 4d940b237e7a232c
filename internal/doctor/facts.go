package doctor

import (
	"strconv"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Facts are what was seen of a stack at one time. What could not be looked at is missing here, and
// Unseen has the reason.
type Facts struct {
	// Now is the time of the look.
	Now   time.Time
	Stack stack.Stack
	// StateDir is the stack's state directory.
	StateDir string
	// Kept is true when the state directory contains anything of the stack, so that the stack was
	// up at some time.
	Kept bool
	// Unreadable is why the state directory cannot be read; empty: it can.
	Unreadable string
	Supervisor Supervisor
	// Nodes are the nodes of the stack file in the order of their start, and then the strays: nodes
	// that run although the stack file no longer has them.
	Nodes []Node
	// Ports are addresses that belong to no node, such as the balancers' port for the Redis master,
	// and that another process holds.
	Ports []Port
	// Epoch is the configuration epoch of the last master, as the state directory has it. Rewriting
	// is true when a supervisor ended while it rewrote the Sentinels' files.
	Epoch     int64
	Rewriting bool
	// Differs is true when the stack file is not what runs. Stack is then what runs.
	Differs bool
	// Files are the generated files that differ from the plan.
	Files []File
	// Releases are the copies of programs' files that have changed since they were made.
	Releases []Release
	// Mistakes are the mistakes in the stack file; empty: there are none. With mistakes, Stack is
	// what runs.
	Mistakes string
	// KeptPages are the files of pages that are missing or broken, one sentence each. The pages of
	// before are in use.
	KeptPages []string
	// References are what the stack file names but is missing or unusable, one sentence each.
	References []string
	// Open says who else may change the state directory; empty: nobody.
	Open string
	// NoLua is true where the balancers' program has no Lua, although programs of the stack reach
	// Redis through the balancers.
	NoLua        bool
	Certificates []Certificate
	Drill        Drill
	Changes      []Change
	Backup       *Backup // nil: none was ever made
	Machine      Machine
	Unseen       []Unseen
}

// Unseen is something that could not be looked at.
type Unseen struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Supervisor is the process that looks after the nodes.
type Supervisor struct {
	// PID is the process that holds the state directory; 0: there is none.
	PID int
	// Silent is why it does not answer on its socket; empty: it does.
	Silent string
	// Phase is what it is doing: starting, running or stopping.
	Phase   string
	Process *Process
	// Unserved are applications for which a balancer has no server.
	Unserved []Unserved
	// Virtual are the virtual addresses of the entry, each with the hosts that have it.
	Virtual []Virtual
}

// Virtual is a virtual address, and the hosts that have it.
type Virtual struct {
	Address string
	Hosts   []string
}

// Unserved is an application for which a balancer has no server.
type Unserved struct{ App, Balancer, Why string }

// Node is one node of the stack.
type Node struct {
	Name    string
	Kind    plan.Kind
	App     string
	Host    string
	Address string
	// Stray is true for a node that runs although the stack file no longer has it.
	Stray bool
	// State, Since, Crashes and Detail are what the supervisor reports, or, without a supervisor,
	// what the last one stored.
	State   string
	Since   time.Time
	Crashes int
	Detail  string
	// Want is the state that its operator wants: up, down or paused.
	Want string
	// Died is true when it was running at the last look and has no process now.
	Died bool
	// Drained is true when its operator has taken it out of rotation.
	Drained bool
	// Outdated is true when it runs with other settings than those of the present plan.
	Outdated bool
	// Process is the running process; nil: there is none.
	Process *Process
	// Holder is the process that listens at the node's address while the node does not run.
	Holder string
	// Silent is why a running node does not answer; empty: it does, or was not asked.
	Silent string
	// Server is the name of the running program (package servers). Version is the version that it
	// reports, and Installed that of the program on the disk. Empty: unknown.
	Server, Version, Installed string

	Redis    *Redis
	Sentinel *Sentinel
	Web      *Web
	Balancer *Balancer
}

// Process is what the kernel reports of a process.
type Process struct {
	PID int
	// Stopped is true while a signal keeps it from running (SIGSTOP).
	Stopped bool
	// Age is the time since its start, by a clock that cannot be set.
	Age time.Duration
	// Replaced is true when the program's file has been replaced since.
	Replaced bool
	// OpenFiles is how many files it has open, and MaxFiles how many it may have; 0: unknown.
	OpenFiles, MaxFiles int
	// HugePages is true when it gets transparent huge pages without asking.
	HugePages bool
}

// Redis is what a redis node reports about itself.
type Redis struct {
	Master bool
	// Follows is the address of a replica's master. Linked is true when the connection to it is up.
	Follows string
	Linked  bool
	// Offset is the replication offset in bytes.
	Offset int64
	// Info is INFO, and Settings is CONFIG GET *. Wanted are the settings of the plan (base.conf)
	// by name, in the form of CONFIG GET.
	Info, Settings, Wanted map[string]string
	// Ahead is how far its clock is ahead of this machine's.
	Ahead time.Duration
}

// number returns a number of INFO, or 0 if INFO does not have it.
func (r Redis) number(name string) int64 {
	n, _ := strconv.ParseInt(r.Info[name], 10, 64)
	return n
}

// Sentinel is what a Sentinel reports about the master.
type Sentinel struct {
	// Master is the address that it names, as of configuration epoch Epoch.
	Master string
	Epoch  int64
	// Failing is true while a failover is under way, and Down while this Sentinel considers the
	// master down.
	Failing, Down bool
	// Quorum is how many Sentinels have to agree that the master is down. Replicas and Others are
	// how many replicas and other Sentinels it knows.
	Quorum, Replicas, Others int
	DownAfter, Timeout       time.Duration
	// Tilt is true when it does nothing because its clock jumped or it got no CPU time.
	Tilt bool
	// Unable is why it could not fail over (SENTINEL CKQUORUM); empty: it could.
	Unable string
}

// Web is what one of Holdfast's own web nodes reports about itself.
type Web struct {
	Ready bool
	// Master is the address of the Redis master that it uses; empty: it knows none.
	Master string
	// Replicas is how many replicas are online at the master. InSync is how many of them must have
	// a write before it is acknowledged; the node knows that number once it has Wrote.
	Replicas, InSync int
	Wrote            bool
	// Held is the number of requests that wait for Redis.
	Held int
}

// Balancer is what a balancer reports about itself.
type Balancer struct {
	// Connections is how many are open now, and MaxConnections how many may be.
	Connections, MaxConnections int
	Stopping                    bool
	Servers                     []Server
}

// Server is one server of a balancer.
type Server struct {
	Backend, Name string
	// App is the application of the backend; empty: none, such as for the port of the Redis master.
	App string
	// Serves is true when it gets requests. State is its state in HAProxy's words, and Finding adds
	// what its check found.
	Serves  bool
	State   string
	Finding string
}

// Port is an address that the stack needs and another process holds.
type Port struct{ Address, For, Holder string }

// File is a generated file that differs from the plan.
type File struct {
	Path string // relative to the state directory
	Node string
	// Missing is true if the file does not exist. Otherwise Line is the first line that differs,
	// from 1; Has is its text, and Wants the plan's.
	Missing    bool
	Line       int
	Has, Wants string
}

// Release is the copy of an application's files that its nodes run from.
type Release struct {
	App, Digest string
	// Damaged is why no node can start from it; empty: one can. Changed are the files in it that
	// have changed.
	Damaged string
	Changed []string
}

// Certificate is a certificate that the stack file names.
type Certificate struct {
	Path, For string
	Subject   string
	Ends      time.Time
	// Broken is why it cannot be read; empty: it can.
	Broken string
	// Entry is true for a certificate that an entry presents. Refused is why the present content of
	// its file is not used, and Gap is what its chain lacks; empty: nothing.
	Entry        bool
	Refused, Gap string
}

// Drill is what a drill has left.
type Drill struct {
	// Running is true while a drill is under way: it undoes what it breaks.
	Running bool
	// Left are the things to undo, in words. Keys are those of them that do no harm.
	Left, Keys []string
	// Damaged is why the record of these cannot be read; empty: it can.
	Damaged string
}

// Change is a change of the stack that has begun and not ended.
type Change struct {
	What  string
	Since time.Time
	// Running is true while a supervisor carries it out. Stopped is why it stopped before its end;
	// empty: it did not.
	Running bool
	Stopped string
	// Left are the nodes that it has left with settings that differ from the rest of the stack.
	Left []string
}

// Backup is the state of the stack's backups.
type Backup struct {
	// Last is the time of the last good one; zero: there is none.
	Last time.Time
	// Next is when the next one is due; zero: they are made on demand.
	Next time.Time
	// Failed is the time of the last try if that failed, and Why is the reason; zero: it did not
	// fail.
	Failed time.Time
	Why    string
}

// Machine is the machine. Sizes are in bytes.
type Machine struct {
	// DiskFree is what this user may still use of the disk of the state directory, and DiskSize its
	// size. InodesFree and Inodes are the same for its inodes.
	DiskFree, DiskSize uint64
	InodesFree, Inodes uint64
	// MemoryAvailable is how much of Memory programs can still get; 0: unknown.
	MemoryAvailable, Memory uint64
	// Overcommit is vm.overcommit_memory, HugePages is the chosen value in
	// transparent_hugepage/enabled, and Backlog is net.core.somaxconn. Empty or 0: unknown.
	Overcommit string
	HugePages  string
	Backlog    int
}

// node returns the node of that name, or nil.
func (f Facts) node(name string) *Node {
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	return nil
}

// redisAt returns the redis node with that address, or nil.
func (f Facts) redisAt(address string) *Node {
	for i, n := range f.Nodes {
		if n.Kind == plan.Redis && n.Address == address {
			return &f.Nodes[i]
		}
	}
	return nil
}

// running returns the number of nodes that have a process.
func (f Facts) running() (count int) {
	for _, n := range f.Nodes {
		if n.Process != nil {
			count++
		}
	}
	return count
}

// replicas returns the redis nodes that answer and report to be replicas, and masters those that
// report to be masters.
func (f Facts) replicas() []Node { return f.answering(false) }
func (f Facts) masters() []Node  { return f.answering(true) }

func (f Facts) answering(master bool) (nodes []Node) {
	for _, n := range f.Nodes {
		if n.Redis != nil && n.Redis.Master == master {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
