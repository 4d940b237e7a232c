package plan

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// onHosts returns the plan of the default stack on three hosts, with an entry for everybody.
func onHosts(t *testing.T) (Plan, map[string]Process) {
	t.Helper()
	s := stack.Default()
	s.Entry.Listen, s.Entry.Auth = "0.0.0.0:6301", "none"
	m := machine(s, "/state", Placeholders(s))
	for _, n := range []string{"1", "2", "3"} {
		m.Hosts = append(m.Hosts, Place{Name: "host-" + n, Address: "198.18.7." + n})
	}
	p := mustMake(t, s, m)
	processes := map[string]Process{}
	for _, h := range p.Hosts {
		for _, process := range h.Processes {
			processes[process.Node] = process
		}
	}
	return p, processes
}

func TestNodesGoRoundTheHosts(t *testing.T) {
	p, processes := onHosts(t)
	var hosts []string
	for _, h := range p.Hosts {
		var nodes []string
		for _, process := range h.Processes {
			nodes = append(nodes, process.Node)
		}
		hosts = append(hosts, h.Name+" "+strings.Join(nodes, " "))
	}
	want := []string{
		"host-1 sentinel-1 redis-1 web-1 balancer-1",
		"host-2 sentinel-2 redis-2 web-2 balancer-2",
		"host-3 sentinel-3 redis-3",
	}
	if !slices.Equal(hosts, want) {
		t.Errorf("the hosts run %q, want %q", hosts, want)
	}
	for node, process := range processes {
		n := node[len(node)-1:]
		if !strings.HasPrefix(process.Address, "198.18.7."+n+":") {
			t.Errorf("%s runs at %s", node, process.Address)
		}
	}
}

func TestEveryBalancerListensOnItsOwnHost(t *testing.T) {
	p, processes := onHosts(t)
	if p.EntryURL != "http://198.18.7.1:6301" {
		t.Errorf("the entry is %s", p.EntryURL)
	}
	if got := processes["balancer-2"].Address; got != "198.18.7.2:6301" {
		t.Errorf("balancer-2 is at %s", got)
	}
	config := ""
	for _, f := range p.Hosts[1].Files {
		if strings.HasSuffix(f.Path, "haproxy.cfg") {
			config = f.Content
		}
	}
	for _, want := range []string{"bind 0.0.0.0:6301", "web-1 198.18.7.1:", "web-2 198.18.7.2:"} {
		if !strings.Contains(config, want) {
			t.Errorf("balancer-2's settings have no %s:\n%s", want, config)
		}
	}
}

func TestNodesOfSeveralHostsReachEachOther(t *testing.T) {
	p, processes := onHosts(t)
	env := processes["web-2"].Env
	for _, want := range []string{
		"REDIS_SENTINELS=" + processes["sentinel-1"].Address + "," + processes["sentinel-2"].Address + "," + processes["sentinel-3"].Address,
		"HOLDFAST_LISTEN=" + processes["web-2"].Address,
		// The entry's rule also applies to a node that other hosts reach.
		"HOLDFAST_AUTH=none",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("web-2's environment has no %s: %q", want, env)
		}
	}
	for _, f := range p.Hosts[2].Files {
		if f.Path != "nodes/sentinel-3/sentinel.conf" {
			continue
		}
		if !strings.Contains(f.Content, " 198.18.7.1 ") || !strings.Contains(f.Content, " 198.18.7.2 ") {
			t.Errorf("sentinel-3 does not know of the others:\n%s", f.Content)
		}
	}
}

// A program on a host without a balancer uses a balancer of another host.
func TestTheRedisMasterIsReachedThroughTheNearestBalancer(t *testing.T) {
	s := stack.Default()
	all := nodes(s, Facts{Hosts: []Place{{Name: "a"}, {Name: "b"}, {Name: "c"}}})
	for name, want := range map[string]string{"redis-2": "b", "redis-3": "a"} {
		i := slices.IndexFunc(all, func(n node) bool { return n.name == name })
		if got := nearest(all[i], all).Name; got != want {
			t.Errorf("%s goes through the balancer of %s, want %s", name, got, want)
		}
	}
}
