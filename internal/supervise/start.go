package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/plan"
)

// This file is about how a stack comes up, and how a supervisor takes over what runs.

// Watch begins to look after the nodes that run. It starts none.
func (s *Supervisor) Watch() {
	for _, n := range s.allNodes() {
		if n.proc != nil {
			s.keepLogs()
		}
	}
	for _, n := range s.allNodes() {
		s.tasks.Go(func() { n.run(s.ctx) })
	}
}

// Start begins to supervise. It brings up the nodes stage by stage, in the order of the plan,
// and all nodes of a stage at once. It returns when each node is up or has failed, with the
// failures, or when ctx ends. In both cases supervision goes on until Stop or Close. Prepare
// has to be called first.
func (s *Supervisor) Start(ctx context.Context) error {
	s.keepLogs()
	s.awaitLogWriter(ctx)
	s.Watch()
	if s.watchesRedis() {
		s.tasks.Go(s.keepSettled)
		s.tasks.Go(s.keepFirstCopies)
	}
	if s.copying.Load() {
		s.tasks.Go(s.goOnRestoring)
	}
	s.tasks.Go(func() { s.watchRotation(s.ctx) })
	s.tasks.Go(s.watchPrograms)
	if s.cfg.Pod {
		s.tasks.Go(s.watchSpinning)
	}
	if s.wire != nil {
		s.tasks.Go(s.watchCertificates)
	}
	s.tasks.Go(s.watchEntryCertificates)
	s.tasks.Go(s.keepCatchingUp)

	var failures []error
	for _, processes := range stages(s.processes()) {
		failures = append(failures, s.startStage(ctx, processes)...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if s.watchesRedis() {
		if own := s.ownSentinel(); own != "" && len(s.departed()) > 0 {
			s.tasks.Go(func() { s.forgetDeparted(own) })
		}
		s.tasks.Go(func() { s.reconcile(s.ctx) })
	}
	failures = slices.DeleteFunc(failures, func(err error) bool {
		return errors.As(err, new(*UnableError)) // the stack is up without this node, and its status says why
	})

	failures = append(failures, s.endOrphans(ctx, ctx))
	s.awaitRotation(ctx)
	s.awaitCopied(ctx)
	failures = append(failures, s.awaitChange(ctx))
	s.statusBoard.enter(PhaseRunning)
	if s.cfg.Several {
		s.tasks.Go(s.watchMaintenance)
	}
	if s.stack().Redis.Enabled {
		s.tasks.Go(s.keepBackups)
	}
	return errors.Join(failures...)
}

// stages groups processes by stage. The processes have to be in the order of their stages.
func stages(processes []plan.Process) [][]plan.Process {
	var groups [][]plan.Process
	for i, p := range processes {
		if i == 0 || p.Stage != processes[i-1].Stage {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], p)
	}
	return groups
}

// startStage starts the processes of one stage and waits for them.
func (s *Supervisor) startStage(ctx context.Context, processes []plan.Process) (failures []error) {
	// Redis nodes that start together decide on the same facts. Otherwise, at every cold start,
	// the named master would wait for a failover as soon as the first replica is up.
	var seen *redisFacts
	if processes[0].Kind == plan.Redis {
		f := s.gather(ctx, time.Second)
		seen = &f
	}
	var current, outdated []string
	for _, p := range processes {
		// If it is known what the nodes run as, a change brings them up to date.
		if s.node(p.Node).outdated.Load() && s.wanted == nil {
			outdated = append(outdated, p.Node)
		} else {
			current = append(current, p.Node)
		}
	}

	failures = await(s.each(current, func(name string) error { return s.startNode(ctx, name, seen) }))

	// Nodes that run with the settings of an earlier stack file are restarted one after the other,
	// the Redis master last, so that the service goes on meanwhile.
	isMaster := func(name string) int {
		if seen != nil && seen.Standings[name].Master {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(outdated, func(a, b string) int { return isMaster(a) - isMaster(b) })
	for _, name := range outdated {
		if err := s.startNode(ctx, name, nil); err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// startNode starts a node as a part of the stack's start.
func (s *Supervisor) startNode(ctx context.Context, name string, seen *redisFacts) error {
	n := s.node(name)
	if n.keepDown.Load() { // the operator stopped or paused it under an earlier supervisor
		return nil
	}
	// A change that was interrupted while it moved this node goes on with it.
	if at := s.home(name).running(s.ctx, name); s.wanted != nil && n.outdated.Load() && at != "" && at != n.spec().Address {
		return nil
	}
	action := ActStart
	if n.outdated.Load() && s.wanted == nil {
		action = ActRestart
	}
	c, limit := command{action: action, startFacts: seen}, cmp.Or(n.spec().Start, startLimit)
	if s.hosts.isAbsent(s.home(name).name) { // it starts when its host is back, and nothing waits for it
		s.tasks.Go(func() { _ = s.bringUp(s.ctx, n, c, limit) }) // its status shows how it goes
		return nil
	}
	return s.bringUp(ctx, n, c, limit)
}

// beginAnew records what the stack runs as when it starts, or when it was left by a version of
// Holdfast without that record. A change that was under way has ended: its nodes do not run any
// more.
func (s *Supervisor) beginAnew() error {
	r, there, err := s.dir.readChange()
	if err != nil {
		return err
	}
	if there {
		r.Result = &Result{ID: r.ID, Kind: r.Kind, Began: r.Began, Why: "the stack was taken down, and came up as its file says"}
		if err := s.dir.archive(r); err != nil {
			return err
		}
	}
	s.generation = max(s.generation, r.ID, 1)
	s.noteVersions("up")
	s.pruneReleases()
	return s.saveRunning()
}

// checkWanted checks, before anything is touched, whether the running stack can become what its
// file asks for.
func (s *Supervisor) checkWanted() error {
	if s.wanted == nil {
		return nil
	}
	p, _, err := s.prepare(s.ctx, Request{Kind: kindUp, File: string(s.wanted.file.Show()), BaseDir: s.wanted.baseDir, atStart: true})
	if err == nil && len(p.Refused) > 0 {
		err = fmt.Errorf("the stack runs as an earlier file says, and cannot become what this one says: %s", strings.Join(p.Refused, "\n"))
	}
	if err != nil && s.hosts.begun {
		// One host may be the cause. Then the change is refused when its turn comes.
		s.log.Warn("what the stack is to become cannot be checked", "error", err)
		return nil
	}
	return err
}
