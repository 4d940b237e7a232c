package supervise

import (
	"strings"
	"testing"

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
		if got := strings.Join(restCosts(c.nodes, c.host), ", and "); got != c.want {
			t.Errorf("%s: without host %s %q, want %q", c.what, c.host, got, c.want)
		}
	}
}
