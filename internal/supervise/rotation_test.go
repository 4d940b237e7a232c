package supervise

import (
	"reflect"
	"testing"
	"time"

	"holdfast/internal/haproxy"
	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

func TestWhatTheBalancersHoldOfTheServers(t *testing.T) {
	s := &Supervisor{}
	s.cfg.Stack.Apps = map[string]stack.App{"web": {}, "far": {}, "raw": {}}
	s.cfg.Stack.TCP = []stack.TCPEntry{{App: "raw"}}
	good := haproxy.Stat{Status: "UP", CheckStatus: "L7OK"}
	bad := haproxy.Stat{Status: "DOWN", CheckStatus: "L7STS", CheckMeaning: "Layer7 wrong status", CheckCode: 400, CheckDetail: "Bad\x1b Request"}
	row := func(backend, server string, st haproxy.Stat) haproxy.Stat {
		st.Backend, st.Server = backend, server
		return st
	}
	const finding = `DOWN (Layer7 wrong status 400, "Bad\x1b Request")`
	var seen rotation
	seen.out = map[string]string{}
	up := map[string]bool{"web-1": true, "web-2": true, "raw-1": true}
	seen.add("balancer-1", []haproxy.Stat{
		row("web", "web-1", good), row("web", "web-2", bad), row("web", "BACKEND", bad),
		row("far", "far-1", haproxy.Stat{Status: "no check"}),
		row("tcp.1", "raw-1", good), row("redis.master", "redis-1", bad), row("tcp.2", "x", bad),
	}, up, s.appOf)
	if seen.pending || seen.unserved != nil || !reflect.DeepEqual(seen.out, map[string]string{"web-2": "balancer-1 sends it no requests: " + finding}) {
		t.Errorf("%+v", seen)
	}
	seen.add("balancer-2", []haproxy.Stat{
		row("web", "web-1", bad), row("web", "web-2", haproxy.Stat{Status: "DRAIN", CheckStatus: "L7OK"}), row("far", "far-1", bad),
		row("tcp.1", "raw-1", haproxy.Stat{Status: "UP", CheckStatus: "* INI"}),
	}, up, s.appOf)
	want := []Unserved{
		{"web", "balancer-2", "web-1 is " + finding + "; web-2 is DRAIN"},
		{"far", "balancer-2", "far-1 is " + finding},
		{"raw", "balancer-2", "raw-1 is UP (not checked yet)"},
	}
	if !seen.pending || !reflect.DeepEqual(seen.unserved, want) {
		t.Errorf("unserved %+v\nwant %+v", seen.unserved, want)
	}
}

func TestANodeThatMovesIsServedWhereItIsKnown(t *testing.T) {
	const here, before = "127.0.0.1:2", "127.0.0.1:1"
	row := func(backend, address, status string) haproxy.Stat {
		return haproxy.Stat{Backend: backend, Server: "shop-1", Address: address, Status: status, CheckStatus: "L7OK"}
	}
	other := haproxy.Stat{Backend: "shop", Server: "shop-2", Address: here, Status: "DOWN"}
	follower := haproxy.Stat{Backend: "shop.direct", Server: "shop-1", Address: here, Status: "DOWN", Tracks: "shop/shop-1"}
	for name, c := range map[string]struct {
		rows              []haproxy.Stat
		served, elsewhere bool
	}{
		"not known yet":                  {[]haproxy.Stat{other}, true, false},
		"known at its former address":    {[]haproxy.Stat{other, row("shop", before, "DOWN")}, true, true},
		"up":                             {[]haproxy.Stat{row("shop", here, "UP"), other, follower}, true, false},
		"down":                           {[]haproxy.Stat{row("shop", here, "DOWN")}, false, false},
		"up in one backend of two":       {[]haproxy.Stat{row("shop", here, "UP"), row("tcp.1", here, "DOWN")}, false, false},
		"down, and the address not told": {[]haproxy.Stat{row("shop", "", "DOWN")}, false, false},
	} {
		if got := servedAt(c.rows, "shop-1", here); got != c.served {
			t.Errorf("%s: it is served: %v", name, got)
		}
		// A balancer that has a former address is not told that the node is ready.
		if got := knownElsewhere(c.rows, "shop-1", here); got != c.elsewhere {
			t.Errorf("%s: it is known elsewhere: %v", name, got)
		}
	}
}

func TestAStackIsNotReadyWhileABalancerHasNoServerForAnApplication(t *testing.T) {
	b := newStatusBoard(plan.Plan{Hosts: []plan.Host{{Processes: []plan.Process{
		{Node: "balancer-1", Kind: plan.Balancer}, {Node: "web-1", Kind: plan.Web, App: "web"},
	}}}})
	for _, n := range b.snapshot().Nodes {
		b.update(n.Name, func(s *NodeStatus) { s.State = Up })
	}
	if !b.snapshot().Ready {
		t.Fatal("every node is up, and the stack is not ready")
	}
	b.setRotation(rotation{out: map[string]string{"web-1": "no"}, unserved: []Unserved{{App: "web", Balancer: "balancer-1", Why: "no"}}})
	st := b.snapshot()
	if n, _ := st.Node("web-1"); st.Ready || n.Excluded != "no" || len(st.Unserved) != 1 {
		t.Errorf("%+v", st)
	}
	b.update("web-1", func(s *NodeStatus) { s.State = Draining })
	b.setRotation(rotation{})
	if n, _ := b.snapshot().Node("web-1"); n.Excluded != "" {
		t.Errorf("a node that is not up is excluded: %q", n.Excluded)
	}
}

func TestABalancerThatChecksSeldomIsWaitedFor(t *testing.T) {
	s := &Supervisor{}
	s.cfg.Stack = stack.Default()
	if got := s.rotationLimit(); got != leastRotation {
		t.Errorf("by default %v", got)
	}
	app := s.cfg.Stack.Apps["web"]
	app.Health.Interval, app.Health.Rise = 20*time.Second, 3
	s.cfg.Stack.Apps["web"] = app
	// Three checks, a quarter of the interval apart, and the timeout of the last one.
	if got, want := s.rotationLimit(), 3*5*time.Second+2*time.Second+2*time.Second; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSessionsAreEndedAtServersThatHangAlone(t *testing.T) {
	row := func(backend, server, status, check, tracks string, sessions int64) haproxy.Stat {
		return haproxy.Stat{Backend: backend, Server: server, Status: status, CheckStatus: check, Tracks: tracks, Sessions: sessions}
	}
	var got []string
	for _, r := range hanging([]haproxy.Stat{
		row("web", "web-1", "DOWN", "L7TOUT", "", 3),
		row("web", "web-2", "DOWN", "* L4CON", "", 3), // dead: HAProxy sends its requests to another server
		row("web", "web-3", "UP 1/2", "L7TOUT", "", 3),
		row("web", "web-4", "DOWN", "* L4TOUT", "", 0),
		row("web", "BACKEND", "DOWN", "L7TOUT", "", 3),
		row("web.direct", "web-1", "DOWN", "", "web/web-1", 1),
		row("web.direct", "web-2", "DOWN", "", "web/web-2", 1),
		row("web", "web-5", "DOWN", "L4TOUT", "", 3),
		row("web", "web-6", "DOWN", "* L4TOUT", "", 3), // on another host: the kernel ends its connections
		row("web.direct", "web-6", "DOWN", "", "web/web-6", 1),
	}, func(row haproxy.Stat) bool { return row.Unreached() && row.Server != "web-5" }) {
		got = append(got, r.Backend+"/"+r.Server)
	}
	if want := []string{"web/web-1", "web.direct/web-1", "web/web-5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
