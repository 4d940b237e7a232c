package supervise

import (
	"os"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/redis"
)

// A change that ends between the two parts of a Set keeps the user of a program that still
// runs, also in the file that Redis reads at its next start. The next change removes the user.
func TestAUserStaysUntilTheLatePartOfItsChange(t *testing.T) {
	s, _ := oneNode(t, "true")
	const rest = "redis: {replicas: 1, sentinels: 1}\nroutes: [{app: web}]\n"
	now := fromText(t, s, "apps: {web: {kv: {}}, stock: {command: [run]}}\n"+rest)
	final := fromText(t, s, "apps: {web: {kv: {}}, shop: {command: [run]}}\n"+rest)
	s.admins, s.sentinelPeriods = map[string]*redis.Admin{}, map[string]*sentinelPeriods{}
	s.install(now)
	sets := func(l layout, late bool) (nodes []string) {
		parts, err := s.changeParts(l, final, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			for _, step := range part.steps {
				if step.Action == plan.Set && step.Late == late {
					nodes = append(nodes, step.Node)
				}
			}
		}
		return nodes
	}
	take := func(late bool) string {
		before, _ := s.current()
		for _, c := range plan.Diff(before.host(), final.host(), nil) {
			if c.Action != plan.Set {
				continue
			}
			x := stepper{sup: s, step: plan.Step{Node: c.Node, Action: plan.Set, Late: late}, log: s.log}
			x.from, _ = before.nodePlan(c.Node)
			x.to, _ = final.nodePlan(c.Node)
			if s.node(c.Node) == nil {
				n := s.addNode(x.from.process)
				s.tasks.Go(func() { n.run(s.ctx) })
			}
			if err := x.changeSettings(t.Context(), c.Settings); err != nil {
				t.Fatal(err)
			}
		}
		users, err := os.ReadFile(s.dir.path("nodes", "redis-2", usersFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(users)
	}

	if early := sets(now, false); strings.Join(early, " ") != "sentinel-1 redis-1 redis-2" {
		t.Fatalf("the early parts are of %v", early)
	}
	if users := take(false); !strings.Contains(users, "\nuser app-shop ") || !strings.Contains(users, "\nuser app-stock ") {
		t.Errorf("after the early part the users are\n%s", users)
	}
	middle, _ := s.current()
	if early, late := sets(middle, false), sets(middle, true); len(early) > 0 || strings.Join(late, " ") != "redis-1 redis-2 sentinel-1" && strings.Join(late, " ") != "sentinel-1 redis-1 redis-2" {
		t.Errorf("in the middle the early parts are of %v, the late ones of %v", early, late)
	}
	users := take(true)
	want, _ := final.nodePlan("redis-2")
	for _, f := range want.files {
		if strings.HasSuffix(f.Path, usersFile) && f.Content != users {
			t.Errorf("after the late part the users are\n%s\nwant\n%s", users, f.Content)
		}
	}
	if done, _ := s.current(); len(sets(done, false))+len(sets(done, true)) > 0 {
		t.Error("there is something left to do")
	}
}
