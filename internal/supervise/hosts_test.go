package supervise

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
)

func TestSeveralHostsAreOneStageAfterTheOther(t *testing.T) {
	node := func(name string, stage int) plan.Process { return plan.Process{Node: name, Stage: stage} }
	all := together([]plan.Host{
		{Name: "a", Dirs: []string{"logs", "nodes/x"}, Processes: []plan.Process{node("x-1", 1), node("y-1", 2)}},
		{Name: "b", Dirs: []string{"logs", "nodes/y"}, Processes: []plan.Process{node("x-2", 1), node("y-2", 2)}},
	})
	var order []string
	for _, p := range all.Processes {
		order = append(order, p.Node)
	}
	if want := []string{"x-1", "x-2", "y-1", "y-2"}; !slices.Equal(order, want) {
		t.Errorf("they start as %q, want %q", order, want)
	}
	if want := []string{"logs", "nodes/x", "nodes/y"}; !slices.Equal(all.Dirs, want) {
		t.Errorf("the directories are %q, want %q", all.Dirs, want)
	}
}

func TestAHostWithoutItsNetworkIsAway(t *testing.T) {
	if away(plan.Process{}) {
		t.Error("this machine is away")
	}
	if !away(plan.Process{Netns: "/run/netns/holdfast-no-such-thing"}) {
		t.Error("a host whose namespace is gone is not away")
	}
}
