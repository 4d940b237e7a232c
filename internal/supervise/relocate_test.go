package supervise

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
)

// hostsWith returns a plan of hosts with one node each, which is named after its host.
func hostsWith(names ...string) (p plan.Plan) {
	for _, name := range names {
		p.Hosts = append(p.Hosts, plan.Host{Name: name, Address: "198.18.7.1", Processes: []plan.Process{{Node: "of-" + name, Address: "198.18.7.1:1"}}})
	}
	return p
}

func TestThePlanThatRunsGetsTheHostsOfTheNextOne(t *testing.T) {
	for _, c := range []struct {
		name         string
		runs, next   plan.Plan
		want, filled []string // the hosts, and the hosts that have a node
	}{
		{"the same", hostsWith("one", "two"), hostsWith("one", "two"), []string{"one", "two"}, []string{"one", "two"}},
		{"a host comes", hostsWith("one"), hostsWith("one", "two"), []string{"one", "two"}, []string{"one"}},
		{"a host goes, and has a node yet", hostsWith("one", "two"), hostsWith("one"), []string{"one", "two"}, []string{"one", "two"}},
		{"one machine becomes a host", hostsWith(plan.Local), hostsWith("one"), []string{"one"}, []string{"one"}},
	} {
		before := len(c.runs.Hosts)
		p := withHosts(c.runs, c.next)
		var names, filled []string
		for _, h := range p.Hosts {
			names = append(names, h.Name)
			if len(h.Processes) > 0 {
				filled = append(filled, h.Name)
			}
		}
		if !slices.Equal(names, c.want) || !slices.Equal(filled, c.filled) {
			t.Errorf("%s: the hosts are %q, and %q have nodes", c.name, names, filled)
		}
		if len(c.runs.Hosts) != before || c.runs.Hosts[0].Name != hostsWith(c.runs.Hosts[0].Name).Hosts[0].Name {
			t.Errorf("%s: the plan that was given has changed", c.name)
		}
	}
}

func TestAHostThatHasGoneIsForgottenWithItsLastNode(t *testing.T) {
	runs := hostsWith("one", "two", "three")
	runs.Hosts[2].Processes = nil
	var names []string
	for _, h := range withoutEmpty(runs, hostsWith("one")) {
		names = append(names, h.Name)
	}
	if want := []string{"one", "two"}; !slices.Equal(names, want) {
		t.Errorf("the hosts are %q, want %q", names, want)
	}
}

func TestNodesThatStayAreWhereTheyAre(t *testing.T) {
	now := layout{plan: hostsWith(plan.Local)}
	got := now.staying([]string{"of-local", "unknown"}, []plan.Place{{Name: "one", Address: "198.18.7.9"}})
	if want := (plan.Place{Name: "one", Address: "198.18.7.1"}); len(got) != 1 || got["of-local"] != want {
		t.Errorf("got %v", got)
	}
}
