package supervise

import (
	"slices"
	"sync"
	"time"

	"holdfast/internal/plan"
)

// State is what a node is doing.
type State string

// The states of a node.
const (
	Starting State = "starting"
	Up       State = "up"
	Paused   State = "paused"
	Draining State = "draining"
	Down     State = "down"
	Failed   State = "failed"
)

// Phase is what a supervisor is doing.
type Phase string

// The phases of a supervisor.
const (
	PhaseStarting Phase = "starting"
	PhaseRunning  Phase = "running" // every node has been up, or has failed, once
	PhaseStopping Phase = "stopping"
)

// NodeStatus is one node as seen from outside.
type NodeStatus struct {
	Name string    `json:"name"`
	Kind plan.Kind `json:"kind"`
	App  string    `json:"app,omitempty"`
	// Role is master or replica of a redis node, and holder or standby of a keepalived node.
	Role string `json:"role,omitempty"`
	// Holds are the virtual addresses that the host of a keepalived node has, separated by spaces.
	Holds string `json:"holds,omitempty"`
	State State  `json:"state"`
	Host  string `json:"host"`
	// Address is where the node listens; empty: nowhere. PID is the pid of its process; 0: it has
	// none, see also Unknown.
	Address string `json:"address"`
	PID     int    `json:"pid,omitempty"`
	// Unknown is true while nobody knows whether the node runs, because its host has been away since
	// before this supervisor began. Its PID is 0 then.
	Unknown bool `json:"unknown,omitempty"`
	// Restarts counts the starts beyond the first since the stack came up, under all supervisors.
	Restarts int `json:"restarts"`
	// Crashes counts the ends that neither an operator nor a change asked for, since the node got
	// its settings and the stack came up. 'holdfast kill' counts as a crash.
	Crashes int `json:"crashes"`
	// Since is when the node entered its state; zero: unknown.
	Since time.Time `json:"since"`
	// Began is when the node's current or last process was started; zero: an earlier supervisor
	// started it.
	Began time.Time `json:"began,omitzero"`
	// Until is the time by which a starting node has to be ready; zero: there is no such limit.
	Until time.Time `json:"until,omitzero"`
	// Detail explains the state in words, where that helps.
	Detail string `json:"detail,omitempty"`
	// Drained is true if the operator has taken the node out of rotation.
	Drained bool `json:"drained,omitempty"`
	// Release is the digest of the release that a program runs from; empty: it runs from none.
	Release string `json:"release,omitempty"`
	// Outdated explains that the node still runs a program file which was replaced since, or still
	// uses a tokens file that has changed since; empty: neither is the case.
	Outdated string `json:"outdated,omitempty"`
	// Server is the server program that the node runs, with its version, such as "Redis 8.0.2";
	// empty: the node is no server, or the version is unknown.
	Server string `json:"server,omitempty"`
	// Excluded is the reason why a balancer sends no requests to a node that is up; empty: all
	// balancers do.
	Excluded string `json:"excluded,omitempty"`
}

// Status is a stack as seen from outside.
type Status struct {
	Stack      string `json:"stack"`
	Entry      string `json:"entry"`
	Statistics string `json:"statistics,omitempty"`
	// Ready is true if clients are served: a balancer is up; each application has a node that is
	// up, and on every balancer a server that gets requests; and Redis has a master with a replica
	// to acknowledge its writes.
	Ready bool `json:"ready"`
	// Virtual are the virtual addresses of the entry.
	Virtual []VirtualStatus `json:"virtual,omitempty"`
	// Certificates are the certificates of the entry.
	Certificates []CertificateStatus `json:"certificates,omitempty"`
	// Unserved are the applications for which a balancer has no usable server.
	Unserved []Unserved `json:"unserved,omitempty"`
	// Phase is what the supervisor is doing: starting, running or stopping.
	Phase Phase `json:"phase,omitempty"`
	// Generation counts the changes of the stack. File is the digest (FileDigest) of the stack
	// file that the stack runs by; empty without a supervisor.
	Generation int    `json:"generation,omitempty"`
	File       string `json:"file,omitempty"`
	// Differs is true if the stack file of the caller is another one than that of File.
	Differs bool `json:"differs,omitempty"`
	// Program is the digest of the program file that the supervisor runs. Outdated says that the
	// file was replaced since; empty: it was not.
	Program  string `json:"program,omitempty"`
	Outdated string `json:"outdated,omitempty"`
	// RunTime is what operators asked for at run time and the stack file does not have; nil:
	// nothing.
	RunTime *RunTime `json:"run_time,omitempty"`
	// Change is the change that is under way; nil: no change is.
	Change *ChangeStatus `json:"change,omitempty"`
	// Stopped is the last change if it stopped before its end; nil: it did not.
	Stopped *Result `json:"stopped,omitempty"`
	// Unreached are the hosts that could not be reached when the stack was taken down: their nodes
	// were not stopped.
	Unreached []string `json:"unreached,omitempty"`
	// Supervisor is the pid of the supervisor; 0: none runs.
	Supervisor int `json:"supervisor"`
	// Host is the name of the host where the supervisor runs; empty: the stack has only one host.
	Host string `json:"host,omitempty"`
	// Resting are the hosts that are down for maintenance.
	Resting []string `json:"resting,omitempty"`
	// Backup is what is known about the stack's backups.
	Backup BackupState `json:"backup,omitzero"`
	// Restoring is true from the decision for a restore until it is carried out. Restored is the
	// ID of the last backup that was restored on several hosts; empty: none was.
	Restoring bool         `json:"restoring,omitempty"`
	Restored  string       `json:"restored,omitempty"`
	Nodes     []NodeStatus `json:"nodes"`
}

// VirtualStatus says which hosts have a virtual address.
type VirtualStatus struct {
	Address string `json:"address"`
	// Hosts are the hosts that have the address, according to keepalived nodes that are up. If all
	// is well, it is one host.
	Hosts []string `json:"hosts"`
}

// Node returns the status of the node with a name, and reports whether there is such a node.
func (s Status) Node(name string) (NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeStatus{}, false
}

// ready returns the value of Status.Ready. replicas is how many replicas the stack declares.
func (s Status) ready(replicas int) bool {
	up := map[string]int{} // by kind, application, or role of redis nodes
	want := map[string]int{}
	for _, n := range s.Nodes {
		if !n.Kind.Traits().Serves {
			continue
		}
		key := string(n.Kind)
		switch n.Kind {
		case plan.Web:
			key = "app " + n.App
		case plan.Redis:
			key = "redis master"
			want["redis replica"] = min(replicas, 1)
			if n.Role == "replica" {
				key = "redis replica"
			}
		}
		if n.Kind != plan.Redis || n.Role != "replica" {
			want[key] = 1
		}
		if n.State == Up {
			up[key]++
		}
	}
	for key, n := range want {
		if up[key] < n {
			return false
		}
	}
	return len(s.Unserved) == 0
}

// statusBoard holds the status of every node and tells subscribers of changes.
type statusBoard struct {
	mu     sync.Mutex
	status Status
	// replicas is how many replicas the stack declares.
	replicas int
	watchers map[chan NodeStatus]struct{}
}

// backlog is how many changes a subscriber may be behind before it is dropped.
const backlog = 256

func newStatusBoard(p plan.Plan) *statusBoard {
	b := &statusBoard{
		replicas: p.Stack.Redis.Replicas,
		watchers: map[chan NodeStatus]struct{}{},
		status:   Status{Stack: p.Name, Entry: p.EntryURL, Statistics: p.StatisticsURL, Phase: PhaseStarting},
	}
	for _, h := range p.Hosts {
		for _, n := range h.Processes {
			b.status.Nodes = append(b.status.Nodes, NodeStatus{
				Name: n.Node, Kind: n.Kind, App: n.App, Host: h.Name, Address: n.Address,
				State: Down, Since: time.Now(),
			})
		}
	}
	return b
}

// arrange makes the board show the nodes of a plan, in the plan's order, and the plan's entry.
// The status of a node that it already has stays; nodes that are not in the plan go.
func (b *statusBoard) arrange(p plan.Plan, replicas int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = replicas
	b.status.Entry, b.status.Statistics = p.EntryURL, p.StatisticsURL
	fresh := newStatusBoard(p).status.Nodes
	for i := range fresh {
		if old, there := b.status.Node(fresh[i].Name); there {
			old.Host, old.Address, old.App = fresh[i].Host, fresh[i].Address, fresh[i].App
			fresh[i] = old
		}
	}
	b.status.Nodes = fresh
}

// remove removes a node from the board.
func (b *statusBoard) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Nodes = slices.DeleteFunc(slices.Clone(b.status.Nodes), func(n NodeStatus) bool { return n.Name == name })
}

// update changes a node's status and returns it. It sets Since when the state changes, unless
// change sets Since itself.
func (b *statusBoard) update(name string, change func(*NodeStatus)) (now NodeStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.status.Nodes {
		n := &b.status.Nodes[i]
		if n.Name != name {
			continue
		}
		before := *n
		change(n)
		if n.State != before.State && n.Since.Equal(before.Since) {
			n.Since = time.Now()
		}
		if *n == before {
			return before
		}
		for w := range b.watchers {
			select {
			case w <- *n:
			default: // a slow subscriber is dropped, never waited for
				delete(b.watchers, w)
				close(w)
			}
		}
		return *n
	}
	return NodeStatus{}
}

// setRotation shows which nodes the balancers leave out, and which applications they do not
// serve.
func (b *statusBoard) setRotation(r rotation) {
	for _, n := range b.snapshot().Nodes {
		b.update(n.Name, func(s *NodeStatus) {
			if s.Excluded = ""; s.State == Up {
				s.Excluded = r.out[s.Name]
			}
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Unserved = r.unserved
}

// enter sets the supervisor's phase.
func (b *statusBoard) enter(p Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Phase = p
}

// snapshot returns a copy of the status.
func (b *statusBoard) snapshot() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.copy()
}

func (b *statusBoard) copy() Status {
	s := b.status
	s.Nodes = append([]NodeStatus(nil), s.Nodes...)
	s.Ready = s.ready(b.replicas)
	return s
}

// subscribe returns the current status and a channel with every later change of a node. The
// channel is closed by cancel, or if the subscriber is too slow.
func (b *statusBoard) subscribe() (now Status, changes <-chan NodeStatus, cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ch := make(chan NodeStatus, backlog)
	b.watchers[ch] = struct{}{}
	return b.copy(), ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, there := b.watchers[ch]; there {
			delete(b.watchers, ch)
			close(ch)
		}
	}
}
