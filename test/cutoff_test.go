package test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// port returns the port that a node listens on.
func (s *instance) port(node string) string {
	s.t.Helper()
	_, port, err := net.SplitHostPort(s.node(node).Address)
	if err != nil {
		s.t.Fatal(err)
	}
	return port
}

// masterOtherThan returns a redis node other than but that reports to be the master. It does not
// ask but itself, which may be cut off and not know better.
func (s *instance) masterOtherThan(but string) string {
	s.t.Helper()
	for _, n := range s.status().Nodes {
		if n.Kind == plan.Redis && n.Name != but && n.Role == "master" {
			return n.Name
		}
	}
	return ""
}

// cutOffMaster cuts the master off for a while, by the rules that cutting returns for its port. It
// checks that the master is replaced and comes back as a replica.
func cutOffMaster(t *testing.T, during time.Duration, cutting func(port string) []string) {
	var began, replaced, mended time.Time
	o := underLoad(t, func(s *instance) {
		old := s.master()
		rules := cutting(s.port(old))
		began = time.Now()
		dropPackets(t, rules...)
		s.await("another master", 20*time.Second, func() bool { return s.masterOtherThan(old) != "" })
		replaced = time.Now()
		time.Sleep(time.Until(began.Add(during)))
		mended = time.Now()
		removeCut(t)
		now := s.masterOtherThan(old)
		s.await("the old master as a replica", 30*time.Second, func() bool {
			n := s.node(old)
			return n.Role == "replica" && n.State == supervise.Up && s.master() == now
		})
	})
	t.Logf("another master after %v, cut off for %v; unknown: %d", replaced.Sub(began).Round(time.Millisecond), mended.Sub(began).Round(time.Millisecond), len(o.failed))
	o.requireOnlyUnknown(t, began, replaced)
}

// requireOnlyUnknown checks that only writes failed, with an unknown outcome. They must be no more
// than were in flight, and each must have been sent before the fault was over.
func (o outcome) requireOnlyUnknown(t *testing.T, began, over time.Time) {
	t.Helper()
	if len(o.failed) > loadClients {
		t.Errorf("%d requests failed, and no more than %d were in flight: %v", len(o.failed), loadClients, o.errs)
	}
	for _, op := range o.failed {
		if !strings.HasPrefix(op.err.Error(), "status 504: ") || !strings.Contains(op.err.Error(), "unknown") {
			t.Errorf("it failed for another reason than an unknown outcome: %v", op.err)
		}
		if !op.write {
			t.Errorf("a read failed: %v", op.err)
		}
		if op.began.Add(op.took).Before(began) || op.began.After(over) {
			t.Errorf("it failed at another time: sent %v after the cut, answered after %v: %v", op.began.Sub(began), op.took, op.err)
		}
	}
}

func TestAMasterThatIsCutOffIsReplaced(t *testing.T) {
	beside(t, severalHosts)
	inOwnNetwork(t, func() {
		cutOffMaster(t, 10*time.Second, func(port string) []string {
			return []string{"tcp dport " + port, "tcp sport " + port}
		})
	})
}

// The master gets every request and executes it, but its answers arrive nowhere.
func TestAMasterThatIsHeardByNobodyIsReplaced(t *testing.T) {
	beside(t, severalHosts)
	inOwnNetwork(t, func() {
		cutOffMaster(t, 4*time.Second, func(port string) []string { return []string{"tcp sport " + port} })
	})
}

func TestAReplicaThatIsCutOffIsNotNoticed(t *testing.T) {
	beside(t, severalHosts)
	inOwnNetwork(t, func() {
		o := underLoad(t, func(s *instance) {
			master, replica := s.master(), "redis-2"
			if master == replica {
				replica = "redis-3"
			}
			ports := "{" + s.port(replica) + ", " + s.linkPort(master, replica) + "}"
			dropPackets(t, "tcp dport "+ports, "tcp sport "+ports)
			began := time.Now()
			s.await("the master missing the replica", 8*time.Second, func() bool {
				return strings.Contains(s.redisCLI(master, "info", "replication"), "min_slaves_good_slaves:1")
			})
			// After repl-timeout (10 s) the replica would connect from another port.
			if time.Since(began) > 9*time.Second {
				t.Fatal("too slow a machine to judge")
			}
			removeCut(t)
			if m := s.master(); m != master {
				t.Errorf("the master is %s now and was %s", m, master)
			}
			s.await("the replica in sync", 20*time.Second, func() bool {
				return strings.Contains(s.redisCLI(master, "info", "replication"), "min_slaves_good_slaves:2")
			})
		})
		o.requireNothingFailed(t)
	})
}

// linkPort returns the port from which a replica is connected to its master. It is the only
// connection of its process to the master.
func (s *instance) linkPort(master, replica string) string {
	s.t.Helper()
	sockets := shell(s.t, "ss", "-Htnp", "state", "established", "dport", "=", ":"+s.port(master))
	for line := range strings.Lines(sockets) {
		if !strings.Contains(line, fmt.Sprintf("pid=%d,", s.node(replica).PID)) {
			continue
		}
		_, port, err := net.SplitHostPort(strings.Fields(line)[2]) // the first two fields are queues
		if err != nil {
			s.t.Fatalf("%v in %q", err, line)
		}
		return port
	}
	s.t.Fatalf("%s is not connected to %s:\n%s", replica, master, sockets)
	return ""
}
