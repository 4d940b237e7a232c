package supervise

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/process"
)

// successor ends a supervisor and returns another one, which adopts the nodes.
func successor(t *testing.T, s *Supervisor, processes ...plan.Process) *Supervisor {
	t.Helper()
	s.halt()
	s.tasks.Wait()
	host := plan.Host{Processes: processes}
	next := &Supervisor{
		dir: s.dir, hosts: hostsAt(s.dir.root), log: slog.New(slog.DiscardHandler), host: host, programs: s.programs,
		statusBoard: newStatusBoard(plan.Plan{Hosts: []plan.Host{host}}), nodes: map[string]*node{},
	}
	next.ctx, next.halt = context.WithCancel(context.Background())
	for _, p := range processes {
		next.nodes[p.Node] = newNode(next, p)
	}
	t.Cleanup(func() {
		next.halt()
		next.tasks.Wait()
		next.hosts.close()
	})
	if err := next.adoptAll(); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAnAdoptedNodeKeepsItsRestartsAndSinceWhen(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	must(t, s, ActKill)
	await1(t, s, "up again", func(st NodeStatus) bool { return st.State == Up && st.Restarts == 1 })
	before := status(s)

	s = successor(t, s, *n.spec())
	s.Watch()
	await1(t, s, "up under the next supervisor", func(st NodeStatus) bool { return st.State == Up })
	if after := status(s); !after.Since.Equal(before.Since) || after.Restarts != 1 || after.Crashes != 1 || after.PID != before.PID {
		t.Errorf("after adoption %+v, before %+v", after, before)
	}

	must(t, s, ActPause)
	before = status(s)
	s = successor(t, s, *n.spec())
	s.Watch()
	await1(t, s, "paused under a third supervisor", func(st NodeStatus) bool { return st.State == Paused })
	if after := status(s); !after.Since.Equal(before.Since) {
		t.Errorf("after adoption %+v, before %+v", after, before)
	}

	must(t, s, ActStop)
	await1(t, s, "down", func(st NodeStatus) bool { return st.State == Down })
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.State != Down || r.Process.PID != 0 || r.Restarts != 1 || r.Crashes != 1 || !r.Since.Equal(status(s).Since) {
		t.Errorf("the record of a stopped node is %+v, %v", r, err)
	}
}

func TestANodeThatDiedWhileNobodyWatchedWasRestarted(t *testing.T) {
	for _, othersRun := range []bool{true, false} {
		s, n := oneNode(t, "exec sleep 1000")
		other := *n.spec()
		other.Node = "web-2"
		s.Watch()
		must(t, s, ActStart)
		must(t, s, ActKill)
		await1(t, s, "up again", func(st NodeStatus) bool { return st.State == Up && st.Restarts == 1 })
		before := status(s)
		s.halt()
		s.tasks.Wait()
		n.proc.SignalGroup(syscall.SIGKILL)
		<-n.proc.Done()

		if othersRun {
			proc, err := process.Start(process.Spec{Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), "log")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				proc.SignalGroup(syscall.SIGKILL)
				<-proc.Done()
			})
			if err := os.MkdirAll(s.dir.path("nodes", "web-2"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := s.home("web-2").writeRecord(t.Context(), "web-2", record{Process: proc.ID(), Want: wantUp}); err != nil {
				t.Fatal(err)
			}
		}
		s = successor(t, s, *n.spec(), other)
		s.Watch()
		must(t, s, ActStart)
		want := map[bool]int{true: 2, false: 0}[othersRun] // 0: the stack is started anew
		if after := status(s); after.Restarts != want || after.Crashes != want || !after.Since.After(before.Since) {
			t.Errorf("others run: %v: restarts %d, want %d; since %v, before %v", othersRun, after.Restarts, want, after.Since, before.Since)
		}
		must(t, s, ActStop)
	}
}

func TestAStackThatIsTakenDownKnowsSinceWhenAndWantsToBeUp(t *testing.T) {
	s, n := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	s.stopping.Store(true)
	if err := s.send(t.Context(), "web-1", command{action: ActStop}); err != nil {
		t.Fatal(err)
	}
	await1(t, s, "down", func(st NodeStatus) bool { return st.State == Down })
	r, err := s.home("web-1").readRecord(t.Context(), "web-1")
	if err != nil || r.Want != wantUp || r.State != Down || r.Process.PID != 0 || !r.Since.Equal(status(s).Since) {
		t.Errorf("the record is %+v, %v", r, err)
	}
	if next := successor(t, s, *n.spec()); next.nodes["web-1"].keepDown.Load() {
		t.Error("the next start of the stack would leave the node down")
	}
}

// Nodes are stopped when their host is removed from the stack, and are to be up when it joins
// again.
func TestAHostThatJoinsAnewRemembersNoStoppedNode(t *testing.T) {
	s, _ := oneNode(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	if err := ForgetStopped(t.Context(), s.dir.root); err != nil {
		t.Fatal(err)
	}
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Process.PID != status(s).PID {
		t.Errorf("a node that runs is forgotten: %+v, %v", r, err)
	}
	must(t, s, ActStop)
	if err := ForgetStopped(t.Context(), s.dir.root); err != nil {
		t.Fatal(err)
	}
	if r, err := s.home("web-1").readRecord(t.Context(), "web-1"); err != nil || r.Want != "" {
		t.Errorf("a node that was stopped is remembered: %+v, %v", r, err)
	}
}
