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

// How a stack comes up, or a supervisor takes over what runs.

// Attend begins to look after the nodes that run, and starts none.
func (s *Supervisor) Attend() {
	for _, n := range s.allNodes() {
		if n.proc != nil {
			s.keepLogs()
		}
	}
	for _, n := range s.allNodes() {
		s.tasks.Go(func() { n.run(s.ctx) })
	}
}

// Start begins to supervise: it brings every node up, in the order of the
// plan, those of a stage at once, and returns when each of them is up or has
// failed, with the failures, or when ctx ends. Either way it goes on
// supervising until Stop or Close. Prepare comes first.
func (s *Supervisor) Start(ctx context.Context) error {
	s.keepLogs()
	s.awaitLogWriter(ctx)
	s.Attend()
	if s.attendsRedis() {
		s.tasks.Go(s.keepSettled)
	}
	s.tasks.Go(func() { s.watchRotation(s.ctx) })
	s.tasks.Go(s.watchPrograms)
	if s.cfg.Pod {
		s.tasks.Go(s.watchSpinning)
	}
	if s.wire != nil {
		s.tasks.Go(s.watchCertificates)
	}
	s.tasks.Go(s.watchShown)
	s.tasks.Go(s.keepCatchingUp)
	var failures []error
	for _, processes := range stages(s.processes()) {
		failures = append(failures, s.startStage(ctx, processes)...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if s.attendsRedis() {
		if own := s.ownSentinel(); own != "" && len(s.departed()) > 0 {
			s.tasks.Go(func() { s.forgetDeparted(own) })
		}
		s.tasks.Go(func() { s.reconcile(s.ctx) })
	}
	failures = slices.DeleteFunc(failures, func(err error) bool {
		return errors.As(err, new(*UnableError)) // the stack is up without it, and its status says why
	})
	failures = append(failures, s.endStrays(ctx, ctx))
	s.awaitRotation(ctx)
	failures = append(failures, s.awaitChange(ctx))
	s.board.enter(PhaseRunning)
	if s.cfg.Several {
		s.tasks.Go(s.keepResting)
	}
	if s.stack().Redis.Enabled {
		s.tasks.Go(s.keepBackups)
	}
	return errors.Join(failures...)
}

// startStage starts the processes of one stage and waits for them.
func (s *Supervisor) startStage(ctx context.Context, processes []plan.Process) (failures []error) {
	// Redis nodes that start together judge on the same facts: otherwise the
	// first replica to be there would have the named master wait for a
	// failover at every cold start.
	var seen *facts
	if processes[0].Kind == plan.Redis {
		f := s.gather(ctx, time.Second)
		seen = &f
	}
	var current, outdated []string
	for _, p := range processes {
		// Where it is known what they are, a change sees to them.
		if s.node(p.Node).outdated.Load() && s.wanted == nil {
			outdated = append(outdated, p.Node)
		} else {
			current = append(current, p.Node)
		}
	}
	failures = await(s.each(current, func(name string) error { return s.startNode(ctx, name, seen) }))
	// What runs with settings of an earlier stack file is started anew, one
	// after the other, the Redis master last: the service goes on meanwhile.
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
func (s *Supervisor) startNode(ctx context.Context, name string, seen *facts) error {
	n := s.node(name)
	if n.keepDown.Load() { // stopped or paused by its operator, under a supervisor before
		return nil
	}
	// One that a change was moving when that was cut off: the change goes on with it.
	if at := s.home(name).running(s.ctx, name); s.wanted != nil && n.outdated.Load() && at != "" && at != n.spec().Address {
		return nil
	}
	action := ActStart
	if n.outdated.Load() && s.wanted == nil {
		action = ActRestart
	}
	c, limit := command{action: action, seen: seen}, cmp.Or(n.spec().Start, startLimit)
	if s.hosts.lacks(s.home(name).name) { // it starts when its host is back, and keeps nobody waiting
		s.tasks.Go(func() { _ = s.bringUp(s.ctx, n, c, limit) }) // the status says how it is
		return nil
	}
	return s.bringUp(ctx, n, c, limit)
}

// beginAnew writes down what a stack runs as that starts, or that a version of
// Holdfast before this one has left. A change that was under way has ended with what
// ran then.
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

// checkWanted refuses what the stack file asks of a stack that runs as something else
// where that cannot be, before anything is touched.
func (s *Supervisor) checkWanted() error {
	if s.wanted == nil {
		return nil
	}
	p, _, err := s.prepare(s.ctx, Request{Kind: kindUp, File: string(s.wanted.file.Show()), BaseDir: s.wanted.baseDir, atStart: true})
	if err == nil && len(p.Refused) > 0 {
		err = fmt.Errorf("the stack runs as an earlier file says, and cannot become what this one says: %s", strings.Join(p.Refused, "\n"))
	}
	if err != nil && s.hosts.begun {
		// It may be the fault of one host. The change is refused when its turn comes.
		s.log.Warn("what the stack is to become cannot be checked", "error", err)
		return nil
	}
	return err
}
