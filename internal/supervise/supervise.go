// Package supervise carries out a plan and keeps it true: it starts a stack's nodes in order,
// watches their health, starts again what dies, and adopts what an earlier supervisor left
// running. A node does not end when its supervisor ends.
//
// The main path: Open locks the state directory, makes the plan and adopts the nodes that run
// (supervise.go). Prepare checks what can be checked, and writes the plan's files. Start brings
// the nodes up, stage by stage. After that each node has a goroutine, which starts, probes and
// stops one process (node.go, probe.go). Close ends the supervisor alone, Stop the whole stack
// (shutdown.go).
//
// The parts:
//   - changes while the stack serves: engine.go and steps.go; record.go keeps them on disk
//   - which role a redis node starts in: decide.go, with pure rules; master.go
//   - the master's successor: switchover.go, failover.go, and what both use in succession.go
//   - the balancers: balancers.go, drain.go, rotation.go; master_route.go for programs
//   - one host or several: home.go, hosts.go, relocate.go; in Kubernetes pod.go
//   - backups and restores: backup.go, restore.go
//   - what is kept on disk: state.go; what others see: status.go, tally.go
//
// What has to run is decided in package plan. A host's files, processes and sockets are reached
// through package machine. The control socket is package control's, and what several hosts agree
// on is package agree's.
package supervise

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/redis"
	"holdfast/internal/stack"
)

// Config says which stack to supervise, and where.
type Config struct {
	Stack stack.Stack
	// BaseDir is where the stack file's relative paths start; absolute.
	BaseDir string
	// StateDir is the stack's own directory; absolute.
	StateDir string
	// Hosts are where the nodes run; this supervisor looks after all of them. If it is empty, the
	// hosts are those of last time, or this machine alone when the stack starts for the first
	// time.
	Hosts []plan.Place
	// Machine opens a host. If it is nil, the host is this machine, with StateDir and the host's
	// network namespace. The supervisor closes what Machine returned.
	Machine func(plan.Place) machine.Machine
	// Several is true where this host leads a stack of several hosts, each of which has a state
	// directory of its own. Share copies a file of the state directory to all hosts before it is
	// written here, or removes it there before it is removed here (nil content).
	Several bool
	// Pod is true where each host looks after its own nodes only: all hosts except this one are
	// machine.Elsewhere. See pod.go.
	Pod bool
	// OwnFile is true where a pod's Sentinel starts on its own file: see PodFacts.
	OwnFile bool
	Share   func(ctx context.Context, name string, content []byte) error
	// Secret returns the secret with a name. It is for secrets that those who build the containers
	// of applications have to know, too: see plan.ProgramSecret. Nil: there are no such secrets.
	Secret func(name string) (string, error)
	// Life ends the supervisor's work, also while Open and Prepare are under way: for example, the
	// leadership of this host ends it. Nil: only Close does.
	Life context.Context
	// Run returns an identifier of the host's current run, which differs each time that Holdfast
	// starts on that host. Nil: nothing is known about runs.
	Run func(host string) string
	// Version is the version of Holdfast.
	Version string
	// Self is the path of the holdfast program, which is also the program of some nodes.
	Self string
	// Environ is the environment that nodes inherit.
	Environ []string
	Log     *slog.Logger
}

// Supervisor holds one stack's state directory locked from Open to Close.
// Its methods are safe for concurrent use.
type Supervisor struct {
	cfg Config
	dir dir
	// hosts are where the nodes run. They are not changed after Open.
	hosts hosts
	lock  io.Closer
	log   *slog.Logger
	// wire is the TLS configuration for connections to redis nodes and Sentinels; nil: plain TCP.
	wire *tls.Config

	// mu guards the fields down to generation, and cfg.Stack. A change replaces them: see
	// layout.go.
	mu              sync.RWMutex
	plan            plan.Plan
	host            plan.Host
	programs        map[programAt]string
	nodes           map[string]*node
	admins          map[string]*redis.Admin
	sentinelPeriods map[string]*sentinelPeriods // by the Sentinels' names
	health          *healthFiles
	// file is the stack file, and overrides are the operator's commands at run time; cfg.Stack is
	// the result of both. generation counts the changes.
	file       stack.Stack
	fileDigest string
	overrides  stack.Overrides
	generation int

	// wanted is what the stack file asks for, if the running nodes were started as something else;
	// nil: they match the file. It is set when the supervisor starts.
	wanted *layout
	// changing is the change that is under way.
	changing changing
	// maintenance are the hosts that are down for maintenance.
	maintenance maintenance

	persisted   persistedState
	statusBoard *statusBoard
	booted      atomic.Bool
	stateMu     sync.Mutex // held while persisted is changed and written
	orphans     []orphan
	// orphanByAddress has the orphans by the addresses that they listen on. It is not changed
	// after Open.
	orphanByAddress map[string]orphan
	// formerRedisAddresses has, by name, the addresses of redis nodes that still run but are no
	// longer in the stack: one of them may still be the master. It is not changed after Open.
	formerRedisAddresses map[string]string
	// masterUnknown is the reason why nobody knows which node was the Redis master; nil: it is
	// known.
	masterUnknown error
	// stateFileLost is true if stack.json is missing or empty, although there was a stack with
	// Redis.
	stateFileLost bool
	// masterWithoutData is the redis node that was the master and has lost its data; empty: no node
	// has.
	masterWithoutData string
	// cold is true from a start at which neither Redis nor a Sentinel runs until a replica is in
	// step with the master. newer maps each replica whose data is older than that of another
	// replica to the replica with the newest data. It is not changed after Prepare.
	cold  atomic.Bool
	newer map[string]string
	// rotating is held from asking the balancers for their view until the view is shown, so that
	// no older view replaces a newer one.
	rotating sync.Mutex
	// catchingUp has a *sync.Mutex for each host. It is held while the host, which was away, gets
	// what the other hosts got in the meantime.
	catchingUp sync.Map
	// switching is held by a switchover, and by others that must not run beside one. unsettled is
	// true while a switchover, perhaps of an earlier supervisor, may have left changed settings at
	// the redis nodes.
	switching sync.Mutex
	unsettled atomic.Bool
	// restoring is true from the decision for a restore until it is carried out or given up.
	// lastRestored is persisted.Restored, for readers that must not wait for stateMu.
	restoring    atomic.Bool
	lastRestored atomic.Pointer[string]
	// copying is true while only one of several hosts has the data of a restore: redis nodes
	// that start refuse writes. reopen is for Reopen.
	copying atomic.Bool
	reopen  chan error
	// firstCopies has for each redis node whether it has had its first copy of the data (hasFirstCopy);
	// none: not known yet.
	firstCopies sync.Map
	certs       entryCertificates
	logs        logKeeper
	tally       tally

	// tasks are the goroutines; halt ends them.
	tasks tasks
	ctx   context.Context
	halt  context.CancelFunc
	// stopping is set once, by Stop. unreached are the hosts that Stop did not reach.
	stopping  atomic.Bool
	unreached unreached

	seenServers seenServers
	// sessionsEnd is true if a balancer's HAProxy cannot send the requests that a hanging server
	// holds to another server: see freeClients.
	sessionsEnd atomic.Bool
}

// Open locks the state directory, makes the plan and adopts the nodes that run. It starts
// nothing. It returns a *LockedError if another supervisor holds the directory.
func Open(cfg Config) (_ *Supervisor, err error) {
	if len(cfg.Stack.Hosts) > 1 && !cfg.Several {
		// A stack that was started before its file had several hosts can still be taken down.
		if runs, err := Running(cfg.StateDir); err == nil && !runs {
			return nil, ErrSeveralHosts
		}
	}

	s := &Supervisor{
		cfg: cfg, dir: dirAt(cfg.StateDir), log: cfg.Log,
		nodes: map[string]*node{}, formerRedisAddresses: map[string]string{}, admins: map[string]*redis.Admin{}, sentinelPeriods: map[string]*sentinelPeriods{},
		health: newHealthFiles(), reopen: make(chan error, 1),
	}
	s.unsettled.Store(true)
	if cfg.Share != nil {
		s.dir.share = func(name string, content []byte) error { return cfg.Share(s.ctx, name, content) }
	}

	if err := s.dir.open(); err != nil {
		return nil, err
	}
	if s.lock, err = s.dir.lock(); err != nil {
		return nil, err
	}

	if cfg.Life == nil {
		cfg.Life = context.Background()
	}
	s.ctx, s.halt = context.WithCancel(cfg.Life)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()

	if err := s.openHosts(); err != nil {
		return nil, err
	}
	if cfg.Several {
		if s.wire, err = wireTLS(cfg.StateDir, cfg.Stack); err != nil {
			return nil, err
		}
	}

	for _, h := range s.hosts.all() {
		if err := h.takeOver(s.ctx, s.log); err != nil && !s.goOnWithout(h.name, err) {
			return nil, err
		}
	}
	if err := s.readMaintenance(); err != nil {
		return nil, err
	}
	copying, err := restoring{s.dir, s.hosts}.resume(s.ctx, s.log)
	if err != nil {
		return nil, err
	}
	s.copying.Store(copying)
	s.restoring.Store(copying)

	if err := s.makePlan(); err != nil {
		return nil, err
	}
	s.statusBoard = newStatusBoard(s.plan)
	for _, p := range s.processes() {
		s.addNode(p)
	}
	return s, s.adoptAll()
}

// openHosts opens the hosts of the stack, and those that it had last time, where nodes may
// still run.
func (s *Supervisor) openHosts() error {
	s.hosts = hostsAt(s.cfg.StateDir) // Close needs it if stack.json cannot be read
	k, err := s.dir.readState()
	if err != nil {
		return err
	}
	switch {
	case s.cfg.Pod:
		s.hosts = severalHosts(s.ctx, s.cfg)
		s.hosts.apart, s.hosts.begun = true, true // a pod does not wait for other hosts
	case s.cfg.Several:
		s.hosts = severalHosts(s.ctx, s.cfg)
		_, _, s.hosts.begun, err = s.dir.readRunning()
	default:
		s.hosts = openHosts(s.cfg, slices.Concat(k.Hosts, s.cfg.Hosts))
	}
	s.hosts.claims, s.hosts.secret = &claims{}, s.cfg.Secret
	return err
}

// makePlan chooses ports and secrets, or reads those of last time, and makes the plan.
func (s *Supervisor) makePlan() (err error) {
	if s.persisted, err = s.dir.readState(); err != nil {
		return err
	}
	if len(s.cfg.Hosts) > 0 {
		s.persisted.Hosts = s.cfg.Hosts
	}
	if err := s.findLastMaster(); err != nil {
		return err
	}
	s.booted.Store(s.persisted.Booted)
	s.lastRestored.Store(&s.persisted.Restored)
	return s.findRunning()
}

// replan makes the plan from what s.persisted remembers.
func (s *Supervisor) replan() error {
	facts, each, err := s.hosts.facts(s.ctx, s.stack(), s.cfg.BaseDir, s.persisted)
	if err != nil {
		return err
	}
	facts.Drained = s.overrides.Drained
	if s.plan, err = plan.Make(s.stack(), facts, each); err != nil {
		return err
	}
	s.host = mergeHosts(s.plan.Hosts)
	if s.persisted.Ports == nil {
		s.persisted.Ports = map[string]int{}
	}
	maps.Copy(s.persisted.Ports, facts.Ports)
	s.persisted.Secrets, s.persisted.Placement = facts.Secrets, facts.Placement
	if s.cfg.Several {
		s.persisted.Facts = each
	}
	return nil
}

// adoptAll takes over every node that runs.
func (s *Supervisor) adoptAll() error {
	adopted := false // whether any node runs, or may run
	for name, n := range s.allNodes() {
		host := n.home()
		if s.hosts.absent.has(host.name) && s.maintenance.keeps(name) {
			adopted = true
			n.keepDown.Store(true) // it was stopped before its host went away
			continue
		}
		if s.hosts.absent.has(host.name) {
			n.markNotFound()
			adopted = adopted || !s.hosts.apart // it may run
			continue
		}

		r, err := host.readRecord(s.ctx, name)
		if err != nil {
			return err
		}
		// A node that was stopped on its own stays down while others run.
		n.restarts, n.crashes, n.settingsDigest = r.Restarts, r.Crashes, r.Plan
		if n.keepDown.Store(r.Want == wantDown); n.keepDown.Load() {
			n.inherited = r
		}
		if r.Process.PID == 0 {
			continue
		}

		proc, err := host.Adopt(s.ctx, r.Process)
		if errors.Is(err, machine.ErrGone) {
			if !n.keepDown.Load() { // it died while nobody watched
				n.restarts++
				n.crashes++
			}
			continue
		}
		adopted = true
		if err != nil {
			if !s.goOnWithout(host.name, err) {
				return fmt.Errorf("adopt %s: %w", name, err)
			}
			n.markNotFound()
			continue
		}

		n.outdated.Store(r.Plan != s.digest(*n.spec()))
		n.adopt(proc, r)
	}

	for _, n := range s.allNodes() {
		// If nothing runs, 'up' is a new start, which starts every node.
		n.keepDown.Store(n.keepDown.Load() && adopted)
		if !adopted {
			n.restarts, n.crashes, n.inherited = 0, 0, record{}
		}
	}
	return s.findOrphans()
}

// Do carries out an operator's action, and returns when its goal is reached.
func (s *Supervisor) Do(ctx context.Context, node string, action Action) error {
	if s.node(node) == nil {
		return &UnknownNodeError{Node: node, Nodes: s.names()}
	}
	if action == actCut {
		return fmt.Errorf("unknown action %q", action)
	}
	if s.stopping.Load() {
		return errStopping
	}
	if action == ActStop || action == ActRestart {
		if s.copying.Load() && isRedis(node) {
			return refused("a restore is under way, and no other host has a copy of the data yet: wait until 'holdfast status' no longer shows it")
		}
		s.stepDown(ctx, node)
	}
	if action == ActStart || action == ActRestart {
		n := s.node(node)
		return s.bringUp(ctx, n, command{action: action}, cmp.Or(n.spec().Start, askedLimit))
	}
	return s.send(ctx, node, command{action: action})
}

func (s *Supervisor) send(ctx context.Context, node string, c command) error {
	n := s.node(node)
	if n == nil {
		return &UnknownNodeError{Node: node, Nodes: s.names()}
	}
	c.answer = make(chan error, 1)
	select {
	case n.commands <- c:
	case <-n.gone:
		return &UnknownNodeError{Node: node, Nodes: s.names()}
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", c.action, node, ctx.Err())
	case <-n.gone:
		return &UnknownNodeError{Node: node, Nodes: s.names()}
	case <-s.ctx.Done(): // nobody looks after the node any more
		return s.ctx.Err()
	}
}

// errStopping is the error of a request to a stack that is being taken down.
var errStopping = errors.New("the stack is being taken down")

// UnknownNodeError is the error of a request for a node that the stack does not have.
type UnknownNodeError struct {
	Node string
	// Kind is the kind of node that was asked for; empty: any.
	Kind  plan.Kind
	Nodes []string
}

func (e *UnknownNodeError) Error() string {
	kind := strings.TrimSpace(string(e.Kind) + " node")
	return fmt.Sprintf("no %s is called %q; the %ss are %s", kind, e.Node, kind, strings.Join(e.Nodes, ", "))
}

// Close stops supervising and unlocks the state directory. Running nodes go on running.
func (s *Supervisor) Close() {
	s.halt()
	s.tasks.Wait()
	for _, a := range s.admins {
		a.Close()
	}
	if err := s.hosts.close(); err != nil {
		s.log.Warn("a host is not left as it should be", "error", err)
	}
	if s.lock != nil { // the guard of a fence has no lock
		s.lock.Close()
	}
}

// Status returns the stack's status.
func (s *Supervisor) Status() Status {
	return s.completeStatus(s.ownStatus(s.statusBoard.snapshot()))
}

// completeStatus adds to the status board's content what only the supervisor knows: the change,
// backups, hosts, certificates.
func (s *Supervisor) completeStatus(st Status) Status {
	st.Supervisor = ownPID()
	st.Backup, _ = LastBackup(s.dir.root)
	st.Change, st.Stopped = s.changing.status()
	s.showOwn(&st)
	now, generation := s.current()
	st.Generation, st.RunTime = generation, runTime(now)
	s.mu.RLock()
	st.File = s.fileDigest
	s.mu.RUnlock()
	st.Resting = s.maintenance.all()
	st.Certificates = s.certificateStatus()
	st.Virtual = virtualStatus(now.plan, st.Nodes)
	st.Unreached = s.unreached.list()
	st.Restoring = s.restoring.Load()
	if id := s.lastRestored.Load(); id != nil {
		st.Restored = *id
	}
	for i := range st.Nodes {
		n := &st.Nodes[i]
		n.Drained = now.overrides.Drained[n.Name]
		if to, there := now.nodePlan(n.Name); there {
			n.Release = to.process.Release
		}
	}
	return st
}

// Subscribe returns the current status, and a channel with every later change of a node until
// cancel is called. The channel is closed if the subscriber is too slow.
func (s *Supervisor) Subscribe() (now Status, changes <-chan NodeStatus, cancel func()) {
	now, changes, cancel = s.statusBoard.subscribe()
	return s.completeStatus(now), changes, cancel
}

// StateDir returns the path of the stack's state directory.
func (s *Supervisor) StateDir() string { return s.dir.root }

// Plan returns the plan that is being carried out.
func (s *Supervisor) Plan() plan.Plan {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.plan
}

func (s *Supervisor) names() []string {
	var names []string
	for _, p := range s.processes() {
		names = append(names, p.Node)
	}
	return names
}
