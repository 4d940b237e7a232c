package supervise

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/machine"
	"holdfast/internal/plan"
)

// stubborn is a script that SIGTERM does not end.
const stubborn = "trap '' TERM; while :; do sleep 0.01; done"

// A host that no longer leads leaves what it was taking down to the next leader.
func TestAStopWhoseLeadershipEndsKillsNothing(t *testing.T) {
	s, _ := oneNode(t, stubborn)
	s.Watch()
	must(t, s, ActStart)
	pid := status(s).PID
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx, nil) }()
	await1(t, s, "it was told to stop", func(st NodeStatus) bool { return st.State == Draining })
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("a stop whose leadership has ended returns %v", err)
	}
	s.halt()
	s.tasks.Wait()
	if err := syscall.Kill(pid, 0); err != nil || status(s).PID != pid {
		t.Errorf("the node was killed: %v, %+v", err, status(s))
	}
}

func TestAStopThatBeginsAfterItsLeadershipStopsNothing(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v", err)
	}
	s.halt()
	s.tasks.Wait()
	if n.proc == nil || n.proc.Exit() != "" || !n.killAt.IsZero() {
		t.Errorf("the node was told to stop: %+v", status(s))
	}
}

// losableMachine is a machine of a host that can be lost. While it is away, its processes receive
// no signal.
type losableMachine struct{ *faultyMachine }

func (m losableMachine) Start(ctx context.Context, spec machine.Spec) (machine.Process, error) {
	p, err := m.faultyMachine.Start(ctx, spec)
	return deafProcess{p, m.faultyMachine}, err
}

type deafProcess struct {
	machine.Process
	on *faultyMachine
}

func (p deafProcess) Signal(sig syscall.Signal) error {
	if p.on.away.Load() {
		return nil // as agent.Remote does
	}
	return p.Process.Signal(sig)
}

func (p deafProcess) SignalGroup(sig syscall.Signal) error {
	if p.on.away.Load() {
		return nil
	}
	return p.Process.SignalGroup(sig)
}

// onLosableHost is oneNode on a host of several that can be lost.
func onLosableHost(t *testing.T, script string) (*Supervisor, *faultyMachine) {
	t.Helper()
	s, m := onFaultyMachine(t, script)
	s.hosts.here = home{Machine: losableMachine{m}, name: "two"}
	s.hosts.several = true
	return s, m
}

func TestAStopDoesNotWaitForAHostThatIsLost(t *testing.T) {
	for _, when := range []string{"before", "meanwhile"} {
		s, m := onLosableHost(t, stubborn)
		s.Watch()
		must(t, s, ActStart)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // otherwise it would wait forever
		t.Cleanup(cancel)
		stopped := make(chan error, 1)
		m.away.Store(when == "before")
		go func() { stopped <- s.Stop(ctx, nil) }()
		await1(t, s, "it is being stopped", func(st NodeStatus) bool { return st.State == Draining })
		m.away.Store(true)
		var lost *UnreachedError
		if err := <-stopped; !errors.As(err, &lost) || !slices.Equal(lost.Hosts, []string{"two"}) {
			t.Errorf("the host was lost %s: %v", when, err)
		}
		if st := s.completeStatus(s.statusBoard.snapshot()); !slices.Equal(st.Unreached, []string{"two"}) {
			t.Errorf("the host was lost %s, and the status has %q", when, st.Unreached)
		}
		m.away.Store(false)
	}
}

// An orphan on a lost host delays neither the start of other nodes, nor a host that no longer
// leads.
func TestNobodyWaitsForAnOrphanOnAHostThatIsLost(t *testing.T) {
	s, m := onLosableHost(t, stubborn)
	proc, err := s.hosts.here.Start(t.Context(), machine.Spec{Node: "web-1", Program: "/bin/sh", Args: []string{"-c", "exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	m.away.Store(true)
	t.Cleanup(func() { m.away.Store(false); _ = proc.SignalGroup(syscall.SIGKILL); <-proc.Done() })
	s.statusBoard = newStatusBoard(plan.Plan{})
	s.nodes = map[string]*node{}
	s.orphans = []orphan{{node: "web-9", host: s.hosts.here, proc: proc}}
	ended := make(chan error, 1)
	go func() { ended <- s.endOrphans(t.Context(), t.Context()) }()
	select {
	case err := <-ended:
		if err != nil || len(s.orphans) != 1 {
			t.Errorf("it returns %v, and %d orphans are left to end", err, len(s.orphans))
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.away.Store(false)
	if err := s.endOrphans(ctx, ctx); !errors.Is(err, context.Canceled) || proc.Exit() != "" {
		t.Errorf("after the leadership: %v, and the process %q", err, proc.Exit())
	}
}

// stuck is a machine that does not respond until ctx ends.
type stuck struct{ machine.Machine }

func (stuck) Present(context.Context) bool { return true }

func (stuck) Glob(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The next leader's calls wait for those of the former one.
func TestASupervisorThatIsBeingOpenedEndsWithItsLeadership(t *testing.T) {
	leading, end := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := Open(Config{
			Life: leading, StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Several: true,
			Hosts:   []plan.Place{{Name: "one", Address: "127.0.0.1"}},
			Machine: func(plan.Place) machine.Machine { return stuck{machine.NewLocal(t.TempDir())} },
		})
		opened <- err
	}()
	end()
	select {
	case err := <-opened:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it returns %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on")
	}
}
