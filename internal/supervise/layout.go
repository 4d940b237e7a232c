package supervise

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
)

// What a supervisor carries out changes while it runs (engine.go): nodes come and
// go, and get other settings. Everything that a change replaces is read through the
// methods of this file, which hold Supervisor.mu. What they return is not changed
// any more: a change makes new slices and maps.

// stack is the stack that is being carried out: the stack file and what was said
// at run time.
func (s *Supervisor) stack() stack.Stack {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.Stack
}

// name is the stack's.
func (s *Supervisor) name() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.plan.Name
}

// processes are those that the nodes have, or are to have, in the order of a start.
func (s *Supervisor) processes() []plan.Process {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.host.Processes
}

// files are those of all nodes.
func (s *Supervisor) files() []plan.File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.host.Files
}

// baseDir is where the relative paths of the stack start.
func (s *Supervisor) baseDir() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.BaseDir
}

// node is the node of that name; nil: the stack has none, perhaps since a moment ago.
func (s *Supervisor) node(name string) *node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.nodes[name]
}

// allNodes are the nodes by name.
func (s *Supervisor) allNodes() map[string]*node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.nodes)
}

// admin is a client of a redis node or Sentinel. It stays when the node goes.
func (s *Supervisor) admin(name string) *redis.Admin {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.admins[name]
}

// paceOf is the pace of a Sentinel; of another node, or one that has just gone, it is
// nobody's.
func (s *Supervisor) paceOf(sentinel string) *pace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.paces[sentinel]; p != nil {
		return p
	}
	return new(pace)
}

// sentinels are the names of the Sentinels, in order.
func (s *Supervisor) sentinels() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.paces))
}

// nodesOfKind returns the nodes of a kind, in the order of the plan.
func (s *Supervisor) nodesOfKind(kind plan.Kind) (names []string) {
	for _, p := range s.processes() {
		if p.Kind == kind {
			names = append(names, p.Node)
		}
	}
	return names
}

// program is the path of a program on the host of a node.
func (s *Supervisor) program(node string, p plan.Program) string {
	s.mu.RLock()
	host := hostOf(s.plan, node)
	path := s.programs[programAt{host, p}]
	s.mu.RUnlock()
	if path != "" {
		return path
	}
	// Its host was away when the others were asked.
	at := s.hosts.at(host)
	if p == plan.Self {
		return at.self(s.ctx, s.cfg.Self)
	}
	keep := ""
	if p == plan.RedisServer {
		keep = s.keptName(s.ctx)
	}
	path, _ = at.findProgram(s.ctx, p, keep) // a start without it tells
	if path != "" {
		s.mu.Lock()
		s.programs[programAt{host, p}] = path
		s.mu.Unlock()
	}
	return path
}

// addNode makes a node of a process that the stack did not have.
func (s *Supervisor) addNode(p plan.Process) *node {
	n := newNode(s, p)
	at := ""
	if p.Kind.Traits().Admin {
		at = cmp.Or(p.Local, s.home(p.Node).running(s.ctx, p.Node), p.Address)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = maps.Clone(s.nodes)
	if s.nodes == nil {
		s.nodes = map[string]*node{}
	}
	s.nodes[p.Node] = n
	if p.Kind.Traits().Admin {
		s.reachAt(p.Node, at)
	}
	if p.Kind == plan.Sentinel {
		s.paces[p.Node] = new(pace)
	}
	return n
}

// reach has a redis node or Sentinel be asked where it is from now on.
func (s *Supervisor) reach(p plan.Process) {
	if !p.Kind.Traits().Admin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// In a pod its address is a Service's, which may lead to another pod by now.
	s.reachAt(p.Node, p.Near())
}

// newAdmin makes a client of a redis node or Sentinel, which goes through its host.
func (s *Supervisor) newAdmin(node, address string) *redis.Admin {
	way := redis.Way{TLS: s.wire, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return s.home(node).Dial(ctx, "tcp", address)
	}}
	return redis.NewAdmin(way, address, "operator", s.kept.Secrets.Operator)
}

// reachAt is reach for who holds mu.
func (s *Supervisor) reachAt(node, address string) {
	was := s.admins[node]
	if was != nil && was.Address() == address {
		return
	}
	s.admins[node] = s.newAdmin(node, address)
	if was != nil {
		s.tasks.Go(was.Close)
	}
}

// boardMaster is the redis node that was last seen as the master; empty: none was, or
// several.
func (s *Supervisor) boardMaster() (name string) {
	for _, st := range s.board.snapshot().Nodes {
		switch {
		case st.Kind != plan.Redis || st.Role != "master":
		case name != "":
			return ""
		default:
			name = st.Name
		}
	}
	return name
}
