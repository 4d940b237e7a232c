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

// What a supervisor carries out changes while it runs (engine.go): nodes come and go, and get
// other settings. The methods of this file hold Supervisor.mu to read what a change replaces.
// What they return is never modified, because a change makes new slices and maps.

// stack returns the stack that is being carried out: the stack file with the operator's
// commands at run time.
func (s *Supervisor) stack() stack.Stack {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.Stack
}

// name returns the name of the stack.
func (s *Supervisor) name() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.plan.Name
}

// processes returns the processes of all nodes, in the order of a start.
func (s *Supervisor) processes() []plan.Process {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.host.Processes
}

// files returns the files of all nodes.
func (s *Supervisor) files() []plan.File {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.host.Files
}

// baseDir returns the directory that relative paths in the stack file start from.
func (s *Supervisor) baseDir() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.BaseDir
}

// node returns the node with a name; nil: the stack does not have it, or no longer.
func (s *Supervisor) node(name string) *node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.nodes[name]
}

// allNodes returns the nodes by name.
func (s *Supervisor) allNodes() map[string]*node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.nodes)
}

// admin returns a client of a redis node or Sentinel. The client stays when the node goes.
func (s *Supervisor) admin(name string) *redis.Admin {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.admins[name]
}

// periodsOf returns the periods of a Sentinel. For another node, or a Sentinel that has just gone,
// it returns a new one that nothing uses.
func (s *Supervisor) periodsOf(sentinel string) *sentinelPeriods {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.sentinelPeriods[sentinel]; p != nil {
		return p
	}
	return new(sentinelPeriods)
}

// sentinels returns the names of the Sentinels, sorted.
func (s *Supervisor) sentinels() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.sentinelPeriods))
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

// program returns the path of a program on the host of a node.
func (s *Supervisor) program(node string, p plan.Program) string {
	s.mu.RLock()
	host := hostOf(s.plan, node)
	path := s.programs[programAt{host, p}]
	s.mu.RUnlock()
	if path != "" {
		return path
	}
	// The host was away when the programs were looked for.
	at := s.hosts.at(host)
	if p == plan.Self {
		return at.self(s.ctx, s.cfg.Self)
	}
	keep := ""
	if p == plan.RedisServer {
		keep = s.keptName(s.ctx)
	}
	path, _ = at.findProgram(s.ctx, p, keep) // if it is missing, the start of the node reports it
	if path != "" {
		s.mu.Lock()
		s.programs[programAt{host, p}] = path
		s.mu.Unlock()
	}
	return path
}

// addNode adds a node to the stack.
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
		s.sentinelPeriods[p.Node] = new(sentinelPeriods)
	}
	return n
}

// directClient directs the client of a redis node or Sentinel to the address of its process.
func (s *Supervisor) directClient(p plan.Process) {
	if !p.Kind.Traits().Admin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Its plain address may be that of a pod's Service, which may lead to another pod by now.
	s.reachAt(p.Node, p.LocalAddress())
}

// newAdmin makes a client of a redis node or Sentinel, which connects from the node's host.
func (s *Supervisor) newAdmin(node, address string) *redis.Admin {
	way := redis.Way{TLS: s.wire, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return s.home(node).Dial(ctx, "tcp", address)
	}}
	return redis.NewAdmin(way, address, "operator", s.persisted.Secrets.Operator)
}

// reachAt is reach for callers that hold mu.
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

// lastSeenMaster returns the redis node that was last seen as the master; empty: no node was, or
// several were.
func (s *Supervisor) lastSeenMaster() (name string) {
	for _, st := range s.statusBoard.snapshot().Nodes {
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

// planned returns the layout with a plan for the stack "of", and with the ports, secrets and
// placement that the plan chose.
func (s *Supervisor) planned(l layout, of stack.Stack) (layout, error) {
	s.stateMu.Lock()
	state := s.persisted
	s.stateMu.Unlock()
	state.Placement = merged(state.Placement, placementOf(s.Plan()))
	if l.placement != nil {
		state.Placement = l.placement
	}
	if l.balance {
		balanced, err := plan.Balance(of, state.Placement)
		if err != nil {
			return layout{}, err
		}
		state.Placement, l.balance = balanced, false
	}
	state.stay = l.stay
	// A change has layouts in between. A new node that stays gets its final port from the first
	// of them on, and no other new node gets a port that a node is going to move to.
	state.Ports = merged(state.Ports, nil)
	for node, port := range l.ports {
		if state.Ports[node] == 0 {
			state.Ports[node] = port
		} else {
			state.Ports["later "+node] = port
		}
	}
	facts, each, err := s.hosts.facts(s.ctx, of, l.baseDir, state)
	if err != nil {
		return layout{}, err
	}
	facts.Drained = l.overrides.Drained
	l.plan, err = plan.Make(of, facts, each)
	l.ports, l.secrets, l.placement = facts.Ports, facts.Secrets, facts.Placement
	return l, err
}

// keepPorts writes down the ports and passwords of a layout before they are used.
func (s *Supervisor) keepPorts(l layout) error {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	was := s.persisted
	s.persisted.Ports = merged(s.persisted.Ports, l.ports)
	s.persisted.Secrets = l.secrets
	if err := s.saveState(); err != nil {
		s.persisted = was
		return err
	}
	return nil
}
