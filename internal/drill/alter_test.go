package drill

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// hostPlan returns the plan of a stack. The nodes have the same ports in every plan.
func hostPlan(t *testing.T, s stack.Stack) plan.Host {
	t.Helper()
	ports := map[string]int{}
	for _, need := range plan.Needs(s) {
		n := need.Node
		ports[n] = 20000 + int(n[0])*100 + int(n[len(n)-1]) + 31*len(n)
	}
	facts := plan.Facts{Ports: ports, Secrets: plan.Placeholders(s)}
	p, err := plan.Make(s, facts, facts.Everywhere(plan.HostFacts{StateDir: "/s", BaseDir: "/b", Cores: 4}))
	if err != nil {
		t.Fatal(err)
	}
	return p.Hosts[0]
}

// An alteration touches exactly the nodes that it should, and its stack file is valid.
func TestWhatEachAlterationDoesToTheNodes(t *testing.T) {
	const (
		two  = "apps: {web: {kv: {}}}\n"
		full = "apps: {web: {kv: {}, queue: 50, nodes: 1}}\nredis: {memory: 64mb}\nbalancers: 1\ntimeouts: {http-keep-alive: 3s}\n"
		shop = "apps: {site: {command: [x]}, pages: {files: .}}\nroutes: [{path-prefix: [/p], app: pages}, {app: site}]\nredis: {enabled: false}\n"
	)
	memory := []string{"redis-1 set", "redis-2 set", "redis-3 set"}
	for _, c := range []struct {
		what, text, app string
		want            [][]string
		forced          int // alterations that restart nodes without any other reason
	}{
		{"kv", two, "web", [][]string{
			{"balancer-1 reload", "balancer-2 reload"}, memory, {"web-1 restart", "web-2 restart"},
			{"web-3 start", "balancer-1 reload", "balancer-2 reload"},
		}, 0},
		{"kv with limits of its own", full, "web", [][]string{
			{"balancer-1 reload"}, memory, {"web-1 restart"}, {"web-2 start", "balancer-1 reload"},
		}, 0},
		{"a program", shop, "site", [][]string{
			{"balancer-1 reload", "balancer-2 reload"}, nil, {"site-3 start", "balancer-1 reload", "balancer-2 reload"},
		}, 1},
		{"files", shop, "pages", [][]string{
			{"balancer-1 reload", "balancer-2 reload"}, nil, {"pages-2 start", "balancer-1 reload", "balancer-2 reload"},
		}, 1},
	} {
		file := parseStack(t, c.text)
		all := alterations(file, c.app)
		if len(all) != len(c.want) {
			t.Errorf("%s: there are %d alterations, want %d", c.what, len(all), len(c.want))
			continue
		}
		forced := 0
		for i, one := range all {
			before, text := file, string(file.Show())
			if one.alter != nil {
				one.alter(&file)
			}
			if string(before.Show()) != text {
				t.Errorf("%s, %s: the stack of before is altered, too", c.what, one.what)
			}
			if one.restartsNodes {
				forced++
			}
			read, _, err := stack.Parse("altered", file.Show())
			if err != nil {
				t.Errorf("%s, %s: %v", c.what, one.what, err)
			}
			var got []string
			for _, n := range plan.Diff(hostPlan(t, before), hostPlan(t, read), nil) {
				if n.Action != plan.Untouched {
					got = append(got, n.Node+" "+string(n.Action))
				}
			}
			if !slices.Equal(got, c.want[i]) {
				t.Errorf("%s, %s: %q, want %q", c.what, one.what, got, c.want[i])
			}
		}
		if forced != c.forced {
			t.Errorf("%s: %d alterations start nodes anew without a reason, want %d", c.what, forced, c.forced)
		}
	}
}
