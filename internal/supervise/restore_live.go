package supervise

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/plan"
)

// loadLimit is how long a redis node may take to load restored data, or to copy it.
const loadLimit = 30 * time.Minute

// Restore puts what is staged (StageRestore) into the place of the data of the stack
// that runs. Redis and the Sentinels are stopped for it and started again, the master once
// every write that it has taken is acknowledged; web nodes hold their requests
// meanwhile, or tell their clients to come again. It goes on
// whatever becomes of ctx, and once it is decided the next supervisor carries it through
// if this one ends. It keeps backups and other restores out, and what was staged is gone
// when it returns.
func (s *Supervisor) Restore(ctx context.Context) (Restored, error) {
	return asTask(s, func() (Restored, error) { return s.restore(context.WithoutCancel(ctx)) })
}

func (s *Supervisor) restore(ctx context.Context) (Restored, error) {
	unlock, err := s.dir.lockBackup(ctx)
	if err != nil {
		return Restored{}, err // what is staged may be another restore's by now
	}
	defer unlock()
	defer Unstage(s.dir.root) // where it was refused
	if s.stopping.Load() {
		return Restored{}, errStopping
	}
	if !s.stack().Redis.Enabled {
		return Restored{}, refused("the stack has no Redis")
	}
	if s.board.snapshot().Phase != PhaseRunning {
		return Restored{}, refused("the stack is still starting: restore when it is up, or take it down first")
	}
	if _, err := s.changing.begin("restore", ""); err != nil {
		return Restored{}, refused("%v", err)
	}
	defer s.changing.end(nil)
	if !s.awaitSwitching(ctx) {
		return Restored{}, refused("a switchover is under way")
	}
	defer s.switching.Unlock()

	s.keptMu.Lock()
	node := nodeToRestore(s.kept, s.stack().Redis.Replicas)
	s.keptMu.Unlock()
	r, err := s.dir.decideRestore(node)
	if err != nil {
		return Restored{}, err
	}
	// From here on there is no way back.
	s.log.Warn("the data is restored from a backup: Redis and the Sentinels are stopped", "file", r.File, "node", node)
	began := time.Now()
	again := s.redisWanted(node)
	if err := s.exchangeData(ctx, r, again); err != nil {
		return Restored{}, fmt.Errorf("the restore is decided, and not carried out yet: %w. 'holdfast down' and 'holdfast up' carry it out", err)
	}
	done := Restored{Manifest: r.Manifest, Node: node, Aside: s.dir.aside(r)}
	if err := s.startRedis(ctx, again); err != nil {
		return done, fmt.Errorf("the data is restored, and not every node is up with it yet: %w; see 'holdfast status'", err)
	}
	done.Stopped = time.Since(began).Milliseconds()
	s.log.Info("the data is restored", "node", node, "former", done.Aside, "took", time.Since(began).Round(time.Millisecond))
	return done, nil
}

// redisWanted are the Sentinels and the redis nodes that are to be up after a restore:
// those that nobody has stopped, and the node with the data. Sentinels come first.
func (s *Supervisor) redisWanted(node string) (stages [2][]string) {
	for _, n := range s.board.snapshot().Nodes {
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

// exchangeData stops Redis and the Sentinels, and puts the data into its place. A
// supervisor that comes after this one starts those of again.
func (s *Supervisor) exchangeData(ctx context.Context, r decidedRestore, again [2][]string) error {
	// Sentinels, the master, its replicas: see stopOrder.
	for i := range 3 {
		if i == 1 {
			defer s.stopWrites(ctx)()
		}
		failures := await(s.each(s.stopOrder()[plan.StopSentinels+i], func(name string) error {
			return s.send(ctx, name, command{action: ActStop})
		}))
		if len(failures) > 0 {
			return failures[0]
		}
	}
	if err := s.dir.placeRestored(r); err != nil {
		return err
	}
	if err := s.makeDirs(); err != nil { // the data directories of the other nodes
		return err
	}

	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	files, err := s.hosts.sentinelFiles(s.ctx)
	if err != nil {
		return err
	}
	s.kept.restored(r.Node, files)
	if err := s.saveKept(); err != nil {
		return err
	}
	if err := s.writeSentinelFiles(); err != nil {
		return err
	}
	s.kept.Redis.Rewriting = false
	if err := s.saveKept(); err != nil {
		return err
	}
	for _, name := range slices.Concat(again[0], again[1]) {
		host := s.home(name)
		record, err := host.readRecord(s.ctx, name)
		if err != nil {
			return err
		}
		record.Want = wantUp
		if err := host.writeRecord(s.ctx, name, record); err != nil {
			return err
		}
	}
	return s.dir.endRestore()
}

// stopWrites has the master refuse writes, and waits until those that it has taken are
// acknowledged: web nodes hold what is refused, and would not know of a write whose answer
// goes with the master. Where that cannot be, the master is stopped all the same. What it
// returns ends the fence's guard, and has the fence lifted of a master that still runs.
func (s *Supervisor) stopWrites(ctx context.Context) (end func()) {
	master := ""
	var replicas []string
	for _, n := range s.board.snapshot().Nodes {
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

// awaitAcknowledged fences the master off and waits, for fenceLimit at most, until its
// replicas have all its data and no client waits for them.
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
	if !pollEvery(ctx, switchPoll, have) {
		return fmt.Errorf("not every write was acknowledged within %v", fenceLimit)
	}
	return nil
}

// writeSentinelFiles writes the Sentinels' files anew, with the master that is known
// now. No Sentinel runs, and the caller has keptMu.
func (s *Supervisor) writeSentinelFiles() error {
	facts, each, err := s.hosts.facts(s.ctx, s.stack(), s.baseDir(), s.kept)
	if err != nil {
		return err
	}
	p, err := plan.Make(s.stack(), facts, each)
	if err != nil {
		return err
	}
	for _, h := range p.Hosts {
		for _, f := range h.Files {
			if filepath.Base(f.Path) != sentinelConf {
				continue
			}
			if err := s.hosts.at(h.Name).writeFile(s.ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// startRedis starts the Sentinels and then the redis nodes, of which the one with the
// data comes first: the others wait for it.
func (s *Supervisor) startRedis(ctx context.Context, stages [2][]string) error {
	for _, names := range stages {
		failures := await(s.each(names, func(name string) error {
			return s.bringUp(ctx, s.node(name), command{action: ActStart}, loadLimit)
		}))
		if len(failures) > 0 {
			return failures[0]
		}
	}
	return nil
}
