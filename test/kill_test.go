package test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/servers"
	"holdfast/internal/supervise"
)

// rate is the load under which nodes are killed, in requests per second.
const rate = 200

// underLoad starts a stack, loads it, runs during, and returns what the clients saw.
func underLoad(t *testing.T, during func(s *instance)) outcome {
	t.Helper()
	s, st := runningInstance(t, minimal(t))
	l := startLoad(t, st.Entry, rate)
	time.Sleep(time.Second) // some traffic before the fault
	during(s)
	time.Sleep(time.Second) // and some after it
	o := l.finish(t)
	o.requireTraffic(t, rate)
	s.awaitHealthy()
	return o
}

// killNode kills a node's process without Holdfast's knowledge, and waits until the node is up with
// a new one.
func (s *instance) killNode(name string) {
	s.t.Helper()
	before := s.node(name)
	kill(s.t, before.PID)
	s.await(name+" up again", 30*time.Second, func() bool {
		n := s.node(name)
		return n.State == supervise.Up && n.Excluded == "" && n.PID != before.PID
	})
}

func (o outcome) requireNothingFailed(t *testing.T) {
	t.Helper()
	if len(o.failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(o.failed), o.requests, o.errs)
	}
}

func TestAKilledWebNodeIsNotNoticed(t *testing.T) {
	underLoad(t, func(s *instance) {
		for _, n := range []string{"web-1", "web-2", "web-1"} {
			s.killNode(n)
		}
	}).requireNothingFailed(t)
}

func TestAKilledReplicaIsNotNoticed(t *testing.T) {
	underLoad(t, func(s *instance) { s.killNode("redis-2"); s.killNode("redis-3") }).requireNothingFailed(t)
}

func TestAKilledSentinelIsNotNoticed(t *testing.T) {
	underLoad(t, func(s *instance) {
		for i := range 3 {
			s.killNode(fmt.Sprintf("sentinel-%d", i+1))
		}
	}).requireNothingFailed(t)
}

func TestAKilledBalancerLosesAtMostItsRequestsInFlight(t *testing.T) {
	o := underLoad(t, func(s *instance) { s.killNode("balancer-1"); s.killNode("balancer-2") })
	// Each client has one connection, so each kill can cost it one request.
	if len(o.failed) > 2*loadClients {
		t.Errorf("%d requests failed: %v", len(o.failed), o.errs)
	}
	for _, op := range o.failed {
		if strings.Contains(op.err.Error(), "status") {
			t.Errorf("a balancer answered an error: %v", op.err)
		}
	}
}

func TestAKilledMasterIsAPause(t *testing.T) {
	o := underLoad(t, func(s *instance) {
		old := s.master()
		s.killNode(old)
		s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
		if n := s.node(old); n.Role != "replica" {
			t.Errorf("the old master %s came back as %q", old, n.Role)
		}
		// It stays like this: Sentinels that have just connected to a new master must not consider
		// it down.
		now := s.master()
		for range 30 {
			time.Sleep(100 * time.Millisecond)
			if m := s.master(); m != now {
				t.Fatalf("the master changed again, from %q to %q", now, m)
			}
		}
	})
	o.requireNothingFailed(t)
}

func TestAHungMasterIsReplaced(t *testing.T) {
	o := underLoad(t, func(s *instance) {
		old := s.master()
		pid := s.node(old).PID
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s.await("another master", 20*time.Second, func() bool { m := s.master(); return m != "" && m != old })
		time.Sleep(time.Second)
		syscall.Kill(pid, syscall.SIGCONT)
		s.await("the old master as a replica", 30*time.Second, func() bool {
			n := s.node(old)
			return n.Role == "replica" && n.State == supervise.Up
		})
	})
	o.requireNothingFailed(t)
}

func TestAHungWebNodeLeavesTheRotationAndReturns(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	expect(t, st.Entry+"/set?key=k&value=v", 200, "OK. We have set k to be v")
	s.must("pause", "web-1")
	// The node leaves after two missed checks, and then gets no requests. A request that it had
	// before is sent to the other node, or ended by versions of HAProxy that do not resend.
	client := http.Client{Timeout: 10 * time.Second}
	var haproxy servers.Server
	s.await("the version of HAProxy", 20*time.Second, func() (known bool) {
		haproxy, known = servers.Named(s.node("balancer-1").Server)
		return known
	})
	s.await("ten answers in a row", 20*time.Second, func() bool {
		for range 10 {
			began := time.Now()
			resp, err := client.Get(st.Entry + "/get?key=k")
			if err != nil {
				if haproxy.Resends() || !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				return false
			}
			resp.Body.Close()
			if resp.StatusCode != 200 || time.Since(began) > time.Second {
				return false
			}
		}
		return true
	})
	s.must("resume", "web-1")
	s.awaitHealthy()
	s.await("both nodes answering", 20*time.Second, func() bool { return len(s.answeringNodes(st.Entry, 20)) == 2 })
}

// answeringNodes returns the nodes that answer a number of requests to the entry.
func (s *instance) answeringNodes(entry string, times int) map[string]bool {
	nodes := map[string]bool{}
	for range times {
		nodes[header(s.t, entry+"/get?key=k", "Holdfast-Node")] = true
	}
	return nodes
}

func TestAHungBalancerIsKilledAndReplaced(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	before := s.node("balancer-2")
	if err := syscall.Kill(-before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.await("a new balancer-2", 30*time.Second, func() bool {
		n := s.node("balancer-2")
		return n.State == supervise.Up && n.PID != before.PID
	})
}

func TestAKilledSupervisorIsNotNoticedAndTheNextAdoptsEveryNode(t *testing.T) {
	o := underLoad(t, func(s *instance) {
		before := s.status()
		s.killSupervisor()
		if st := s.status(); st.Supervisor != 0 || len(st.Nodes) != len(before.Nodes) {
			t.Errorf("after the kill: %+v", st)
		}
		for _, n := range s.status().Nodes {
			if n.State != supervise.Up {
				t.Errorf("%s did not outlive the supervisor: %s", n.Name, n.State)
			}
		}
		s.must("up", "-d")
		after := s.awaitHealthy()
		kept := 0
		for _, n := range before.Nodes {
			m, _ := after.Node(n.Name)
			if m.PID != n.PID || m.Restarts != n.Restarts {
				t.Errorf("%s was started again: pid %d, then %d; restarts %d, then %d", n.Name, n.PID, m.PID, n.Restarts, m.Restarts)
			}
			if m.Since.Equal(n.Since) {
				kept++
			}
		}
		if kept == 0 { // one that may have missed a probe
			t.Error("no node is up since when it was before")
		}
	})
	o.requireNothingFailed(t)
}

func TestADeathWhileNoSupervisorRunsIsMendedByTheNextUp(t *testing.T) {
	beside(t, oneStack)
	s, _ := runningInstance(t, minimal(t))
	s.killSupervisor()
	before := s.node("web-1")
	kill(t, before.PID)
	s.await("web-1 gone", 10*time.Second, func() bool { return s.node("web-1").State == supervise.Down })
	s.must("up", "-d")
	s.awaitHealthy()
}

func TestDownWithoutASupervisor(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	s.killSupervisor()
	s.must("down")
	for _, n := range st.Nodes {
		if syscall.Kill(n.PID, 0) == nil && !zombie(n.PID) {
			t.Errorf("%s (pid %d) still runs", n.Name, n.PID)
		}
	}
}

func TestAChangedStackFileReachesTheNodesThatTheNextUpAdopts(t *testing.T) {
	s := newInstance(t, minimal(t))
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.must("up", "-d")
	st := s.awaitHealthy()
	l := startLoad(t, st.Entry, 200)
	s.killSupervisor()
	s.write(string(text) + "redis:\n  memory: 64mb\n")
	s.must("up", "-d")
	after := s.awaitHealthy()
	l.finish(t).requireNothingFailed(t)
	for _, n := range after.Nodes {
		before, _ := st.Node(n.Name)
		if n.Kind == plan.Redis {
			if out := s.redisCLI(n.Name, "config", "get", "maxmemory"); !strings.Contains(out, "67108864") {
				t.Errorf("%s: %s", n.Name, out)
			}
		} else if n.PID != before.PID {
			t.Errorf("%s was started again, and nothing of it changed", n.Name)
		}
	}
}

// adoptsWhatWasNotRecorded restarts nodes while their records cannot be written. This is like
// killing the supervisor between a start and its record. The next supervisor finds the processes.
func (s *instance) adoptsWhatWasNotRecorded(nodes ...string) {
	s.t.Helper()
	var started []int
	for _, node := range nodes {
		path := filepath.Join(s.state, "nodes", node, "process.json")
		if err := errors.Join(os.Rename(path, path+".kept"), os.MkdirAll(filepath.Join(path, "in-the-way"), 0o700)); err != nil {
			s.t.Fatal(err)
		}
		s.must("restart", node)
		started = append(started, s.node(node).PID)
	}
	pid := s.status().Supervisor
	kill(s.t, pid)
	s.await("the supervisor's end", 10*time.Second, func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
	for _, node := range nodes {
		path := filepath.Join(s.state, "nodes", node, "process.json")
		if err := errors.Join(os.RemoveAll(path), os.Rename(path+".kept", path)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.must("up", "-d")
	s.awaitHealthy()
	for i, node := range nodes {
		if pid := s.node(node).PID; pid != started[i] {
			s.t.Errorf("%s is %d, and %d ran that no record told of", node, pid, started[i])
		}
	}
}

func TestABalancerThatNoRecordTellsOfIsNotStartedTwice(t *testing.T) {
	beside(t, oneStack)
	s, st := runningInstance(t, minimal(t))
	stranger, _ := st.Node("balancer-1")
	t.Cleanup(func() {
		if t.Failed() { // 'down' does not know of it
			syscall.Kill(stranger.PID, syscall.SIGKILL)
		}
	})
	s.adoptsWhatWasNotRecorded("balancer-1", "web-1", "redis-3")
	stranger = s.node("balancer-1")

	s.killSupervisor()
	// An earlier version leaves this when it is killed between a start and its record.
	if err := os.Remove(filepath.Join(s.state, "nodes", "balancer-1", "process.json")); err != nil {
		t.Fatal(err)
	}
	requireWords(t, s.must("up", "-d"), "Not up:", "balancer-1 is", "no record tells of")
	if n := s.node("balancer-1"); n.PID != 0 {
		t.Errorf("it was started a second time: %+v", n)
	}
	kill(t, stranger.PID)
	s.awaitHealthy()
}
