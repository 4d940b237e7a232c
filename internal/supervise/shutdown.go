package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/logs"
	"holdfast/internal/plan"
)

// Stop takes every node down and returns when all have ended. When ctx ends
// before, what is left is killed.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.stopping.Store(true)
	s.board.enter(PhaseStopping)
	order := s.stopOrder()
	// The virtual address goes to a host that serves, before this one does not.
	failures := await(s.stopAll(ctx, order[plan.StopKeepalived]))
	// A balancer that was asked to stop takes no new connection, but waits for
	// the clients of those it has, which may be idle. So the applications are
	// stopped meanwhile: they finish what they have in hand. After that, idle
	// connections are all there can be, unless servers that run elsewhere
	// still answer somebody.
	balancers := s.stopAll(ctx, order[plan.StopBalancers])
	failures = append(failures, await(s.stopAll(ctx, order[plan.StopApps]))...)
	if !s.stack().HasServers() {
		for _, name := range order[plan.StopBalancers] {
			s.send(ctx, name, command{action: actCut})
		}
	}
	failures = append(failures, await(balancers)...)
	for i := plan.StopSentinels; i < len(order); i++ {
		// Who is master is looked up late: it may have changed, and one who
		// has just adopted the nodes did not know it at first.
		failures = append(failures, await(s.stopAll(ctx, s.stopOrder()[i]))...)
	}
	failures = append(failures, s.endStrays(ctx))
	// The log writer ends last: it stores what the others say.
	s.endLogWriter()
	return errors.Join(failures...)
}

// stopAll begins to stop nodes and answers the channels that say how each went.
func (s *Supervisor) stopAll(ctx context.Context, names []string) []<-chan error {
	return s.each(names, func(name string) error { return s.stopNode(ctx, name) })
}

// each begins something for all nodes at once and answers the channels that
// say how each went.
func (s *Supervisor) each(names []string, do func(name string) error) []<-chan error {
	var answers []<-chan error
	for _, name := range names {
		answer := make(chan error, 1)
		answers = append(answers, answer)
		s.tasks.Go(func() { answer <- do(name) })
	}
	return answers
}

// await waits for all answers and keeps the failures.
func await(answers []<-chan error) (failures []error) {
	for _, a := range answers {
		if err := <-a; err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// stopOrder is the order of a shutdown (plan.Kind.StopRank).
func (s *Supervisor) stopOrder() [][]string {
	order := make([][]string, plan.StopRanks)
	for _, n := range s.board.snapshot().Nodes {
		i := n.Kind.StopRank(n.Role == "master")
		order[i] = append(order[i], n.Name)
	}
	return order
}

func (s *Supervisor) stopNode(ctx context.Context, name string) error {
	err := s.send(ctx, name, command{action: ActStop})
	if ctx.Err() == nil {
		return err
	}
	// In a hurry: the operator asked twice.
	hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// Stop first: a node that is killed while it is wanted up is started again.
	n := s.node(name)
	if n == nil { // a change has just taken it away
		return nil
	}
	stop := command{action: ActStop, answer: make(chan error, 1)}
	select {
	case n.commands <- stop:
	case <-n.gone:
		return nil
	case <-hurry.Done():
		return hurry.Err()
	}
	if err := s.send(hurry, name, command{action: ActKill}); err != nil && hurry.Err() != nil {
		return err
	}
	select {
	case err := <-stop.answer:
		return err
	case <-n.gone:
		return nil
	case <-hurry.Done():
		return fmt.Errorf("%s has not ended: %w", name, hurry.Err())
	}
}

// Purge removes what the stack keeps in its state directory, its data too,
// and the directory itself unless something else lies in it.
func (s *Supervisor) Purge() error {
	for _, n := range s.board.snapshot().Nodes {
		if n.PID != 0 {
			return fmt.Errorf("%s still runs: nothing is removed", n.Name)
		}
	}
	letDrill, err := NoDrill(s.dir.root)
	if err != nil {
		return fmt.Errorf("%w: nothing is removed", err)
	}
	defer letDrill()
	former, _ := filepath.Glob(s.dir.path(beforeRestore + "*"))
	for _, path := range former {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the stack's data of before a restore: %w", err)
		}
	}
	for _, name := range []string{"nodes", restoreDir, decidedDir, restoreFile, backupSpool, BackupFile, backupLock, "logs", "drills", DrillLock, keptFile, runningFile, changeFile, changesDir, versionsFile, plan.ReleasesDir(""), "control.sock", logs.SocketName, "lock"} {
		if err := os.RemoveAll(s.dir.path(name)); err != nil {
			return fmt.Errorf("remove the stack's data: %w", err)
		}
	}
	s.hosts.here.sweep(s.ctx)
	os.Remove(s.dir.root) // only when it is empty
	return nil
}

// DrillLock is the file in the state directory that a drill holds.
const DrillLock = "drill.lock"

// drillPatience is how long a purge waits for a drill's end: one that was
// killed is undone by a second process.
const drillPatience = 5 * time.Second

// NoDrill waits until no drill has its place in a state directory, and keeps
// every other one, and what undoes one, out of it until release is called. It
// gives one that was killed a moment to be undone; what such a one has left is
// no obstacle. A DrillError says that one is under way.
func NoDrill(stateDir string) (release func(), err error) {
	for deadline := time.Now().Add(drillPatience); ; time.Sleep(20 * time.Millisecond) {
		if release, err = KeepDrillOut(stateDir); err == nil || !errors.As(err, new(*DrillError)) || time.Now().After(deadline) {
			return release, err
		}
	}
}

// KeepDrillOut is NoDrill without waiting.
func KeepDrillOut(stateDir string) (release func(), err error) {
	f, err := os.Open(dirAt(stateDir).path(DrillLock))
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil // a drill makes it and finds the stack down
	}
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, &DrillError{stateDir}
	}
	return func() { f.Close() }, nil
}

// DrillError says that a drill has its place in a state directory.
type DrillError struct{ Dir string }

func (e *DrillError) Error() string {
	return fmt.Sprintf("a drill is under way with the state directory %s, or one that was killed is being undone", e.Dir)
}
