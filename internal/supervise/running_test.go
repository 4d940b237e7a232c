package supervise

import (
	"context"
	"os"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/process"
	"holdfast/internal/stack"
)

// A supervisor that was killed in the middle of a change has not seen whether the node that it
// has just restarted is healthy. So the next supervisor takes the step again.
func TestANodeOfAChangeThatWasCutOffIsNotTakenForDone(t *testing.T) {
	const rest = "redis: {enabled: false}\nbalancers: 1\nroutes: [{app: shop}]\n"
	me, err := process.Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		now   string
		there bool // whether there is a change
		held  bool
		steps string
	}{
		"it goes on":                  {"{command: [bad], ports: [9101, 9102]}", true, false, "restart shop-1, restart shop-2"},
		"it goes on with a move":      {"{command: [good], ports: [9103, 9104]}", true, false, "restart shop-1, reload balancer-1 | restart shop-2, reload balancer-1 | "},
		"it is a rollout that waits":  {"{command: [bad], ports: [9101, 9102]}", true, true, "restart shop-2"},
		"it ended a moment before it": {"{command: [bad], ports: [9101, 9102]}", false, false, "restart shop-2"},
	} {
		s, _ := oneNode(t, "true")
		now := fromText(t, s, "apps: {shop: {command: [good], ports: [9101, 9102]}}\n"+rest)
		final := fromText(t, s, "apps: {shop: "+c.now+"}\n"+rest)
		s.install(now)
		if err := s.saveRunning(); err != nil {
			t.Fatal(err)
		}
		if c.there {
			if err := s.dir.writeChange(changeRecord{ID: 2, Kind: "apply", Stack: string(final.file.Show()), BaseDir: "/b", Held: c.held}); err != nil {
				t.Fatal(err)
			}
		}
		to, _ := final.nodePlan("shop-1")
		if err := os.MkdirAll(s.dir.path("nodes", "shop-1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.home("shop-1").writeRecord(t.Context(), "shop-1", record{Process: me, Plan: digestOf(to.process, to.files), Want: wantUp, Address: to.process.Address}); err != nil {
			t.Fatal(err)
		}

		next := &Supervisor{dir: s.dir, hosts: s.hosts, log: s.log, persisted: s.persisted, cfg: Config{Stack: final.file, BaseDir: "/b", StateDir: s.dir.root}}
		if err := next.findRunning(); err != nil {
			t.Fatal(err)
		}
		next.statusBoard = newStatusBoard(next.plan)
		runs, _ := next.current()
		legs, err := next.changeParts(runs, final, nil)
		if got := inWords(legs); err != nil || got != c.steps {
			t.Errorf("%s: the steps are\n%s, want\n%s (%v)", what, got, c.steps, err)
		}
	}
}

func TestTheLastNodeThatServesIsNotStartedAnew(t *testing.T) {
	for what, c := range map[string]struct {
		states  map[string]State
		drained string
		spared  bool
	}{
		"the other serves":     {map[string]State{"shop-1": Up, "shop-2": Up}, "", true},
		"the other is not up":  {map[string]State{"shop-1": Starting, "shop-2": Up}, "", false},
		"the other is drained": {map[string]State{"shop-1": Up, "shop-2": Up}, "shop-1", false},
		"none serves":          {map[string]State{"shop-1": Starting, "shop-2": Starting}, "", true},
		"it has no other":      {map[string]State{"shop-2": Up}, "", true},
	} {
		s, _ := oneNode(t, "true")
		s.host = plan.Host{}
		for _, name := range []string{"shop-1", "shop-2"} {
			if c.states[name] != "" {
				s.host.Processes = append(s.host.Processes, plan.Process{Node: name, Kind: plan.Web, App: "shop"})
			}
		}
		s.statusBoard = newStatusBoard(plan.Plan{Hosts: []plan.Host{s.host}})
		for name, state := range c.states {
			s.statusBoard.update(name, func(n *NodeStatus) { n.State = state })
		}
		s.overrides = stack.Overrides{Drained: map[string]bool{c.drained: c.drained != ""}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // so that requireOtherServing does not wait for a node to come up
		x := stepper{sup: s, step: plan.Step{Node: "shop-2", Action: plan.Restart}, to: nodePlan{process: s.host.Processes[len(s.host.Processes)-1]}}
		err := x.requireOtherServing(ctx)
		if (err == nil) != c.spared || err != nil && !strings.Contains(err.Error(), "no other node of shop serves") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
