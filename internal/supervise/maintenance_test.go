package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

func TestWhatEndsWithoutAHost(t *testing.T) {
	node := func(name, host string, kind plan.Kind, state State) NodeStatus {
		n := NodeStatus{Name: name, Host: host, Kind: kind, State: state}
		if kind == plan.Web {
			n.App = "web"
		}
		return n
	}
	three := []NodeStatus{
		node("balancer-1", "one", plan.Balancer, Up), node("balancer-2", "two", plan.Balancer, Up),
		node("web-1", "one", plan.Web, Up), node("web-2", "two", plan.Web, Up),
		node("redis-1", "one", plan.Redis, Up), node("redis-2", "two", plan.Redis, Up), node("redis-3", "three", plan.Redis, Up),
		node("sentinel-1", "one", plan.Sentinel, Up), node("sentinel-2", "two", plan.Sentinel, Up), node("sentinel-3", "three", plan.Sentinel, Up),
	}
	with := func(name string, state State) []NodeStatus {
		changed := append([]NodeStatus(nil), three...)
		for i := range changed {
			if changed[i].Name == name {
				changed[i].State = state
			}
		}
		return changed
	}
	for _, c := range []struct {
		what  string
		nodes []NodeStatus
		host  string
		want  string
	}{
		{"all are up", three, "one", ""},
		{"a host of a Sentinel and a replica", three, "three", ""},
		{"the other balancer is down", with("balancer-2", Down), "one", "no balancer is up"},
		{"the host's own balancer is down as well", with("balancer-1", Down), "one", ""},
		{"the other web node is paused", with("web-2", Paused), "one", "no node of the application web is up"},
		{"another replica is down", with("redis-3", Failed), "two", "the master has no replica, and takes no writes"},
		{"another Sentinel starts", with("sentinel-3", Starting), "one", "1 of 3 Sentinels are up, and no master that dies is replaced"},
		{"a stack with one redis node", []NodeStatus{node("redis-1", "one", plan.Redis, Up)}, "one", "no redis node is up"},
	} {
		if got := strings.Join(maintenanceCosts(c.nodes, c.host), ", and "); got != c.want {
			t.Errorf("%s: without host %s %q, want %q", c.what, c.host, got, c.want)
		}
	}
}

// onHostInMaintenance is onLosableHost on host two, which can go down for maintenance.
func onHostInMaintenance(t *testing.T, script string) (*Supervisor, *faultyMachine) {
	t.Helper()
	s, m := onLosableHost(t, script)
	s.hosts.named = map[string]home{"two": s.hosts.here}
	s.host.Name = "two"
	s.plan = plan.Plan{Hosts: []plan.Host{s.host}}
	s.statusBoard = newStatusBoard(s.plan)
	s.statusBoard.enter(PhaseRunning)
	s.cfg.Several = true
	s.cfg.Run = func(string) string { return "first" }
	return s, m
}

func TestAHostThatIsLostWhileItGoesDownHoldsNothingUp(t *testing.T) {
	s, m := onHostInMaintenance(t, stubborn)
	t.Cleanup(func() { m.away.Store(false) }) // otherwise nothing can end the node
	s.Watch()
	must(t, s, ActStart)
	rested := make(chan error, 1)
	go func() { rested <- s.Rest(t.Context(), "two", true) }()
	await1(t, s, "it is being stopped", func(st NodeStatus) bool { return st.State == Draining })
	m.away.Store(true)
	select {
	case err := <-rested:
		if err == nil || err.Error() != "host two was lost while it went down; its nodes start when it is back" {
			t.Errorf("it returns %v", err)
		}
	case <-time.After(30 * time.Second):
		s.halt()
		t.Fatal("it waits for a host that is lost")
	}
	if change, _ := s.changing.status(); change != nil {
		t.Errorf("%q is still under way", change.Kind)
	}

	m.away.Store(false)
	s.tasks.Go(s.watchMaintenance)
	await1(t, s, "it is started when the host is back", func(st NodeStatus) bool { return st.State == Up })
}

func TestAHostThatGoesDownTwiceComesBackWithItsNodes(t *testing.T) {
	for _, run := range []string{"first", "second"} {
		s, _ := onHostInMaintenance(t, "exec sleep 1000")
		s.Watch()
		must(t, s, ActStart)
		for range 2 {
			if err := s.Rest(t.Context(), "two", true); err != nil {
				t.Fatal(err)
			}
			if entry, is := s.maintenance.of("two"); !is || !entry.Done || !slices.Equal(entry.Nodes, []string{"web-1"}) {
				t.Errorf("run %s: it rests as %+v, %v", run, entry, is)
			}
			s.cfg.Run = func(string) string { return run } // the host's process has started again, or has not ended
		}
		s.cfg.Run = func(string) string { return "third" }
		s.endMaintenance(s.ctx, "two")
		if st := status(s); st.State != Up {
			t.Errorf("run %s: when the host is back, %+v", run, st)
		}
	}
}

func TestAHostThatCannotBeUsedDoesNotGoDown(t *testing.T) {
	s, _ := onHostInMaintenance(t, "exec sleep 1000")
	s.hosts.absent = &absence{hosts: map[string]bool{"two": true}}
	err := s.Rest(t.Context(), "two", true)
	if _, is := s.maintenance.of("two"); is || err == nil || !strings.Contains(err.Error(), "host two is away") {
		t.Errorf("it rests: %v, %v", is, err)
	}
}

// A second call ends nothing that still runs, so nothing stops working because of it.
func TestAHostThatIsDownGoesDownWithoutAnyway(t *testing.T) {
	s, _ := onHostInMaintenance(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	if err := s.Rest(t.Context(), "two", false); err == nil {
		t.Fatal("the only node goes down")
	}
	if err := s.Rest(t.Context(), "two", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Rest(t.Context(), "two", false); err != nil {
		t.Errorf("the host is down, and only its process has to end: %v", err)
	}

	// Somebody has started a node in the meantime.
	must(t, s, ActStart)
	if err := s.Rest(t.Context(), "two", true); err != nil || status(s).State != Down {
		t.Errorf("%v, and the node %+v", err, status(s))
	}
}

// A look at a host takes a while, in which the host may go down completely.
func TestAHostThatHasJustGoneDownIsNotWoken(t *testing.T) {
	s, _ := onHostInMaintenance(t, "exec sleep 1000")
	s.Watch()
	must(t, s, ActStart)
	if err := s.Rest(t.Context(), "two", true); err != nil {
		t.Fatal(err)
	}
	s.endMaintenance(s.ctx, "two")
	if _, is := s.maintenance.of("two"); !is || status(s).State != Down {
		t.Errorf("it rests: %v, and its node is %+v", is, status(s))
	}
}
