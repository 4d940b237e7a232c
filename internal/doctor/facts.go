package doctor

import (
	"strconv"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// Facts are what was seen of a stack at one time. What could not be looked at is
// absent, and Unseen says why.
type Facts struct {
	// Now is when it was looked.
	Now   time.Time
	Stack stack.Stack
	// StateDir is the stack's state directory.
	StateDir string
	// Kept is true when the state directory has anything of the stack: it was up
	// at some time.
	Kept bool
	// Unreadable says why the state directory cannot be read; empty: it can.
	Unreadable string
	Supervisor Supervisor
	// Nodes are those of the stack file, in the order of their start, and after
	// them the strays: nodes that run and are not in the stack file any more.
	Nodes []Node
	// Ports are addresses that are no node's own, such as the balancers' way to
	// the Redis master, and that somebody else holds.
	Ports []Port
	// Epoch is the configuration epoch that the state directory has of the last
	// master, and Rewriting is true when a supervisor ended while it wrote the
	// Sentinels' files anew.
	Epoch     int64
	Rewriting bool
	// Differs is true when the stack file is not what runs. Stack is what runs then.
	Differs bool
	// Files are generated files that are not as the plan has them.
	Files []File
	// Releases are those copies of programs' files that are not as they were made.
	Releases []Release
	// Mistakes are those of the stack file; empty: it has none. Stack is what runs then.
	Mistakes string
	// References are what the stack file names and is not there or cannot be
	// used, one sentence each.
	References []string
	// Open says who else may change the state directory; empty: nobody.
	Open string
	// NoLua is true where the balancers' program has no Lua, and programs of the stack reach
	// Redis through them.
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
	// PID is that of the process that holds the state directory; 0: none does.
	PID int
	// Silent says why it does not answer on its socket; empty: it does.
	Silent string
	// Phase is what it is about: starting, running or stopping.
	Phase   string
	Process *Process
	// Unserved are applications that a balancer has no server for.
	Unserved []Unserved
	// Virtual are the virtual addresses of the entry, and the hosts that have each.
	Virtual []Virtual
}

// Virtual is a virtual address, and the hosts that have it.
type Virtual struct {
	Address string
	Hosts   []string
}

// Unserved is an application that a balancer has no server for.
type Unserved struct{ App, Balancer, Why string }

// Node is one node of the stack.
type Node struct {
	Name    string
	Kind    plan.Kind
	App     string
	Host    string
	Address string
	// Stray is true for a node that is not in the stack file any more.
	Stray bool
	// State, Since, Crashes and Detail are the supervisor's word, or where none
	// answers what the last one wrote down.
	State   string
	Since   time.Time
	Crashes int
	Detail  string
	// Want is what its operator wants of it: up, down or paused.
	Want string
	// Died is true when it was last seen running and has no process now.
	Died bool
	// Drained is true when its operator has taken it out of rotation.
	Drained bool
	// Outdated is true when it runs with other settings than the plan has now.
	Outdated bool
	// Process is what runs; nil: nothing does.
	Process *Process
	// Holder names who listens at the node's address while it does not run.
	Holder string
	// Silent says why a node that runs does not answer; empty: it does, or was
	// not asked.
	Silent string
	// Server is the name of the running program (package servers), Version what it
	// calls itself, and Installed what the one on the disk does. Empty: unknown.
	Server, Version, Installed string

	Redis    *Redis
	Sentinel *Sentinel
	Web      *Web
	Balancer *Balancer
}

// Process is what the kernel tells of a process.
type Process struct {
	PID int
	// Stopped is true while a signal keeps it from running (SIGSTOP).
	Stopped bool
	// Age is how long ago it was started, by a clock that nobody sets.
	Age time.Duration
	// Replaced is true when the program's file is another one now.
	Replaced bool
	// OpenFiles it has, of MaxFiles that it may have; 0: unknown.
	OpenFiles, MaxFiles int
	// HugePages is true when it gets transparent huge pages without asking.
	HugePages bool
}

// Redis is what a redis node tells of itself.
type Redis struct {
	Master bool
	// Follows is the address of a replica's master; Linked is true when the
	// connection to it is up.
	Follows string
	Linked  bool
	// Offset is the replication offset in bytes.
	Offset int64
	// Info is INFO, Settings CONFIG GET *, and Wanted the settings that the plan
	// has (base.conf), by name and in the words of CONFIG GET.
	Info, Settings, Wanted map[string]string
	// Ahead is how far its clock is ahead of this machine's.
	Ahead time.Duration
}

// number is a number of INFO; 0 when it is not there.
func (r Redis) number(name string) int64 {
	n, _ := strconv.ParseInt(r.Info[name], 10, 64)
	return n
}

// Sentinel is what a Sentinel holds of the master.
type Sentinel struct {
	// Master is the address that it names, in configuration epoch Epoch.
	Master string
	Epoch  int64
	// Failing is true while a failover is under way, Down while this Sentinel
	// holds the master for down.
	Failing, Down bool
	// Quorum is how many have to agree that the master is down; Replicas and
	// Others are how many replicas and other Sentinels it knows.
	Quorum, Replicas, Others int
	DownAfter, Timeout       time.Duration
	// Tilt is true when it does nothing because its clock jumped or it was
	// starved.
	Tilt bool
	// Unable says why it could not fail over (SENTINEL CKQUORUM); empty: it could.
	Unable string
}

// Web is what a web node of Holdfast's own tells of itself.
type Web struct {
	Ready bool
	// Master is the address of the Redis master that it uses; empty: it knows
	// none.
	Master string
	// Replicas are online at the master, and InSync of them must have a write
	// before it is acknowledged; it knows that once it Wrote.
	Replicas, InSync int
	Wrote            bool
	// Held is how many requests wait for Redis.
	Held int
}

// Balancer is what a balancer tells of itself.
type Balancer struct {
	// Connections are open now, of MaxConnections that may be.
	Connections, MaxConnections int
	Stopping                    bool
	Servers                     []Server
}

// Server is one server of a balancer.
type Server struct {
	Backend, Name string
	// App is the application that the backend is for; empty: none, such as the
	// way to the Redis master.
	App string
	// Serves is true when it gets requests; State is HAProxy's word for how it
	// is, and Finding says so with what its check found.
	Serves  bool
	State   string
	Finding string
}

// Port is an address that the stack needs and somebody else holds.
type Port struct{ Address, For, Holder string }

// File is a generated file that is not as the plan has it.
type File struct {
	Path string // below the state directory
	Node string
	// Missing: it is not there. Else Line is the first line that differs, from 1,
	// with what it Has and what the plan Wants.
	Missing    bool
	Line       int
	Has, Wants string
}

// Release is the copy of an application's files that its nodes run from.
type Release struct {
	App, Digest string
	// Damaged says why no node can start from it; empty: one can. Changed are the
	// files in it that are not as they were.
	Damaged string
	Changed []string
}

// Certificate is one that the stack file names.
type Certificate struct {
	Path, For string
	Subject   string
	Ends      time.Time
	// Broken says why it cannot be read; empty: it can.
	Broken string
	// Entry is true for one that an entry shows. Refused says why what its file has now is
	// not shown, and Gap what its chain lacks; empty: nothing.
	Entry        bool
	Refused, Gap string
}

// Drill is what a drill has left.
type Drill struct {
	// Running is true while one is under way: what it breaks it undoes.
	Running bool
	// Left are the things to undo, in words. Keys are among them that are in
	// nobody's way.
	Left, Keys []string
	// Damaged says why that cannot be read; empty: it can.
	Damaged string
}

// Change is one of the stack that was begun and has not ended.
type Change struct {
	What  string
	Since time.Time
	// Running is true while somebody carries it out. Stopped says why it was stopped
	// before its end; empty: it was not.
	Running bool
	Stopped string
	// Left are the nodes that such a change has left with other settings than the
	// stack has for them.
	Left []string
}

// Backup is how the backups of the stack are.
type Backup struct {
	// Last is when the last good one was made; zero: never.
	Last time.Time
	// Next is when the next one is due; zero: they are made on demand.
	Next time.Time
	// Failed is when the last try failed, and Why; zero: it did not.
	Failed time.Time
	Why    string
}

// Machine is the machine, in bytes where nothing else is said.
type Machine struct {
	// DiskFree of DiskSize are free for this user where the state directory is,
	// InodesFree of Inodes.
	DiskFree, DiskSize uint64
	InodesFree, Inodes uint64
	// MemoryAvailable of Memory is what programs can still have; 0: unknown.
	MemoryAvailable, Memory uint64
	// Overcommit is vm.overcommit_memory, HugePages the choice in
	// transparent_hugepage/enabled, Backlog net.core.somaxconn. Empty or 0: unknown.
	Overcommit string
	HugePages  string
	Backlog    int
}

// node returns the node of that name.
func (f Facts) node(name string) *Node {
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	return nil
}

// at returns the redis node that has an address.
func (f Facts) at(address string) *Node {
	for i, n := range f.Nodes {
		if n.Kind == plan.Redis && n.Address == address {
			return &f.Nodes[i]
		}
	}
	return nil
}

// running counts the nodes that have a process.
func (f Facts) running() (count int) {
	for _, n := range f.Nodes {
		if n.Process != nil {
			count++
		}
	}
	return count
}

// replicas are the redis nodes that answer and call themselves replicas, masters
// those that call themselves master.
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
