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

// Phase is what a supervisor is about.
type Phase string

// The phases of a supervisor.
const (
	PhaseStarting Phase = "starting"
	PhaseRunning  Phase = "running" // every node was up, or failed, once
	PhaseStopping Phase = "stopping"
)

// NodeStatus is one node as seen from outside.
type NodeStatus struct {
	Name string    `json:"name"`
	Kind plan.Kind `json:"kind"`
	App  string    `json:"app,omitempty"`
	// Role is master or replica, and of a keepalived holder or standby.
	Role string `json:"role,omitempty"`
	// Holds are the virtual addresses that a keepalived's host has, with spaces between.
	Holds   string `json:"holds,omitempty"`
	State   State  `json:"state"`
	Host    string `json:"host"`
	Address string `json:"address"`
	PID     int    `json:"pid,omitempty"`
	// Restarts counts the starts beyond the first since the stack came up,
	// under whichever supervisor.
	Restarts int `json:"restarts"`
	// Crashes counts the ends that neither an operator nor a change asked for, since
	// the node has its settings and the stack came up; 'holdfast kill' counts as one.
	Crashes int `json:"crashes"`
	// Since is when the state was entered; zero: nobody knows.
	Since time.Time `json:"since"`
	// Began is when its process, or the last one, was started; zero: by a supervisor before.
	Began time.Time `json:"began,omitzero"`
	// Until is by when a node that starts has to be ready; zero: no matter.
	Until time.Time `json:"until,omitzero"`
	// Detail says in words why the state is what it is, if that helps.
	Detail string `json:"detail,omitempty"`
	// Drained is true for a node that its operator has taken out of rotation.
	Drained bool `json:"drained,omitempty"`
	// Release is the digest of the release that a program runs from; empty: none.
	Release string `json:"release,omitempty"`
	// Outdated says which program file, that was replaced since, the node runs, or which
	// tokens file has changed since the node has read it; empty: it runs by what is there.
	Outdated string `json:"outdated,omitempty"`
	// Server is the server program that a node runs, and its version, such as "Redis 8.0.2";
	// empty: it is none, or nobody knows.
	Server string `json:"server,omitempty"`
	// Excluded says of a node that is up why a balancer sends it no requests
	// all the same; empty: all do.
	Excluded string `json:"excluded,omitempty"`
}

// Status is a stack as seen from outside.
type Status struct {
	Stack      string `json:"stack"`
	Entry      string `json:"entry"`
	Statistics string `json:"statistics,omitempty"`
	// Ready is true when a client gets its answers: a balancer is up, each
	// application has a node that is up and a server that every balancer sends
	// requests to, and Redis a master with a replica to acknowledge its writes.
	Ready bool `json:"ready"`
	// Virtual are the virtual addresses of the entry.
	Virtual []VirtualStatus `json:"virtual,omitempty"`
	// Certificates are those that the entry shows.
	Certificates []CertificateStatus `json:"certificates,omitempty"`
	// Unserved are the applications that a balancer has no server for.
	Unserved []Unserved `json:"unserved,omitempty"`
	// Phase is what the supervisor is about: starting, running or stopping.
	Phase Phase `json:"phase,omitempty"`
	// Generation counts the changes of the stack; File is a digest of the stack file that
	// it runs as (FileDigest), empty without a supervisor.
	Generation int    `json:"generation,omitempty"`
	File       string `json:"file,omitempty"`
	// Differs is true where the stack file that somebody has at hand is another one.
	Differs bool `json:"differs,omitempty"`
	// Program is the digest of the program file that the supervisor runs. Outdated says
	// that the file was replaced since; empty: it was not.
	Program  string `json:"program,omitempty"`
	Outdated string `json:"outdated,omitempty"`
	// RunTime is what was said while the stack ran and does not stand in its file; nil:
	// nothing.
	RunTime *RunTime `json:"run_time,omitempty"`
	// Change is the change that is under way; nil: none is.
	Change *ChangeStatus `json:"change,omitempty"`
	// Stopped is the last change where it was stopped before its end; nil: it was not.
	Stopped *Result `json:"stopped,omitempty"`
	// Unreached are the hosts that were lost when the stack was taken down: their nodes were
	// not stopped.
	Unreached []string `json:"unreached,omitempty"`
	// Supervisor is the pid of the supervisor; 0: none runs.
	Supervisor int `json:"supervisor"`
	// Host is the name of the host where it runs; empty: the stack has one host alone.
	Host string `json:"host,omitempty"`
	// Resting are the hosts that are down for maintenance.
	Resting []string `json:"resting,omitempty"`
	// Backup is what is known of the stack's backups.
	Backup BackupState `json:"backup,omitzero"`
	// Restoring is true while a restore is decided and not carried out yet. Restored is the
	// ID of the last one of several hosts; empty: there was none.
	Restoring bool         `json:"restoring,omitempty"`
	Restored  string       `json:"restored,omitempty"`
	Nodes     []NodeStatus `json:"nodes"`
}

// VirtualStatus is who has a virtual address.
type VirtualStatus struct {
	Address string `json:"address"`
	// Hosts are those that have it, as far as their keepalived nodes are up: one, if all
	// is well.
	Hosts []string `json:"hosts"`
}

// Node answers the node of that name.
func (s Status) Node(name string) (NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return NodeStatus{}, false
}

// ready judges Status.Ready.
func (s Status) ready(replicas int) bool {
	up := map[string]int{} // by kind, application, or role of redis
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

// board holds the status of every node and tells subscribers of changes.
type board struct {
	mu     sync.Mutex
	status Status
	// replicas is how many replicas the stack declares.
	replicas int
	watchers map[chan NodeStatus]struct{}
}

// backlog is how many changes a subscriber may be behind before it is dropped.
const backlog = 256

func newBoard(p plan.Plan) *board {
	b := &board{
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

// arrange has the board show the nodes of a plan, in their order, and where clients
// go. It keeps what it has of each; nodes that the plan does not have go.
func (b *board) arrange(p plan.Plan, replicas int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = replicas
	b.status.Entry, b.status.Statistics = p.EntryURL, p.StatisticsURL
	fresh := newBoard(p).status.Nodes
	for i := range fresh {
		if old, there := b.status.Node(fresh[i].Name); there {
			old.Host, old.Address, old.App = fresh[i].Host, fresh[i].Address, fresh[i].App
			fresh[i] = old
		}
	}
	b.status.Nodes = fresh
}

// remove forgets a node.
func (b *board) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Nodes = slices.DeleteFunc(slices.Clone(b.status.Nodes), func(n NodeStatus) bool { return n.Name == name })
}

// update changes a node's status and returns it. A new state gets the time,
// unless change sets one.
func (b *board) update(name string, change func(*NodeStatus)) (now NodeStatus) {
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
			default: // too slow: dropped, never waited for
				delete(b.watchers, w)
				close(w)
			}
		}
		return *n
	}
	return NodeStatus{}
}

// setRotation shows what the balancers hold of the nodes.
func (b *board) setRotation(r rotation) {
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

// enter changes the supervisor's phase.
func (b *board) enter(p Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Phase = p
}

// snapshot answers a copy of the status.
func (b *board) snapshot() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.copy()
}

func (b *board) copy() Status {
	s := b.status
	s.Nodes = append([]NodeStatus(nil), s.Nodes...)
	s.Ready = s.ready(b.replicas)
	return s
}

// subscribe answers the status now and every change of a node after it. The
// channel is closed when the subscriber was too slow, or by cancel.
func (b *board) subscribe() (now Status, changes <-chan NodeStatus, cancel func()) {
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
