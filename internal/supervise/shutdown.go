package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/private"
)

// Stop takes every node down and returns when all have ended. When hurry is closed before
// (nil: it never is), what is left is killed. When ctx ends before, Stop returns its error:
// nothing more is told to stop, and nothing is killed. Either way the supervisor is of no
// use any more but to be closed.
//
// A host of several that is away is not waited for. Stop takes down what is elsewhere, and
// returns an *UnreachedError.
func (s *Supervisor) Stop(ctx context.Context, hurry <-chan struct{}) error {
	s.stopping.Store(true)
	s.board.enter(PhaseStopping)
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-hurry:
			cancel()
		case <-patient.Done():
		}
	}()

	failures := s.stopStages(stopping{ctx, patient})
	switch unreached := s.unreached.list(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Join(failures...) != nil:
		return errors.Join(failures...)
	case len(unreached) > 0:
		return &UnreachedError{unreached}
	}
	return nil
}

// stopping is how long a Stop goes on: until ctx ends. patient ends before, when what is
// left is to be killed.
type stopping struct{ ctx, patient context.Context }

// stopStages takes the nodes down, stage after stage.
func (s *Supervisor) stopStages(t stopping) (failures []error) {
	order := s.stopOrder()
	// The virtual address goes to a host that serves, before this one does not.
	failures = await(s.stopAll(t, order[plan.StopKeepalived]))
	// A balancer that was asked to stop takes no new connection, but waits for
	// the clients of those it has, which may be idle. So the applications are
	// stopped meanwhile: they finish what they have in hand. After that, idle
	// connections are all there can be, unless servers that run elsewhere
	// still answer somebody.
	balancers := s.stopAll(t, order[plan.StopBalancers])
	failures = append(failures, await(s.stopAll(t, order[plan.StopApps]))...)
	if !s.stack().ServesElsewhere() {
		for _, name := range order[plan.StopBalancers] {
			s.send(t.patient, name, command{action: actCut})
		}
	}
	failures = append(failures, await(balancers)...)
	for i := plan.StopSentinels; i < len(order); i++ {
		// Who is master is looked up late: it may have changed, and one who
		// has just adopted the nodes did not know it at first.
		failures = append(failures, await(s.stopAll(t, s.stopOrder()[i]))...)
	}
	failures = append(failures, s.endStrays(t.ctx, t.patient))
	if t.ctx.Err() == nil {
		// The log writer ends last: it stores what the others say.
		s.endLogWriter()
	}
	return failures
}

// stopAll begins to stop nodes and answers the channels that say how each went.
func (s *Supervisor) stopAll(t stopping, names []string) []<-chan error {
	return s.each(names, func(name string) error { return s.stopNode(t, name) })
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

// stopNode stops a node, unless its host is lost.
func (s *Supervisor) stopNode(t stopping, name string) error {
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	host := s.home(name)
	waiting, end := s.whileReached(t.patient, host)
	defer end()
	err := s.send(waiting, name, command{action: ActStop})
	switch {
	case errors.Is(context.Cause(waiting), errUnreached), errors.Is(err, errAway), err == nil && s.hosts.lacks(host.name):
		s.leave(host)
		return nil // Stop tells of it
	case t.ctx.Err() == nil && t.patient.Err() != nil:
		return s.killNode(t.ctx, name)
	}
	return err
}

// killNode stops a node at once: its operator has asked twice.
func (s *Supervisor) killNode(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n := s.node(name)
	if n == nil { // a change has just taken it away
		return nil
	}
	// Stop first: a node that is killed while it is wanted up is started again.
	stop := command{action: ActStop, answer: make(chan error, 1)}
	select {
	case n.commands <- stop:
	case <-n.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.send(ctx, name, command{action: ActKill}); err != nil && ctx.Err() != nil {
		return err
	}
	select {
	case err := <-stop.answer:
		return err
	case <-n.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", name, ctx.Err())
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
	return s.dir.removeAll()
}

// RemoveState removes what a host of several keeps in its state directory when its stack is no
// more, and the directory itself unless something else lies in it. No node of it runs.
func RemoveState(stateDir string) error { return dirAt(stateDir).removeAll() }

func (d dir) removeAll() error {
	former, _ := filepath.Glob(d.path(beforeRestore + "*"))
	for _, path := range former {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the stack's data of before a restore: %w", err)
		}
	}
	for _, name := range []string{"nodes", restoreDir, decidedDir, droppedDir, restoreFile, backupSpool, BackupFile, backupLock, "logs", "drills", DrillLock, keptFile, runningFile, changeFile, restingFile, changesDir, versionsFile, SelfSignedFile, plan.CertificatesDir, plan.ReleasesDir(""), "control.sock", logs.SocketName, "lock"} {
		if err := os.RemoveAll(d.path(name)); err != nil {
			return fmt.Errorf("remove the stack's data: %w", err)
		}
	}
	hostsAt(d.root).here.sweep(context.Background())
	os.Remove(d.root) // only when it is empty
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

// OwnDrill is what DrillLock has, perhaps behind more, while the drill is one of a stack of its
// own.
const OwnDrill = "the drill has a stack of its own\n"

// Drilled reports whether a drill has its place in a state directory, and whether it drills the
// stack there. It takes the lock as one of many readers, so that a drill which begins meanwhile
// finds it free a moment later.
func Drilled(stateDir string) (drilled, theStack bool) {
	f, err := private.Open(dirAt(stateDir).path(DrillLock), os.O_RDONLY)
	if err != nil {
		return false, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return false, false
	}
	said, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return true, err != nil || !strings.Contains(string(said), OwnDrill)
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
