package supervise

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestAHealthFileIsWrittenWhenItSaysSomethingElse(t *testing.T) {
	h := newHealthFiles()
	both := []string{"balancer-1", "balancer-2"}
	if _, known := h.healthy(both); known {
		t.Error("balancers that nobody has asked are known")
	}
	h.note("balancer-1", false)
	if _, known := h.healthy(both); known {
		t.Error("one balancer is dead, and nobody has asked the other: it is known")
	}
	h.note("balancer-2", true)
	if yes, known := h.healthy(both); !yes || !known {
		t.Error("one of two serves, and the host does not")
	}
	if !h.begin("keepalived-1", true) || h.begin("keepalived-1", false) {
		t.Error("two write at once")
	}
	if !h.end("keepalived-1", true, errors.New("no room")) || !h.begin("keepalived-1", true) {
		t.Error("what could not be written is not tried again")
	}
	if h.end("keepalived-1", true, errors.New("no room")) {
		t.Error("the same failure is told twice")
	}
	h.begin("keepalived-1", true)
	h.end("keepalived-1", true, nil)
	if h.begin("keepalived-1", true) || !h.begin("keepalived-1", false) {
		t.Error("what it says already is written, or what it does not is not")
	}
}

// withKeepalived is oneNode with the node as a balancer, and with a keepalived beside it.
func withKeepalived(t *testing.T, script string, keeper plan.Process) (*Supervisor, *node) {
	t.Helper()
	s, n := oneNode(t, script)
	balancer := *n.spec()
	balancer.Kind, balancer.App = plan.Balancer, ""
	n.now.Store(&balancer)
	s.health = newHealthFiles()
	s.plan = plan.Plan{Hosts: []plan.Host{{Processes: []plan.Process{balancer, keeper}}}}
	s.host = s.plan.Hosts[0]
	s.statusBoard = newStatusBoard(s.plan)
	s.cfg.Stack.Entry.Virtual = stack.Virtual{Addresses: []string{"198.18.7.100/24"}}
	s.plan.Stack = s.cfg.Stack
	if err := os.MkdirAll(s.dir.path("nodes", keeper.Node), 0o700); err != nil {
		t.Fatal(err)
	}
	s.nodes[keeper.Node] = newNode(s, keeper)
	return s, n
}

func keepalived(link string) plan.Process {
	return plan.Process{
		Node: "keepalived-1", Kind: plan.Keepalived, Program: plan.KeepalivedProgram, StopSignal: "SIGTERM", Grace: time.Second,
		Probe: plan.Probe{Kind: plan.ProbeKeepalived}, Virtual: []string{"198.18.7.100"}, Interface: link,
	}
}

func TestKeepalivedIsToldHowTheBalancerIs(t *testing.T) {
	s, n := withKeepalived(t, "sleep 1000", keepalived("lo"))
	says := func() string {
		b, _ := os.ReadFile(s.dir.path("nodes", "keepalived-1", plan.HealthFile))
		return string(b)
	}
	becomes := func(what, want string) {
		t.Helper()
		if !clock.Within(10*time.Second, 5*time.Millisecond, func() bool { return says() == want }) {
			t.Fatalf("%s: the file says %q", what, says())
		}
	}
	s.tasks.Go(func() { n.run(s.ctx) })
	becomes("before the start", plan.Unwell)
	must(t, s, ActStart)
	becomes("it serves", plan.Well)
	must(t, s, ActPause)
	becomes("it is stopped by a signal", plan.Unwell)
	must(t, s, ActResume)
	becomes("it goes on", plan.Well)
	if err := os.WriteFile(s.dir.path("nodes", "keepalived-1", plan.HealthFile), []byte("a mark"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, s, ActStop)
	becomes("it was stopped", plan.Unwell)
}

func TestAKeepalivedThatCannotRunSaysSo(t *testing.T) {
	s, _ := withKeepalived(t, "sleep 1000", keepalived("nosuch0"))
	n := s.nodes["keepalived-1"]
	s.tasks.Go(func() { n.run(s.ctx) })
	err := s.Do(t.Context(), "keepalived-1", ActStart)
	var unable *UnableError
	if !errors.As(err, &unable) || !strings.Contains(err.Error(), "docs/hosts.md") {
		t.Errorf("got %v", err)
	}
	st, _ := s.statusBoard.snapshot().Node("keepalived-1")
	if st.State != Failed || !strings.Contains(st.Detail, "198.18.7.100 does not come to this host: ") || st.PID != 0 {
		t.Errorf("its status is %+v", st)
	}
	if !st.Kind.Traits().Optional {
		t.Error("the stack is not up without it")
	}
}

func TestTheStatusSaysWhoHasTheVirtualAddress(t *testing.T) {
	p := plan.Plan{}
	p.Stack.Entry.Virtual.Addresses = []string{"198.18.7.100/24", "198.18.7.101/24"}
	got := virtualStatus(p, []NodeStatus{
		{Kind: plan.Keepalived, Host: "one", Holds: "198.18.7.100 198.18.7.101"},
		{Kind: plan.Keepalived, Host: "two", Holds: "198.18.7.101"},
		{Kind: plan.Balancer, Host: "three"},
	})
	if len(got) != 2 || strings.Join(got[0].Hosts, " ") != "one" || strings.Join(got[1].Hosts, " ") != "one two" {
		t.Errorf("got %+v", got)
	}
}
