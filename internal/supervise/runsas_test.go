package supervise

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/stack"
)

// runsAs writes running.json for a stack file, and reads it.
func runsAs(t *testing.T, s *Supervisor, text string, o stack.Overrides) RunsAs {
	t.Helper()
	file := fromText(t, s, text)
	l, err := s.planned(layout{file: file.file, baseDir: "/b", overrides: o}, o.Apply(file.file))
	if err != nil {
		t.Fatal(err)
	}
	s.persisted.Ports = merged(s.persisted.Ports, l.ports)
	s.install(l)
	if err := s.saveRunning(); err != nil {
		t.Fatal(err)
	}
	r, err := ReadRunsAs(s.dir.root)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatAStackRunsAsIsComparedAndComesBack(t *testing.T) {
	s, _ := oneNode(t, "true")
	const rest = "redis: {enabled: false}\nroutes: [{app: shop}]\n"
	const file = "apps: {shop: {command: [run], env: {KEY: secret}}}\n" + rest
	was := runsAs(t, s, file, stack.Overrides{})
	if d := was.Differences(runsAs(t, s, file, stack.Overrides{})); len(d) > 0 {
		t.Errorf("it differs from itself: %q", d)
	}
	for _, c := range []struct {
		what, text string
		o          stack.Overrides
		want       string
	}{
		{"a setting", strings.Replace(file, "secret", "other", 1), stack.Overrides{}, "apps.shop.env.KEY"},
		{"what the supervisor alone uses", strings.Replace(file, "command:", "grace: 3s, command:", 1), stack.Overrides{}, "apps.shop.grace"},
		{"a node", file, stack.Overrides{Nodes: map[string]int{"shop": 3}}, "shop-3 is not what it was (stop)"},
		{"a drained one", file, stack.Overrides{Drained: map[string]bool{"shop-1": true}}, "drained"},
	} {
		now := runsAs(t, s, c.text, c.o)
		d := strings.Join(now.Differences(was), ", ")
		if !strings.Contains(d, c.want) || strings.Contains(d, "secret") {
			t.Errorf("%s: it says %q, want %q", c.what, d, c.want)
		}
		again, err := s.target(layout{file: s.file, baseDir: s.cfg.BaseDir, overrides: s.overrides, plan: s.plan}, was.Again(now))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		back := RunsAs{BaseDir: again.baseDir, Overrides: again.overrides, plan: again.plan}
		if d := was.Differences(back); len(d) > 0 {
			t.Errorf("%s: what comes back differs: %q", c.what, d)
		}
	}
}

// A redis node whose port the file leaves open keeps its last port. The former file does not
// bring back the former port.
func TestTheFileAloneDoesNotSayWhereARedisNodeIs(t *testing.T) {
	s, _ := oneNode(t, "true")
	const file = "apps: {shop: {command: [run]}}\nroutes: [{app: shop}]\nredis: {replicas: 1, ports: [PORT]}\n"
	was := runsAs(t, s, strings.Replace(file, ", ports: [PORT]", "", 1), stack.Overrides{})
	moved := runsAs(t, s, strings.Replace(file, "PORT", "7001", 1), stack.Overrides{})
	again := runsAs(t, s, strings.Replace(file, ", ports: [PORT]", "", 1), stack.Overrides{})
	first := was.RedisPorts()
	if len(first) != 2 || first[0] == 0 || first[0] == 7001 || first[1] == 0 {
		t.Fatalf("the ports are %v", first)
	}
	for _, r := range []RunsAs{moved, again} {
		if got, want := r.RedisPorts(), []int{7001, first[1]}; !slices.Equal(got, want) {
			t.Errorf("the ports are %v, want %v", got, want)
		}
	}
	if d := strings.Join(was.Differences(again), ", "); !strings.Contains(d, "redis-1 is not what it was") {
		t.Errorf("it says %q", d)
	}
}
