package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/redis"
)

// A switchover fences the old master: it makes it refuse writes. Unlike a pause, a fence does
// not end by itself. If the supervisor died, the master would refuse writes until the next
// supervisor comes. So each switchover has a guard, a process that is started before the fence.
// When the supervisor has ended, the guard puts the settings back.

// FenceGuardCommand is the hidden subcommand of this program that runs the guard.
const FenceGuardCommand = "fence-guard"

// guardLimit is how long a guard tries after its supervisor's end: longer than the Sentinels
// take to turn an old master into a replica.
const guardLimit = 30 * time.Second

// startGuard starts the guard of a switchover, and returns a function that ends it.
func (s *Supervisor) startGuard() (end func(), err error) {
	output, err := s.openHelperLog(FenceGuardCommand)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	guard, err := process.Start(process.Spec{
		Path: s.cfg.Self, Args: []string{FenceGuardCommand, "--state", s.dir.root, strconv.Itoa(os.Getpid())},
		Env: environFor(s.cfg.Environ, plan.Self), Dir: s.dir.root, Output: output,
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = guard.SignalGroup(syscall.SIGKILL) }, nil
}

// openForSettling returns a supervisor that can only settle what a switchover left. It knows what
// the last supervisor wrote down, and takes no lock, because the next supervisor may be at work.
func openForSettling(stateDir string, log *slog.Logger) (*Supervisor, error) {
	s := &Supervisor{dir: dirAt(stateDir), log: log, nodes: map[string]*node{}, admins: map[string]*redis.Admin{}}
	var err error
	if s.persisted, err = s.dir.readState(); err != nil {
		return nil, err
	}

	way, err := LastWay(stateDir)
	if err != nil {
		return nil, err
	}
	s.wire = way.TLS

	s.ctx, s.halt = context.WithCancel(context.Background())
	s.hosts = openHosts(Config{StateDir: stateDir}, s.persisted.Hosts)

	s.plan.Name = s.persisted.Redis.Watch
	for name, address := range s.persisted.Redis.Addresses {
		p := plan.Process{Node: name, Kind: plan.Redis, Address: address}
		if isSentinel(name) {
			p.Kind = plan.Sentinel
			s.cfg.Stack.Redis.Sentinels++
		} else {
			s.cfg.Stack.Redis.Replicas++
		}
		s.host.Processes = append(s.host.Processes, p)
		s.nodes[name], s.admins[name] = newNode(s, p), s.newAdmin(name, address)
	}
	s.cfg.Stack.Redis.Replicas-- // one is the master

	s.statusBoard = newStatusBoard(plan.Plan{Hosts: []plan.Host{s.host}})
	for name := range s.nodes {
		r, err := s.home(name).readRecord(s.ctx, name)
		if err != nil {
			continue
		}
		if alive, err := s.home(name).Alive(s.ctx, r.Process); err == nil && alive {
			s.statusBoard.update(name, func(n *NodeStatus) { n.PID = r.Process.PID })
		}
	}

	s.unsettled.Store(true)
	return s, nil
}

// awaitEnd waits until the process that started this one has ended, or until ctx ends.
func awaitEnd(ctx context.Context, parent int) {
	if os.Getppid() != parent {
		return // it has ended already
	}
	id, err := process.Identify(parent)
	if err != nil {
		return
	}
	p, err := process.Adopt(id)
	if err != nil {
		return
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
}

// GuardFence waits until the process that started this one, a supervisor, has ended. Then it
// puts back what the supervisor's switchover changed at the redis nodes: a node that is the
// master takes writes again, and one that was replaced takes none before it is a replica.
func GuardFence(ctx context.Context, stateDir string, supervisor int, log *slog.Logger) error {
	if awaitEnd(ctx, supervisor); ctx.Err() != nil {
		return nil
	}

	log.Warn("the supervisor has ended in the middle of a switchover: what that changed is put back", "pid", supervisor)
	s, err := openForSettling(stateDir, log)
	if err != nil {
		return err
	}
	defer s.Close()

	ctx, cancel := context.WithTimeout(ctx, guardLimit)
	defer cancel()
	settled := func() bool {
		var r decidedRestore
		if err := s.dir.readJSON(restoreFile, &r); err == nil && r.Moving {
			return true // the next supervisor goes on with the restore, and puts the settings back: see untilCopied
		}
		s.settleRedis(ctx)
		return !s.unsettled.Load()
	}
	if !clock.Poll(ctx, 20*time.Millisecond, settled) {
		return fmt.Errorf("a switchover was left unfinished, and its settings could not be put back within %v", guardLimit)
	}
	return nil
}
