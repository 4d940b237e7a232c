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
//   - the balancers: balancers.go, drain.go, rotation.go; masterway.go for programs
//   - one host or several: home.go, hosts.go, relocate.go; in Kubernetes pod.go
//   - backups and restores: backup.go, restore.go
//   - what others see: status.go, state.go, tally.go
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
	"io/fs"
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
	// Hosts are where the nodes run, all of them looked after from here; none:
	// those of last time, and at the first time this machine alone.
	Hosts []plan.Place
	// Machine opens a host; nil: it is this machine, with StateDir and the host's network
	// namespace. The supervisor closes it.
	Machine func(plan.Place) machine.Machine
	// Several is true where this host leads a stack of several, each with a state directory
	// of its own. Share has all of them have a file of the state directory before it is
	// written here, or before it is removed (nil content).
	Several bool
	// Pod is true where this host looks after its own nodes alone, and so does each of the
	// others: all but its own are machine.Elsewhere. See pod.go.
	Pod bool
	// OwnFile: see PodFacts.
	OwnFile bool
	Share   func(ctx context.Context, name string, content []byte) error
	// Secret returns the secret of a name where others have to know it, too, who make the
	// containers of applications: see plan.ProgramSecret. Nil: there is none.
	Secret func(name string) (string, error)
	// Life ends what the supervisor does, also while Open and Prepare are under way, such as
	// the leadership of this host; nil: Close does alone.
	Life context.Context
	// Run tells the processes of a host apart: it is another one each time that the host
	// begins. Nil: nothing is known of them.
	Run func(host string) string
	// Version is that of Holdfast.
	Version string
	// Self is the path of the holdfast program, which is a node's program too.
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
	// hosts have the nodes. They are not changed after Open.
	hosts hosts
	lock  io.Closer
	log   *slog.Logger
	// wire is how redis nodes and Sentinels are spoken with; nil: in plain.
	wire *tls.Config

	// mu guards these and cfg.Stack, which a change replaces: see layout.go.
	mu       sync.RWMutex
	plan     plan.Plan
	host     plan.Host
	programs map[programAt]string
	nodes    map[string]*node
	admins   map[string]*redis.Admin
	paces    map[string]*pace // of the Sentinels
	health   *healthFiles
	// file is the stack file, overrides what was said at run time: cfg.Stack is both.
	// generation counts the changes.
	file       stack.Stack
	fileDigest string
	overrides  stack.Overrides
	generation int

	// wanted is what the stack file asks for where the nodes that run are something
	// else; nil: they are it. It is of the start.
	wanted *layout
	// changing is the change that is under way.
	changing changing
	// resting are the hosts that are down for maintenance.
	resting resting

	kept   kept
	board  *board
	booted atomic.Bool
	keptMu sync.Mutex // held while kept is changed and written
	strays []stray
	// left are the processes of the strays by the addresses that they listen on. It is
	// not changed after Open.
	left map[string]stray
	// former are the addresses of redis nodes that run and are in the stack no
	// more, by name: one may be the master still. It is never changed.
	former map[string]string
	// forgotten is why it is not known who was the Redis master; nil: it is.
	forgotten error
	// lost is true when stack.json is missing or empty, although there was a
	// stack with Redis.
	lost bool
	// bereft is the redis node that was the master and has no data any more; empty:
	// it has.
	bereft string
	// cold is true from a start at which neither Redis nor a Sentinel runs until a
	// replica is in step. newer has, for each replica with older data than another
	// one had then, the one with the newest; it is not changed after Prepare.
	cold  atomic.Bool
	newer map[string]string
	// rotating is held by who asks the balancers for their view, until it is
	// shown: no older view comes after a newer one.
	rotating sync.Mutex
	// catchingUp has a *sync.Mutex for each host, held by who does on it what was done on
	// the others while it was away.
	catchingUp sync.Map
	// switching is held by a switchover; unsettled is true while one may have left
	// something at the redis nodes, also under a supervisor before.
	switching sync.Mutex
	unsettled atomic.Bool
	// restoring is true from the decision for a restore until it is carried out or given up.
	// lastRestored is kept.Restored, for somebody who does not wait for kept.
	restoring    atomic.Bool
	lastRestored atomic.Pointer[string]
	shown        shown
	logs         logKeeper
	tally        tally

	// tasks are the goroutines; halt ends them.
	tasks tasks
	ctx   context.Context
	halt  context.CancelFunc
	// stopping is set by Stop, once. unreached are the hosts that it did not reach.
	stopping  atomic.Bool
	unreached unreached

	seenServers seenServers
	// sessionsEnd is true where a balancer cannot have the requests that a server holds go
	// to another one: see freeClients.
	sessionsEnd atomic.Bool
}

// kept is stack.json: what outlives every process of the stack.
type kept struct {
	// Booted is true once redis-1 was made the first master: from then on the
	// Sentinels' memory says who is.
	Booted bool `json:"booted"`
	// Ports are those of all nodes that the stack has ever had: one that is
	// not in the stack file for a while comes back where it was.
	Ports   map[string]int `json:"ports"`
	Secrets plan.Secrets   `json:"secrets"`
	Redis   redisMemory    `json:"redis"`
	// Restored is the ID of the last backup that was restored on several hosts; empty: none
	// was.
	Restored string `json:"restored,omitempty"`
	// Hosts are where the nodes run; none: on this machine.
	Hosts []plan.Place `json:"hosts,omitempty"`
	// Placement is on which of several hosts each node is, and Facts what those hosts were
	// last: one may be away.
	Placement plan.Placement            `json:"placement,omitempty"`
	Facts     map[string]plan.HostFacts `json:"facts,omitempty"`
	// stay are nodes in the middle of a change: see plan.Facts.Stay. It is not written down.
	stay map[string]plan.Place
}

const keptFile = "stack.json"

// readKept reads stack.json. One that is missing is empty.
func (d dir) readKept() (k kept, err error) {
	err = d.readJSON(keptFile, &k)
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = fmt.Errorf("%w. Move it away, then take down what may still run ('holdfast down') and run 'holdfast up': ports and passwords are made anew, and who was the Redis master is read from the Sentinels' files", err)
	}
	return k, err
}

// Open takes the state directory, plans, and adopts the nodes that run. It
// starts nothing. A *LockedError says that another supervisor is at work.
func Open(cfg Config) (_ *Supervisor, err error) {
	if len(cfg.Stack.Hosts) > 1 && !cfg.Several {
		// What runs there, from before its file had hosts, can be taken down.
		if runs, err := Running(cfg.StateDir); err == nil && !runs {
			return nil, ErrSeveralHosts
		}
	}
	s := &Supervisor{
		cfg: cfg, dir: dirAt(cfg.StateDir), log: cfg.Log,
		nodes: map[string]*node{}, former: map[string]string{}, admins: map[string]*redis.Admin{}, paces: map[string]*pace{},
		health: newHealthFiles(),
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
		if err := h.takeOver(s.ctx, s.log); err != nil && !s.without(h.name, err) {
			return nil, err
		}
	}
	if err := s.readResting(); err != nil {
		return nil, err
	}
	if err := (restoring{s.dir, s.hosts}).resume(s.ctx, s.log); err != nil {
		return nil, err
	}
	if err := s.makePlan(); err != nil {
		return nil, err
	}
	s.board = newBoard(s.plan)
	for _, p := range s.processes() {
		s.addNode(p)
	}
	return s, s.adoptAll()
}

// openHosts opens the hosts that the stack has, and those that it had last time: something
// may run there.
func (s *Supervisor) openHosts() error {
	s.hosts = hostsAt(s.cfg.StateDir) // also where the others are not known
	k, err := s.dir.readKept()
	if err != nil {
		return err
	}
	switch {
	case s.cfg.Pod:
		s.hosts = severalHosts(s.ctx, s.cfg)
		s.hosts.apart, s.hosts.begun = true, true // it waits for nobody
	case s.cfg.Several:
		s.hosts = severalHosts(s.ctx, s.cfg)
		_, _, s.hosts.begun, err = s.dir.readRunning()
	default:
		s.hosts = openHosts(s.cfg, slices.Concat(k.Hosts, s.cfg.Hosts))
	}
	s.hosts.claims, s.hosts.secret = &claims{}, s.cfg.Secret
	return err
}

// makePlan chooses ports and secrets, or finds those of last time, and plans.
func (s *Supervisor) makePlan() (err error) {
	if s.kept, err = s.dir.readKept(); err != nil {
		return err
	}
	if len(s.cfg.Hosts) > 0 {
		s.kept.Hosts = s.cfg.Hosts
	}
	if err := s.remember(); err != nil {
		return err
	}
	s.booted.Store(s.kept.Booted)
	s.lastRestored.Store(&s.kept.Restored)
	return s.findRunning()
}

// replan makes the plan of what is kept.
func (s *Supervisor) replan() error {
	facts, each, err := s.hosts.facts(s.ctx, s.stack(), s.cfg.BaseDir, s.kept)
	if err != nil {
		return err
	}
	facts.Drained = s.overrides.Drained
	if s.plan, err = plan.Make(s.stack(), facts, each); err != nil {
		return err
	}
	s.host = together(s.plan.Hosts)
	if s.kept.Ports == nil {
		s.kept.Ports = map[string]int{}
	}
	maps.Copy(s.kept.Ports, facts.Ports)
	s.kept.Secrets, s.kept.Placement = facts.Secrets, facts.Placement
	if s.cfg.Several {
		s.kept.Facts = each
	}
	return nil
}

// saveKept writes stack.json.
func (s *Supervisor) saveKept() error { return s.dir.writeJSON(keptFile, s.kept) }

// adoptAll takes over every node that runs.
func (s *Supervisor) adoptAll() error {
	adopted := false // any
	for name, n := range s.allNodes() {
		host := n.home()
		if s.hosts.absent.has(host.name) && s.resting.keeps(name) {
			adopted = true
			n.keepDown.Store(true) // it was stopped before its host went away
			continue
		}
		if n.unseen = s.hosts.absent.has(host.name); n.unseen {
			adopted = adopted || !s.hosts.apart // it may run
			continue
		}
		r, err := host.readRecord(s.ctx, name)
		if err != nil {
			return err
		}
		// A node that was stopped alone stays down while the others run.
		n.restarts, n.crashes, n.made = r.Restarts, r.Crashes, r.Plan
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
			if !s.without(host.name, err) {
				return fmt.Errorf("adopt %s: %w", name, err)
			}
			n.unseen = true
			continue
		}
		n.outdated.Store(r.Plan != s.digest(*n.spec()))
		n.adopt(proc, r)
	}
	for _, n := range s.allNodes() {
		// Where nothing runs, 'up' is a new start, and wants everything up.
		n.keepDown.Store(n.keepDown.Load() && adopted)
		if !adopted {
			n.restarts, n.crashes, n.inherited = 0, 0, record{}
		}
	}
	return s.findStrays()
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

// errStopping answers what is asked of a stack that is being taken down.
var errStopping = errors.New("the stack is being taken down")

// UnknownNodeError says that a stack has no node of that name.
type UnknownNodeError struct {
	Node string
	// Kind is the kind of node that was asked for; empty: any.
	Kind  plan.Kind
	Nodes []string
}

func (e *UnknownNodeError) Error() string {
	kind := strings.TrimSpace(string(e.Kind) + " node")
	return fmt.Sprintf("no %s is called %q; the %ss are %s", kind, e.Node, kind, join(e.Nodes))
}

// Close gives the state directory back. Nodes that run go on running.
func (s *Supervisor) Close() {
	s.halt()
	s.tasks.Wait()
	for _, a := range s.admins {
		a.Close()
	}
	if err := s.hosts.close(); err != nil {
		s.log.Warn("a host is not left as it should be", "error", err)
	}
	if s.lock != nil { // a fence's guard has none
		s.lock.Close()
	}
}

// Status answers the stack's status.
func (s *Supervisor) Status() Status {
	return s.about(s.seen(s.board.snapshot()))
}

// about is a status with what the supervisor is about.
func (s *Supervisor) about(st Status) Status {
	st.Supervisor = ownPID()
	st.Backup, _ = LastBackup(s.dir.root)
	st.Change, st.Stopped = s.changing.status()
	s.showOwn(&st)
	now, generation := s.current()
	st.Generation, st.RunTime = generation, runTime(now)
	s.mu.RLock()
	st.File = s.fileDigest
	s.mu.RUnlock()
	st.Resting = s.resting.all()
	st.Certificates = s.certificates()
	st.Virtual = virtualStatus(now.plan, st.Nodes)
	st.Unreached = s.unreached.list()
	st.Restoring = s.restoring.Load()
	if id := s.lastRestored.Load(); id != nil {
		st.Restored = *id
	}
	for i := range st.Nodes {
		n := &st.Nodes[i]
		n.Drained = now.overrides.Drained[n.Name]
		if to, there := now.part(n.Name); there {
			n.Release = to.process.Release
		}
	}
	return st
}

// Subscribe answers the status now and every change of a node after it, until
// cancel. The channel is closed when the subscriber is too slow.
func (s *Supervisor) Subscribe() (now Status, changes <-chan NodeStatus, cancel func()) {
	now, changes, cancel = s.board.subscribe()
	return s.about(now), changes, cancel
}

// StateDir is the stack's state directory.
func (s *Supervisor) StateDir() string { return s.dir.root }

// Plan answers what is being carried out.
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
