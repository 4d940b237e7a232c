package supervise

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/stack"
)

// fromText returns a supervisor's layout of a stack file, and keeps the ports that it chose.
func fromText(t *testing.T, s *Supervisor, text string) layout {
	t.Helper()
	file, _, err := stack.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.planned(layout{file: file, baseDir: "/b"}, file)
	if err != nil {
		t.Fatal(err)
	}
	s.persisted.Ports, s.persisted.Secrets = merged(s.persisted.Ports, l.ports), l.secrets
	return l
}

// inWords returns the steps of the parts as text: parts are separated by " | ".
func inWords(parts []changePart) string {
	var all []string
	for _, l := range parts {
		var steps []string
		for _, s := range l.steps {
			steps = append(steps, string(s.Action)+" "+s.Node)
		}
		all = append(all, strings.Join(steps, ", "))
	}
	return strings.Join(all, " | ")
}

// An application with one node gets another node first. Nodes that move do so one after the
// other, and the balancers know each before the next one moves.
func TestAChangeGoesOverWholeStacks(t *testing.T) {
	const rest = "redis: {enabled: false}\nbalancers: 1\nroutes: [{app: shop}]\n"
	for _, c := range []struct {
		what, old, now string
		force          []string
		want           string
	}{
		{"one node", "{command: [run], nodes: 1}", "{command: [run, on], nodes: 1}", nil,
			"start shop-2, reload balancer-1, restart shop-1 | stop shop-2, reload balancer-1"},
		{"two nodes", "{command: [run]}", "{command: [run, on]}", nil, "restart shop-1, restart shop-2"},
		{"a forced one", "{command: [run], nodes: 1}", "{command: [run], nodes: 1}", []string{"shop-1"},
			"start shop-2, reload balancer-1, restart shop-1 | stop shop-2, reload balancer-1"},
		{"two that move", "{command: [run], ports: [9101, 9102]}", "{command: [run], ports: [9103, 9104]}", nil,
			"restart shop-1, reload balancer-1 | restart shop-2, reload balancer-1 | "},
		{"one that moves", "{command: [run], nodes: 1, ports: [9101]}", "{command: [run], nodes: 1, ports: [9103]}", nil,
			"start shop-2, reload balancer-1 | restart shop-1, reload balancer-1 | stop shop-2, reload balancer-1"},
		{"nothing", "{command: [run]}", "{command: [run]}", nil, ""},
	} {
		s, _ := oneNode(t, "true")
		now := fromText(t, s, "apps: {shop: "+c.old+"}\n"+rest)
		final := fromText(t, s, "apps: {shop: "+c.now+"}\n"+rest)
		parts, err := s.changeParts(now, final, c.force)
		if got := inWords(parts); err != nil || got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s\n%v", c.what, got, c.want, err)
		}
	}
}

// A node that serves only during a change does not listen on a port that another node is to have
// in the end, even if the port is free until then.
func TestNobodyTakesAPortThatIsMovedTo(t *testing.T) {
	const rest = "balancers: 1\nrollout: {surge: 1}\n"
	s, _ := oneNode(t, "true")
	now := fromText(t, s, "apps: {web: {kv: {}}}\nredis: {replicas: 1}\n"+rest)
	next, err := s.planned(now, now.file.WithNodes(map[string]int{"web": 3}))
	if err != nil {
		t.Fatal(err)
	}
	port := next.ports["web-3"] // the port that it gets if no other node needs it
	final := fromText(t, s, fmt.Sprintf("apps: {web: {kv: {remember: 7m}}}\nredis: {replicas: 1, ports: [%d]}\n", port)+rest)
	s.persisted.Ports = now.ports // only a layout that was carried out is kept
	parts, err := s.changeParts(now, final, nil)
	if err != nil {
		t.Fatal(err)
	}
	came := false
	for _, l := range parts {
		web, there := l.to.nodePlan("web-3")
		came = came || there
		if _, at := splitAddress(web.process.Address); there && atoi(at) == port {
			t.Errorf("web-3 listens at %s, where redis-1 is to be", web.process.Address)
		}
	}
	if !came {
		t.Error("no node serves meanwhile")
	}
	if redis, _ := parts[len(parts)-1].to.nodePlan("redis-1"); !strings.HasSuffix(redis.process.Address, fmt.Sprint(":", port)) {
		t.Errorf("redis-1 is at %s in the end", redis.process.Address)
	}
}

// A new node that stays has its final port from the first part on, so it is not started twice.
func TestANodeThatComesAndStaysComesOnce(t *testing.T) {
	s, _ := oneNode(t, "true")
	now := fromText(t, s, "apps: {web: {kv: {}, nodes: 1}}\n")
	s.persisted.Ports = now.ports
	final := fromText(t, s, "apps: {web: {kv: {}, nodes: 1}}\nredis: {sentinels: 5}\n")
	parts, err := s.changeParts(now, final, nil)
	if err != nil {
		t.Fatal(err)
	}
	starts, got := 0, inWords(parts)
	for _, l := range parts {
		for _, step := range l.steps {
			if step.Node == "sentinel-4" && (step.Action == plan.Start || step.Action == plan.Restart) {
				starts++
			}
		}
	}
	if starts != 1 || len(parts) < 2 {
		t.Errorf("sentinel-4 is started %d times in %d parts: %s", starts, len(parts), got)
	}
}

// Sentinels move before redis nodes, and the master last. The web nodes are restarted for the new
// addresses of Sentinels alone: these name the redis nodes.
func TestRedisNodesMoveTheMasterLast(t *testing.T) {
	const rest = "apps: {web: {kv: {}, nodes: 2}}\nbalancers: 1\n"
	s, _ := oneNode(t, "true")
	now := fromText(t, s, rest+"redis: {replicas: 1, ports: [9101, 9102], sentinel-ports: [9201]}\n")
	s.statusBoard = newStatusBoard(now.plan)
	s.statusBoard.update("redis-1", func(st *NodeStatus) { st.Role = "master" })
	final := fromText(t, s, rest+"redis: {replicas: 1, ports: [9103, 9104], sentinel-ports: [9203]}\n")
	parts, err := s.changeParts(now, final, nil)
	want := "restart web-1, restart web-2, restart sentinel-1" +
		" | reload balancer-1, restart redis-2, forget sentinel-1, forget sentinel-2, forget sentinel-3" +
		" | hand over redis-1, reload balancer-1, restart redis-1, forget sentinel-1, forget sentinel-2, forget sentinel-3 | "
	if got := inWords(parts); err != nil || got != want {
		t.Errorf("got  %s\nwant %s\n%v", got, want, err)
	}
}

// If a change left an address that the Sentinels have to forget, the next change does it,
// whatever its own purpose.
func TestAChangeFinishesTheForgetting(t *testing.T) {
	s, _ := oneNode(t, "true")
	now := fromText(t, s, "apps: {web: {kv: {}}}\n")
	s.persisted.Redis.Departed = map[string]string{"127.0.0.1:9105": "redis-4"}
	parts, err := s.changeParts(now, now, nil)
	if got := inWords(parts); err != nil || got != "forget sentinel-1, forget sentinel-2, forget sentinel-3" {
		t.Errorf("%s, %v", got, err)
	}
}

// A web node's limit of streams follows from the number of nodes, but that is no reason to
// restart the others.
func TestMoreNodesLeaveTheOthersAsTheyAre(t *testing.T) {
	for _, c := range []struct {
		what, text string
		was, is    map[string]int // numbers of nodes that were set at run time
		force      []string
		want       string
	}{
		{"more", "balancers: 1\n", nil, map[string]int{"web": 3}, nil, "start web-3, reload balancer-1"},
		{"fewer", "balancers: 1\n", map[string]int{"web": 3}, nil, nil, "stop web-3, reload balancer-1"},
		{"meanwhile", "balancers: 1\nrollout: {surge: 1}\n", nil, nil, []string{"web-1", "web-2"},
			"start web-3, reload balancer-1, restart web-1, restart web-2 | stop web-3, reload balancer-1"},
		{"a number of streams that the file has", "balancers: 1\napps: {web: {kv: {limits: {streams: 50}}}}\n", nil, map[string]int{"web": 3}, nil,
			"start web-3, reload balancer-1"},
	} {
		s, _ := oneNode(t, "true")
		file := fromText(t, s, c.text).file
		at := func(nodes map[string]int) layout {
			o := stack.Overrides{Nodes: nodes}
			l, err := s.planned(layout{file: file, baseDir: "/b", overrides: o}, o.Apply(file))
			if err != nil {
				t.Fatal(err)
			}
			s.persisted.Ports = merged(s.persisted.Ports, l.ports)
			return l
		}
		parts, err := s.changeParts(at(c.was), at(c.is), c.force)
		if got := inWords(parts); err != nil || got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s\n%v", c.what, got, c.want, err)
		}
	}
}

func TestOnlyWhatAddsIsDoneWithoutAQuestion(t *testing.T) {
	for _, c := range []struct {
		what, old, now string
		adds           bool
	}{
		{"a node", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}, nodes: 3}}\n", true},
		{"an application and its route", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}}, pages: {files: .}}\nroutes: [{path-prefix: /p, app: pages}, {app: web}]\n", true},
		{"a node less", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}, nodes: 1}}\n", false},
		{"a setting", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {hold: 7s}}}\n", false},
		{"a time-out", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}}}\ntimeouts: {client: 9s}\n", false},
		{"what no node knows of", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}}}\nmetrics: {enabled: false}\n", true},
		{"a node and a time-out", "apps: {web: {kv: {}}}\n", "apps: {web: {kv: {}, nodes: 3}}\ntimeouts: {client: 9s}\n", false},
	} {
		s, _ := oneNode(t, "true")
		now, final := fromText(t, s, c.old), fromText(t, s, c.now)
		p := ChangePlan{Differences: stack.Differences(now.stack(), final.stack())}
		p.Nodes = plan.Diff(now.host(), final.host(), p.Differences)
		parts, err := s.changeParts(now, final, nil)
		for _, l := range parts {
			p.Steps = append(p.Steps, l.steps...)
		}
		if p.Additions() != c.adds || err != nil {
			t.Errorf("%s: %t, %v: %+v", c.what, p.Additions(), err, p.Differences)
		}
	}
}

func TestAChangeThatFailedKeepsItsNumber(t *testing.T) {
	s, _ := oneNode(t, "true")
	if got := s.dir.newestChange(3); got != 3 {
		t.Errorf("without any change: %d", got)
	}
	for _, id := range []int{4, 12} {
		if err := s.dir.archive(changeRecord{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.dir.newestChange(3); got != 12 {
		t.Errorf("after a change 12 that failed: %d", got)
	}
}

func TestAPlanKeepsItsOrderWhenANodeChanges(t *testing.T) {
	s, _ := oneNode(t, "true")
	l := fromText(t, s, "apps: {web: {kv: {}}}\n")
	to, _ := l.nodePlan("web-1")
	to.process.Grace = 42
	names := func(p plan.Plan) (all []string) {
		for _, p := range p.Hosts[0].Processes {
			all = append(all, p.Node)
		}
		return all
	}
	with := withNode(l.plan, to)
	if !slices.Equal(names(with), names(l.plan)) {
		t.Errorf("%v, before %v", names(with), names(l.plan))
	}
	if is, _ := nodePlanOf(with, "web-1"); is.process.Grace != 42 || len(is.files) != len(to.files) || len(is.dirs) != len(to.dirs) {
		t.Errorf("%+v", is)
	}
	if was, _ := l.nodePlan("web-1"); was.process.Grace == 42 {
		t.Error("the former plan has changed with it")
	}
	without := withoutNode(with, "balancer-1")
	if _, there := nodePlanOf(without, "balancer-1"); there || len(names(without)) != len(names(with))-1 {
		t.Errorf("%v", names(without))
	}
}

// An older version may have accepted a setting that this one refuses. The stack goes on with it,
// and can still be changed.
func TestWhatIsInForceIsNotJudgedAgain(t *testing.T) {
	s, _ := oneNode(t, "true")
	now := fromText(t, s, "apps: {shop: {command: [shop]}}\nredis: {enabled: false}\n")
	bad := stack.Program{Command: []string{"shop"}, Env: map[string]string{"PORT": "2"}}
	now.overrides = stack.Overrides{Programs: map[string]stack.Program{"shop": bad}}
	for what, c := range map[string]struct {
		req   Request
		taken bool
	}{
		"an up":                {Request{Kind: kindUp, File: string(now.file.Show()), BaseDir: "/b"}, true},
		"another stack file":   {Request{Kind: "apply", File: "apps: {shop: {command: [shop]}}\nredis: {enabled: false}\nbalancers: 3\n", BaseDir: "/b"}, true},
		"a number of nodes":    {Request{Kind: "scale", Overrides: stack.Overrides{Nodes: map[string]int{"shop": 4}}}, true},
		"too many nodes":       {Request{Kind: "scale", Overrides: stack.Overrides{Nodes: map[string]int{"shop": 4000}}}, false},
		"another such program": {Request{Kind: "rollout", Overrides: stack.Overrides{Programs: map[string]stack.Program{"shop": {Command: []string{"shop"}, Env: map[string]string{"PORT": "3"}}}}}, false},
	} {
		if _, err := s.target(now, c.req); (err == nil) != c.taken {
			t.Errorf("%s: %v", what, err)
		}
	}
}
