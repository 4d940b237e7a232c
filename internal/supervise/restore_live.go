package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/machine"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// loadLimit is how long a redis node may take to load restored data, or to copy it.
const loadLimit = 30 * time.Minute

// RestorePlace is where the data of a backup has to be staged before Restore.
type RestorePlace struct {
	// Host is one of several hosts, and Copies is how many redis nodes it has.
	Host   string `json:"host"`
	Copies int    `json:"copies"`
	// Server is the server that the redis nodes run (redis.server).
	Server string `json:"server,omitempty"`
}

// RestoreCutError is the error of a restore that was decided on several hosts but could not be
// finished here. The next supervisor goes on with it, or gives it up.
type RestoreCutError struct{ Err error }

func (e *RestoreCutError) Error() string {
	return fmt.Sprintf("the restore was cut off in the middle: %v. The host that leads goes on with it, or gives it up", e.Err)
}
func (e *RestoreCutError) Unwrap() error { return e.Err }

// RestorePlace returns where the data of a backup has to be staged on several hosts. It returns
// an error if a restore could not be carried out now.
func (s *Supervisor) RestorePlace(ctx context.Context) (RestorePlace, error) {
	if s.statusBoard.snapshot().Phase == PhaseStarting {
		return RestorePlace{}, &StartingError{}
	}
	if err := s.mayRestore(ctx); err != nil {
		return RestorePlace{}, err
	}
	if now, _ := s.changing.status(); now != nil {
		return RestorePlace{}, refused("%v", &BusyError{*now})
	}
	host := s.home(s.restoredNode("")).name
	server := s.stack().Redis.Server
	if kept := s.keptName(ctx); server == stack.ServerAuto && kept != "" {
		server = strings.ToLower(kept)
	}
	return RestorePlace{host, len(s.redisOn(host)), server}, nil
}

// mayRestore returns why a restore could not be carried out now; nil: it could.
func (s *Supervisor) mayRestore(ctx context.Context) error {
	switch {
	case s.stopping.Load():
		return errStopping
	case !s.stack().Redis.Enabled:
		return refused("the stack has no Redis")
	case s.statusBoard.snapshot().Phase != PhaseRunning:
		return refused("the stack is still starting: restore when it is up, or take it down first")
	case s.hosts.several:
		return s.allHaveRedis(ctx)
	}
	return nil
}

// allHaveRedis returns an error if a host with a redis node or a Sentinel is away. What runs
// there cannot be stopped. When the host is back, its redis node could become the master with
// the old data, before it has copied the new data.
func (s *Supervisor) allHaveRedis(ctx context.Context) error {
	var away []string
	said := map[string]bool{}
	for _, n := range s.statusBoard.snapshot().Nodes {
		if n.Kind != plan.Redis && n.Kind != plan.Sentinel || said[n.Host] {
			continue
		}
		said[n.Host] = true
		if s.hosts.isAbsent(n.Host) || !s.hosts.at(n.Host).Present(ctx) {
			away = append(away, n.Host)
		}
	}
	if len(away) == 0 {
		return nil
	}
	slices.Sort(away)
	return refused("host %s is away, and has redis nodes or Sentinels: with the data of before they could undo the restore when it is back. Restore when it is up ('holdfast up' there), or take it out of the stack ('holdfast host remove %[1]s')", strings.Join(away, ", "))
}

// redisOn returns the redis nodes of a host, sorted by name.
func (s *Supervisor) redisOn(host string) (nodes []string) {
	for _, n := range s.statusBoard.snapshot().Nodes {
		if n.Kind == plan.Redis && n.Host == host {
			nodes = append(nodes, n.Name)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// restoredNode returns the redis node that gets the data: the master, or another one if the
// master is not on the host that has the data. Empty: that host has no redis node.
func (s *Supervisor) restoredNode(host string) string {
	s.stateMu.Lock()
	master := nodeToRestore(s.persisted, s.stack().Redis.Replicas)
	s.stateMu.Unlock()
	here := s.redisOn(host)
	if host == "" || slices.Contains(here, master) {
		return master
	}
	if len(here) == 0 {
		return ""
	}
	return here[0]
}

// Restore replaces the data of the running stack by what is staged (StageRestore; on several
// hosts StageDump with this ID). It stops Redis and the Sentinels and starts them again. The
// master is stopped only when every write that it has accepted is acknowledged; web nodes hold
// their requests meanwhile, or tell their clients to try again. Restore goes on when ctx ends.
// Once it is decided, the next supervisor finishes it if this one ends. It keeps backups and
// other restores out, and what was staged is gone when it returns.
func (s *Supervisor) Restore(ctx context.Context, host, id string) (Restored, error) {
	return asTask(s, func() (Restored, error) {
		done, err := s.restore(context.WithoutCancel(ctx), host, id)
		if errors.As(err, new(*RestoreCutError)) {
			s.askToReopen(err)
		}
		return done, err
	})
}

func (s *Supervisor) restore(ctx context.Context, host, id string) (Restored, error) {
	unlock, err := s.dir.lockBackup(ctx)
	if err != nil {
		return Restored{}, err // what is staged may belong to another restore by now
	}
	defer unlock()
	if !s.hosts.several {
		defer Unstage(s.dir.root) // in case the restore is refused
	}
	if err := s.mayRestore(ctx); err != nil {
		return Restored{}, err
	}
	if _, err := s.changing.begin("restore", ""); err != nil {
		return Restored{}, refused("%v", err)
	}
	defer s.changing.end(nil)
	if !s.awaitSwitching(ctx) {
		return Restored{}, refused("a switchover is under way")
	}
	defer s.switching.Unlock()

	node := s.restoredNode(host)
	if node == "" {
		return Restored{}, refused("host %s has no redis node any more: 'holdfast restore' again", host)
	}
	x := restoring{s.dir, s.hosts}
	r, err := x.decide(ctx, host, node, id)
	if err == nil || errors.As(err, new(*RestoreCutError)) {
		s.restoring.Store(true)
	}
	if err != nil {
		return Restored{}, err
	}

	s.log.Warn("the data is restored from a backup: Redis and the Sentinels are stopped", "file", r.File, "node", node)
	began := time.Now()
	again := s.redisWanted(node)
	if err := s.stopRedis(ctx); err != nil && s.hosts.several {
		return Restored{}, s.revoke(ctx, x, r, again, err)
	} else if err != nil {
		return Restored{}, notCarriedOut(err)
	}

	if err := s.exchangeData(ctx, x, r, again); err != nil && s.hosts.several {
		return Restored{}, &RestoreCutError{err}
	} else if err != nil {
		return Restored{}, notCarriedOut(err)
	}
	done := Restored{Manifest: r.Manifest, Node: node}
	x.addAsideDirs(ctx, r, &done)
	err = s.startRestored(ctx, r, again)
	if errors.As(err, new(*RestoreCutError)) {
		return Restored{}, err
	}
	if err != nil {
		return done, fmt.Errorf("the data is restored, and not every node is up with it yet: %w; see 'holdfast status'", err)
	}
	done.Stopped = time.Since(began).Milliseconds()
	s.log.Info("the data is restored", "node", node, "former", r.Aside, "took", time.Since(began).Round(time.Millisecond))
	return done, nil
}

// startRestored starts Redis with restored data. On one host the restore is done by now. Of
// several hosts it is done once another host has a copy: an error before is a *RestoreCutError.
func (s *Supervisor) startRestored(ctx context.Context, r decidedRestore, again [2][]string) error {
	if !s.hosts.several {
		s.restoring.Store(false)
		return s.startRedis(ctx, again)
	}
	working, cancel := context.WithCancel(s.ctx)
	defer cancel()
	started, finished := make(chan error, 1), make(chan error, 1)
	s.tasks.Go(func() { started <- s.startRedis(working, again) })
	s.tasks.Go(func() { finished <- s.finishRestore(working, r, s.notOn(r.Host, again[1])) })

	select {
	case err := <-finished:
		if err != nil {
			cancel()
			<-started
			return &RestoreCutError{err}
		}
		err = <-started
		if err != nil && s.ctx.Err() != nil {
			return &RestoreCutError{err} // the next supervisor starts what is not up yet
		}
		return err
	case err := <-started:
		if err != nil && !errors.Is(err, errUnreached) {
			cancel() // the next supervisor tries again, and starts what comes after the failed node
		}
		if failed := <-finished; failed != nil {
			return &RestoreCutError{cmp.Or(err, failed)}
		}
		return err
	}
}

func notCarriedOut(err error) error {
	return fmt.Errorf("the restore is decided, and not carried out yet: %w. 'holdfast down' and 'holdfast up' carry it out", err)
}

// revoke undoes the decision for a restore whose data has not been moved yet, and starts the
// nodes that were stopped for it.
func (s *Supervisor) revoke(ctx context.Context, x restoring, r decidedRestore, again [2][]string, why error) error {
	if err := x.end(ctx, r); err != nil {
		return &RestoreCutError{errors.Join(why, err)}
	}
	s.restoring.Store(false)
	s.log.Warn("a restore is given up before anything was changed", "why", why)
	err := fmt.Errorf("%w: nothing was changed, and Redis goes on with the data that it has", why)
	if failed := s.startRedis(ctx, again); failed != nil {
		err = fmt.Errorf("%w; not every node is up again yet: %w", err, failed)
	}
	return err
}

// redisWanted returns the Sentinels, and then the redis nodes, that are to be up after a
// restore: those that nobody has stopped, and the node with the data.
func (s *Supervisor) redisWanted(node string) (stages [2][]string) {
	for _, n := range s.statusBoard.snapshot().Nodes {
		switch {
		case n.State == Down && n.Name != node:
		case n.Kind == plan.Sentinel:
			stages[0] = append(stages[0], n.Name)
		case n.Kind == plan.Redis:
			stages[1] = append(stages[1], n.Name)
		}
	}
	return stages
}

// stopRedis stops Redis and the Sentinels of all hosts for a short time. A supervisor that
// comes after this one starts them again.
func (s *Supervisor) stopRedis(ctx context.Context) error {
	// Sentinels, the master, its replicas: see stopOrder.
	for i := range 3 {
		if i == 1 {
			defer s.stopWrites(ctx)()
		}
		var names []string
		for _, name := range s.stopOrder()[plan.StopSentinels+i] {
			if n, _ := s.statusBoard.snapshot().Node(name); n.State != Down { // otherwise its operator wants it down
				names = append(names, name)
			}
		}
		failures := await(s.each(names, func(name string) error {
			host := s.home(name)
			waiting, end := s.whileReached(ctx, host)
			defer end()
			err := s.send(waiting, name, command{action: ActStop, brief: true})
			if errors.Is(context.Cause(waiting), errUnreached) || err == nil && s.hosts.isAbsent(host.name) {
				return fmt.Errorf("host %s was lost while %s was to be stopped", host.name, name)
			}
			return err
		}))
		if len(failures) > 0 {
			return failures[0]
		}
	}
	return nil
}

// exchangeData moves the new data into its place. Redis and the Sentinels have ended; a
// supervisor that comes after this one starts the nodes in again.
func (s *Supervisor) exchangeData(ctx context.Context, x restoring, r decidedRestore, again [2][]string) error {
	s.copying.Store(s.hosts.several)
	if err := x.noteMoving(&r); err != nil {
		return err
	}
	if s.hosts.several {
		ctx = s.ctx // a host that no longer leads must leave the data to the one that does
	}
	if err := x.place(ctx, r); err != nil {
		return err
	}
	if err := s.makeDirs(); err != nil && (!s.hosts.several || !errors.Is(err, machine.ErrUnreachable)) { // the data directories of the other nodes
		return err
	}

	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	files, err := s.hosts.sentinelFiles(s.ctx)
	if err != nil {
		return err
	}

	s.persisted.markRestored(r.Node, files)
	if r.ID != "" {
		s.persisted.Restored = r.ID
	}
	if err := s.saveState(); err != nil {
		return err
	}
	if err := s.writeSentinelFiles(); err != nil {
		return err
	}
	s.persisted.Redis.Rewriting = false
	if err := s.saveState(); err != nil {
		return err
	}

	s.lastRestored.Store(&r.ID)
	for _, name := range slices.Concat(again[0], again[1]) {
		host := s.home(name) // the node with the data may have been stopped before the restore
		record, err := host.readRecord(s.ctx, name)
		if err == nil && record.Want != wantUp {
			record.Want = wantUp
			err = host.writeRecord(s.ctx, name, record)
		}
		if err != nil {
			return err
		}
	}
	if s.hosts.several {
		return nil // finishRestore ends it
	}
	return x.end(ctx, r)
}

// stopWrites makes the master refuse writes, and waits until those that it has accepted are
// acknowledged. Web nodes hold refused writes; but they would not know the outcome of a write
// whose answer is lost with the master. If the wait fails, the master is stopped anyway. The
// returned function ends the fence's guard, and makes keepSettled lift the fence of a master
// that still runs.
func (s *Supervisor) stopWrites(ctx context.Context) (end func()) {
	master := ""
	var replicas []string
	for _, n := range s.statusBoard.snapshot().Nodes {
		switch {
		case n.Kind != plan.Redis || n.State != Up:
		case n.Role == "master":
			master = n.Name
		default:
			replicas = append(replicas, n.Name)
		}
	}
	if master == "" {
		return func() {}
	}
	endGuard, err := s.startGuard()
	if err != nil {
		s.log.Warn("the master is stopped with writes in hand", "node", master, "why", err)
		return func() {}
	}
	if err := s.awaitAcknowledged(ctx, master, replicas); err != nil {
		s.log.Warn("the master is stopped with writes in hand", "node", master, "why", err)
	}
	return func() {
		endGuard()
		s.unsettled.Store(true)
	}
}

// awaitAcknowledged fences the master, and waits for at most fenceLimit until its replicas have
// all its data and no client is waiting for them.
func (s *Supervisor) awaitAcknowledged(ctx context.Context, master string, replicas []string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceLimit)
	defer cancel()
	if err := s.admin(master).Fence(ctx); err != nil {
		return err
	}
	now, err := s.admin(master).Standing(ctx)
	if err != nil {
		return err
	}
	have := func() bool {
		for _, name := range replicas {
			if st, err := s.admin(name).Standing(ctx); err != nil || st.Offset < now.Offset {
				return false
			}
		}
		n, err := s.admin(master).Awaiting(ctx)
		return err == nil && n == 0
	}
	if !clock.Poll(ctx, switchPoll, have) {
		return fmt.Errorf("not every write was acknowledged within %v", fenceLimit)
	}
	return nil
}

// writeSentinelFiles rewrites the Sentinels' files with the current master. They come from a plan
// that is made for it, because the plan in use may be that of nodes that run since long before, and
// name the master of that time. No Sentinel is running, and the caller holds stateMu.
func (s *Supervisor) writeSentinelFiles() error {
	inUse := s.persisted // with the addresses of the nodes that start now, which an edited file does not change
	inUse.Placement = merged(s.persisted.Placement, placementOf(s.Plan()))
	inUse.Ports = maps.Clone(s.persisted.Ports)
	for _, p := range s.processes() {
		if _, port := splitAddress(p.Address); knownByAddress(p) && inUse.Ports[p.Node] != 0 {
			inUse.Ports[p.Node], _ = strconv.Atoi(port)
		}
	}
	facts, each, err := s.hosts.facts(s.ctx, s.stack(), s.baseDir(), inUse)
	if err != nil {
		return err
	}
	now, err := plan.Make(s.stack(), facts, each)
	if err != nil {
		return err
	}
	master := inUse.Redis.Replication.Master
	if _, there := placementOf(now)[master]; master != "" && s.stack().Redis.Enabled && !s.cfg.Pod && !there {
		// Another node would be named, with the epochs of this one.
		return fmt.Errorf("%s was the Redis master, and the stack file does not have it: give the stack as many replicas as before ('redis.replicas')", master)
	}

	for _, h := range now.Hosts {
		if s.hosts.isAbsent(h.Name) {
			continue
		}
		for _, f := range h.Files {
			if filepath.Base(f.Path) != sentinelConf {
				continue
			}
			if err := s.hosts.at(h.Name).writeFile(s.ctx, f); err != nil && !s.goOnWithout(h.Name, err) {
				return err
			}
		}
	}
	return nil
}

// startRedis starts the Sentinels and then the redis nodes. The node with the data is up first,
// because the others wait for it. Nodes of a lost host start when it is back.
func (s *Supervisor) startRedis(ctx context.Context, stages [2][]string) error {
	var lost error
	for _, names := range stages {
		failures := await(s.each(names, func(name string) error {
			host := s.home(name)
			waiting, end := s.whileReached(ctx, host)
			defer end()
			err := s.bringUp(waiting, s.node(name), command{action: ActStart}, loadLimit)
			if errors.Is(context.Cause(waiting), errUnreached) {
				return fmt.Errorf("%s: host %s: %w; it starts when the host is back", name, host.name, errUnreached)
			}
			return err
		}))
		for _, err := range failures {
			if !errors.Is(err, errUnreached) {
				return err
			}
			lost = err
		}
	}
	return lost
}
