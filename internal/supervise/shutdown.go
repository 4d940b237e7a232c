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

	"holdfast/internal/clock"
	"holdfast/internal/logs"
	"holdfast/internal/plan"
	"holdfast/internal/private"
)

// Stop takes every node down, and returns when all have ended. When hurry is closed (nil: it
// never is), the remaining nodes are killed. When ctx ends first, Stop returns its error:
// nothing more is told to stop, and nothing is killed. In either case the supervisor can only
// be closed afterwards.
//
// Stop does not wait for a host of several that is away. It takes down the nodes of the other
// hosts, and returns an *UnreachedError.
func (s *Supervisor) Stop(ctx context.Context, hurry <-chan struct{}) error {
	s.stopping.Store(true)
	s.statusBoard.enter(PhaseStopping)
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-hurry:
			cancel()
		case <-patient.Done():
		}
	}()

	failures := s.stopStages(stopContexts{ctx, patient})
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

// stopContexts has the contexts of a Stop. It goes on until ctx ends. patient ends earlier, when
// the remaining nodes are to be killed.
type stopContexts struct{ ctx, patient context.Context }

// stopStages takes the nodes down, stage by stage.
func (s *Supervisor) stopStages(t stopContexts) (failures []error) {
	order := s.stopOrder()
	// The virtual address moves to a host that serves, before this one stops serving.
	failures = await(s.stopAll(t, order[plan.StopKeepalived]))
	// A balancer that was asked to stop accepts no new connections, but waits for the clients of
	// the existing ones, which may be idle. So the applications stop meanwhile, after finishing
	// the requests that they have. After that only idle connections can be left, unless servers
	// that run elsewhere still serve somebody.
	balancers := s.stopAll(t, order[plan.StopBalancers])
	failures = append(failures, await(s.stopAll(t, order[plan.StopApps]))...)
	if !s.stack().ServesElsewhere() {
		for _, name := range order[plan.StopBalancers] {
			s.send(t.patient, name, command{action: actCut})
		}
	}
	failures = append(failures, await(balancers)...)
	for i := plan.StopSentinels; i < len(order); i++ {
		// The master is looked up late, because it may have changed, and a supervisor that has just
		// adopted the nodes did not know it at first.
		failures = append(failures, await(s.stopAll(t, s.stopOrder()[i]))...)
	}
	failures = append(failures, s.endOrphans(t.ctx, t.patient))
	if t.ctx.Err() == nil {
		// The log writer ends last, because it stores the output of the others.
		s.endLogWriter()
	}
	return failures
}

// stopAll begins to stop nodes, and returns a channel for the result of each.
func (s *Supervisor) stopAll(t stopContexts, names []string) []<-chan error {
	return s.each(names, func(name string) error { return s.stopNode(t, name) })
}

// each calls do for all nodes at once, and returns a channel for the result of each.
func (s *Supervisor) each(names []string, do func(name string) error) []<-chan error {
	var answers []<-chan error
	for _, name := range names {
		answer := make(chan error, 1)
		answers = append(answers, answer)
		s.tasks.Go(func() { answer <- do(name) })
	}
	return answers
}

// await waits for all results and returns the errors.
func await(answers []<-chan error) (failures []error) {
	for _, a := range answers {
		if err := <-a; err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// stopOrder returns the order in which nodes are stopped (plan.Kind.StopRank).
func (s *Supervisor) stopOrder() [][]string {
	order := make([][]string, plan.StopRanks)
	for _, n := range s.statusBoard.snapshot().Nodes {
		i := n.Kind.StopRank(n.Role == "master")
		order[i] = append(order[i], n.Name)
	}
	return order
}

// stopNode stops a node. If its host is lost, it marks the host as not reached.
func (s *Supervisor) stopNode(t stopContexts, name string) error {
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	host := s.home(name)
	waiting, end := s.whileReached(t.patient, host)
	defer end()
	err := s.send(waiting, name, command{action: ActStop})
	switch {
	case errors.Is(context.Cause(waiting), errUnreached), errors.Is(err, errAway), err == nil && s.hosts.isAbsent(host.name):
		s.markUnreached(host)
		return nil // Stop returns it as an UnreachedError
	case t.ctx.Err() == nil && t.patient.Err() != nil:
		return s.killNode(t.ctx, name)
	}
	return err
}

// killNode stops a node at once, because the operator has asked twice.
func (s *Supervisor) killNode(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n := s.node(name)
	if n == nil { // a change has just removed it
		return nil
	}
	// It is stopped first, because a killed node that is wanted up is started again.
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

// Purge removes the stack from its state directory, including the data, and the directory
// itself unless something else is in it.
func (s *Supervisor) Purge() error {
	for _, n := range s.statusBoard.snapshot().Nodes {
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

// RemoveState removes the state of a host of several when its stack does not exist any more,
// and the state directory itself unless something else is in it. No node of the host may be
// running.
func RemoveState(stateDir string) error { return dirAt(stateDir).removeAll() }

func (d dir) removeAll() error {
	former, _ := filepath.Glob(d.path(beforeRestore + "*"))
	for _, path := range former {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the stack's data of before a restore: %w", err)
		}
	}
	for _, name := range []string{"nodes", restoreDir, decidedDir, droppedDir, restoreFile, backupSpool, BackupFile, backupLock, "logs", "drills", DrillLock, stateFile, runningFile, changeFile, maintenanceFile, changesDir, versionsFile, SelfSignedFile, plan.CertificatesDir, plan.ReleasesDir(""), "control.sock", logs.SocketName, "lock"} {
		if err := os.RemoveAll(d.path(name)); err != nil {
			return fmt.Errorf("remove the stack's data: %w", err)
		}
	}
	hostsAt(d.root).here.sweep(context.Background())
	os.Remove(d.root) // this fails if it is not empty
	return nil
}

// DrillLock is the file in the state directory that a drill holds locked.
const DrillLock = "drill.lock"

// drillPatience is how long a purge waits for the end of a drill. After a drill was killed, a
// second process undoes it.
const drillPatience = 5 * time.Second

// NoDrill waits until no drill is under way with a state directory, and keeps drills, and
// processes that undo one, out of it until release is called. It waits a moment for a killed
// drill to be undone; what such a drill leaves behind does not matter. It returns a *DrillError
// if a drill is under way.
func NoDrill(stateDir string) (release func(), err error) {
	clock.Within(drillPatience, 20*time.Millisecond, func() bool {
		release, err = KeepDrillOut(stateDir)
		return !errors.As(err, new(*DrillError))
	})
	return release, err
}

// OwnDrill is a line in DrillLock, perhaps after other text, while the drill runs a stack of
// its own.
const OwnDrill = "the drill has a stack of its own\n"

// Drilled reports whether a drill is under way with a state directory, and whether it drills
// the stack there. It takes a shared lock for a moment; a drill that begins meanwhile finds the
// file unlocked a moment later.
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
		return func() {}, nil // a drill that begins now makes the file and finds the stack down
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

// DrillError is the error of a state directory with which a drill is under way.
type DrillError struct{ Dir string }

func (e *DrillError) Error() string {
	return fmt.Sprintf("a drill is under way with the state directory %s, or one that was killed is being undone", e.Dir)
}
