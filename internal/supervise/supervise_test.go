package supervise

import (
	"fmt"
	"net"
	"testing"
	"time"

	"holdfast/internal/plan"
)

func TestPortsAreFixedKeptPreferredOrFree(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	free := func(port int) bool {
		return hostsAt("").here.Free(t.Context(), fmt.Sprintf("127.0.0.1:%d", port)) == nil
	}
	occupied := busy.Addr().(*net.TCPAddr).Port
	needs := []plan.PortNeed{
		{Node: "fixed", Fixed: 20001},
		{Node: "kept"},
		{Node: "preferred-taken", Preferred: occupied},
		{Node: "any"},
		{Node: "kept-but-fixed-elsewhere"},
	}
	kept := map[string]int{"kept": 20002, "fixed": 7, "kept-but-fixed-elsewhere": 20001}
	ports, err := choosePorts("name", needs, kept, free)
	if err != nil {
		t.Fatal(err)
	}
	if ports["fixed"] != 20001 || ports["kept"] != 20002 {
		t.Errorf("ports = %v", ports)
	}
	seen := map[int]string{}
	for node, p := range ports {
		if other := seen[p]; other != "" {
			t.Errorf("%s and %s both have port %d", node, other, p)
		}
		seen[p] = node
		if p < firstPort || p >= lastPort || p == occupied {
			t.Errorf("%s has port %d", node, p)
		}
	}
	// A port that is kept for a node which is not in the stack now stays the node's.
	for node, p := range ports {
		kept["absent-"+node] = p
	}
	others, err := choosePorts("name", []plan.PortNeed{{Node: "new", Preferred: 20002}, {Node: "newer"}}, kept, free)
	if err != nil || seen[others["new"]] != "" || seen[others["newer"]] != "" {
		t.Errorf("new nodes have %v, of %v, %v", others, ports, err)
	}
	again, err := choosePorts("name", needs, ports, free)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != fmt.Sprint(ports) {
		t.Errorf("the second time %v, the first %v", again, ports)
	}
}

func TestTwoStacksDoNotChooseTheSamePorts(t *testing.T) {
	needs := []plan.PortNeed{{Node: "first"}, {Node: "second"}}
	choose := func(h hosts) map[string]int {
		t.Helper()
		ports, err := choosePorts("one name, so they begin at one port", needs, nil, func(port int) bool { return h.free(t.Context(), port) })
		if err != nil {
			t.Fatal(err)
		}
		return ports
	}
	one, other, onlooker := hostsAt(t.TempDir()), hostsAt(t.TempDir()), hostsAt(t.TempDir())
	one.claims, other.claims = &claims{}, &claims{}
	t.Cleanup(other.claims.close)
	ones := choose(one)
	chosen := map[int]bool{ones["first"]: true, ones["second"]: true}
	for node, port := range choose(other) {
		if chosen[port] {
			t.Errorf("both stacks have port %d; the other one for its %s node", port, node)
		}
	}
	for node, port := range choose(onlooker) {
		if chosen[port] {
			t.Errorf("somebody who looks is shown port %d for its %s node, which a stack has", port, node)
		}
	}
	one.claims.close()
	if again := choose(onlooker); again["first"] != ones["first"] {
		t.Errorf("a supervisor that has ended still has its ports: %v, now %v", ones, again)
	}
}

func testStatusBoard(nodes ...NodeStatus) *statusBoard {
	return &statusBoard{
		status: Status{Nodes: nodes}, replicas: 2, watchers: map[chan NodeStatus]struct{}{},
	}
}

func TestAStackIsReadyWhenAClientGetsItsAnswers(t *testing.T) {
	whole := func() []NodeStatus {
		return []NodeStatus{
			{Name: "sentinel-1", Kind: plan.Sentinel, State: Up},
			{Name: "redis-1", Kind: plan.Redis, Role: "master", State: Up},
			{Name: "redis-2", Kind: plan.Redis, Role: "replica", State: Up},
			{Name: "redis-3", Kind: plan.Redis, Role: "replica", State: Up},
			{Name: "web-1", Kind: plan.Web, App: "web", State: Up},
			{Name: "web-2", Kind: plan.Web, App: "web", State: Up},
			{Name: "balancer-1", Kind: plan.Balancer, State: Up},
			{Name: "balancer-2", Kind: plan.Balancer, State: Up},
		}
	}
	tests := []struct {
		down  []string
		ready bool
	}{
		{nil, true},
		{[]string{"sentinel-1"}, true},
		{[]string{"redis-3", "web-1", "balancer-2"}, true},
		{[]string{"redis-1"}, false},
		{[]string{"redis-2", "redis-3"}, false},
		{[]string{"web-1", "web-2"}, false},
		{[]string{"balancer-1", "balancer-2"}, false},
	}
	for _, tt := range tests {
		b := testStatusBoard(whole()...)
		for _, name := range tt.down {
			b.update(name, func(n *NodeStatus) { n.State, n.Role = Starting, "" })
		}
		if got := b.snapshot().Ready; got != tt.ready {
			t.Errorf("without %v: ready = %t", tt.down, got)
		}
	}
}

func TestASubscriberGetsTheStatusAndThenEveryChange(t *testing.T) {
	b := testStatusBoard(NodeStatus{Name: "web-1", State: Down})
	now, changes, cancel := b.subscribe()
	defer cancel()
	if now.Nodes[0].State != Down {
		t.Errorf("now = %+v", now)
	}
	b.update("web-1", func(n *NodeStatus) { n.State = Up })
	b.update("web-1", func(n *NodeStatus) { n.State = Up }) // nothing changes
	b.update("web-1", func(n *NodeStatus) { n.State = Failed })
	if n := <-changes; n.State != Up || time.Since(n.Since) > time.Minute {
		t.Errorf("first change = %+v", n)
	}
	if n := <-changes; n.State != Failed {
		t.Errorf("second change = %+v", n)
	}
}

func TestASlowSubscriberIsDropped(t *testing.T) {
	b := testStatusBoard(NodeStatus{Name: "web-1"})
	_, changes, cancel := b.subscribe()
	defer cancel()
	for i := range backlog + 1 {
		b.update("web-1", func(n *NodeStatus) { n.Restarts = i + 1 })
	}
	for range backlog {
		<-changes
	}
	if _, open := <-changes; open {
		t.Error("the channel is still open")
	}
}
