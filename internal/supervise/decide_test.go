package supervise

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis"
)

const r1, r2, r3 = "127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"

func threeNodes(views ...redis.View) redisFacts {
	return redisFacts{
		Sentinels: 3, Views: views,
		Nodes:     map[string]string{"redis-1": r1, "redis-2": r2, "redis-3": r3},
		Standings: map[string]redis.Standing{},
	}
}

func view(address string, epoch int64) redis.View { return redis.View{Address: address, Epoch: epoch} }

// alive adds the replies of replicas of a dead master.
func (f redisFacts) alive(nodes ...string) redisFacts {
	for _, n := range nodes {
		f.Standings[n] = redis.Standing{MasterAddress: r1}
	}
	return f
}

// running sets the nodes that have a process, whether they reply or not.
func (f redisFacts) running(nodes ...string) redisFacts {
	f.Running = map[string]bool{}
	for _, n := range nodes {
		f.Running[n] = true
	}
	return f
}

// apart returns the facts as in pods, where each node has a supervisor of its own.
func apart(f redisFacts) redisFacts {
	f.Apart = true
	return f
}

// led returns the facts with one node that replies, as a master.
func (f redisFacts) led(node string) redisFacts {
	f.Standings = map[string]redis.Standing{node: {Master: true}}
	return f
}

func TestARedisNodeStartsInThePartThatTheFactsGiveIt(t *testing.T) {
	agreed := threeNodes(view(r1, 4), view(r1, 4), view(r1, 4))
	failing := threeNodes(view(r1, 4), view(r1, 4), redis.View{Address: r1, Epoch: 4, Failing: true}).alive("redis-2")
	booted := candidate{Name: "redis-1", Booted: true, HoldBack: 8 * time.Second}
	with := func(c candidate, change func(*candidate)) candidate { change(&c); return c }

	tests := []struct {
		name    string
		c       candidate
		f       redisFacts
		master  bool
		replica string
		wait    string
		refused bool
	}{
		{name: "first boot: redis-1 is named by the Sentinels' first files",
			c: candidate{Name: "redis-1", Empty: true}, f: agreed, master: true},
		{name: "first boot: the others follow it",
			c: candidate{Name: "redis-2", Empty: true}, f: agreed, replica: r1},
		{name: "cold start: the named master has its data and nobody else runs",
			c: booted, f: agreed, master: true},
		{name: "no majority answers",
			c: booted, f: threeNodes(view(r1, 4)), wait: "1 of 3 Sentinels answer"},
		{name: "two of three are a majority",
			c: booted, f: threeNodes(view(r1, 4), view(r1, 4)), master: true},
		{name: "another was promoted: the old master follows it",
			c: booted, f: threeNodes(view(r2, 5), view(r2, 5), view(r2, 5)), replica: r2},
		{name: "power was lost in a failover that one Sentinel alone had written down",
			c: booted, f: threeNodes(view(r1, 4), view(r1, 4), view(r2, 5)), replica: r2},
		{name: "and the promoted one knows that it is",
			c: with(booted, func(c *candidate) { c.Name = "redis-2" }),
			f: threeNodes(view(r1, 4), view(r1, 4), view(r2, 5)), master: true},
		{name: "two masters in one epoch are nobody's to choose between",
			c: booted, f: threeNodes(view(r1, 4), view(r2, 4)), wait: "disagree"},
		{name: "a dead master is held back while replicas could be promoted",
			c: with(booted, func(c *candidate) { c.Dead = time.Second }), f: threeNodes(view(r1, 4), view(r1, 4)).alive("redis-2"), wait: "held back"},
		{name: "it may start when nobody was promoted in time",
			c: with(booted, func(c *candidate) { c.Dead = 9 * time.Second }), f: threeNodes(view(r1, 4), view(r1, 4)).alive("redis-2"), master: true},
		{name: "but not in the midst of a failover",
			c: with(booted, func(c *candidate) { c.Dead = 9 * time.Second }), f: failing, wait: "a failover is under way"},
		{name: "a replica that runs and does not answer is no cold start",
			c: with(booted, func(c *candidate) { c.Dead = time.Second }), f: agreed.running("redis-1", "redis-2"), wait: "held back"},
		{name: "in pods one that sees nobody is held back: a replica may be starved, or cut off from it alone",
			c: with(booted, func(c *candidate) { c.Dead = time.Second }), f: apart(agreed), wait: "held back"},
		{name: "until the Sentinels had the time to promote one",
			c: with(booted, func(c *candidate) { c.Dead = 9 * time.Second }), f: apart(agreed), master: true},
		{name: "but at the first boot of pods it goes first at once",
			c: candidate{Name: "redis-1", Empty: true}, f: apart(agreed), master: true},
		{name: "its own process is not another's",
			c: booted, f: agreed.running("redis-1"), master: true},
		{name: "nor beside another that calls itself master",
			c: with(booted, func(c *candidate) { c.Dead = 9 * time.Second }), f: agreed.led("redis-2"), wait: "redis-2 calls itself master"},
		{name: "a named master without data would wipe its replicas",
			c: with(booted, func(c *candidate) { c.Empty = true }), f: agreed, wait: "data directory is empty", refused: true},
		{name: "a replica without data is filled by its master",
			c: candidate{Name: "redis-2", Booted: true, Empty: true}, f: threeNodes(view(r1, 4), view(r1, 4)).led("redis-1"), replica: r1},
		{name: "a node without data does not follow the named master that is dead, although an earlier master is there",
			c: candidate{Name: "redis-2", Booted: true, Empty: true, Dead: time.Minute}, f: threeNodes(view(r1, 4), view(r1, 4)).led("redis-3"), wait: "master is not there"},
		{name: "a node without data does not start beside a replica alone: it could be promoted in the place of that",
			c: candidate{Name: "redis-2", Booted: true, Empty: true, Dead: time.Minute}, f: threeNodes(view(r1, 4), view(r1, 4)).alive("redis-3"), wait: "master is not there"},
		{name: "and waits for somebody to be there, or it might be promoted without data",
			c: candidate{Name: "redis-2", Booted: true, Empty: true}, f: agreed, wait: "master is not there"},
		{name: "cold start: a replica waits for the master, or the Sentinels might promote it with old data",
			c: candidate{Name: "redis-2", Booted: true, MasterFirst: 5 * time.Second}, f: agreed.running("redis-1", "redis-3"), wait: "waits for redis-1"},
		{name: "until the master answers",
			c: candidate{Name: "redis-2", Booted: true, MasterFirst: 5 * time.Second}, f: threeNodes(view(r1, 4), view(r1, 4)).led("redis-1"), replica: r1},
		{name: "one that was stopped before the others waits for these to be in step with the master",
			c: candidate{Name: "redis-2", Booted: true, MasterFirst: 9 * time.Second, NewestFirst: 5 * time.Second, Newest: "redis-3"},
			f: threeNodes(view(r1, 4), view(r1, 4)).alive("redis-1", "redis-3"), wait: "waits for redis-3"},
		{name: "or has had its time",
			c: candidate{Name: "redis-2", Booted: true, Dead: 6 * time.Second, MasterFirst: 5 * time.Second}, f: agreed, replica: r1},
		{name: "a master that is no node of the stack",
			c: booted, f: threeNodes(view("127.0.0.1:9", 4), view("127.0.0.1:9", 4)), wait: "no node of this stack", refused: true},
		{name: "without Sentinels redis-1 is master",
			c: booted, f: redisFacts{Nodes: agreed.Nodes, Appointed: "redis-1"}, master: true},
		{name: "without Sentinels the others follow redis-1",
			c: with(booted, func(c *candidate) { c.Name = "redis-3" }), f: redisFacts{Nodes: agreed.Nodes, Appointed: "redis-1"}, replica: r1},
		{name: "without Sentinels an empty redis-1 refuses too",
			c: with(booted, func(c *candidate) { c.Empty = true }), f: redisFacts{Nodes: agreed.Nodes, Appointed: "redis-1"}, wait: "empty", refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := decide(tt.c, tt.f)
			if got.Master != tt.master || got.Replica != tt.replica || got.Refused != tt.refused ||
				(tt.wait == "") != (got.Wait == "") || !strings.Contains(got.Wait, tt.wait) {
				t.Errorf("decide = %+v", got)
			}
		})
	}
}

func TestOnlyTheKnownDeadlockIsMended(t *testing.T) {
	stuck := func() redisFacts {
		f := threeNodes(view(r1, 4), view(r1, 4), view(r1, 4))
		f.Standings["redis-1"] = redis.Standing{MasterAddress: r2, Offset: 100}
		f.Standings["redis-2"] = redis.Standing{MasterAddress: r1, Offset: 90}
		return f
	}
	if node, yes := deadlocked(stuck()); !yes || node != "redis-1" {
		t.Errorf("the deadlock is not seen: %q %t", node, yes)
	}
	for name, change := range map[string]func(*redisFacts){
		"somebody is master":            func(f *redisFacts) { f.Standings["redis-3"] = redis.Standing{Master: true} },
		"no majority answers":           func(f *redisFacts) { f.Views = f.Views[:1] },
		"the Sentinels disagree":        func(f *redisFacts) { f.Views[0].Address = r2 },
		"a failover is under way":       func(f *redisFacts) { f.Views[0].Failing = true },
		"the named master is dead":      func(f *redisFacts) { delete(f.Standings, "redis-1") },
		"another has more of the data":  func(f *redisFacts) { f.Standings["redis-2"] = redis.Standing{Offset: 101} },
		"there are no Sentinels at all": func(f *redisFacts) { f.Sentinels, f.Views = 0, nil },
		"the master is no node of ours": func(f *redisFacts) { delete(f.Nodes, "redis-1") },
	} {
		f := stuck()
		change(&f)
		if node, yes := deadlocked(f); yes {
			t.Errorf("%s: %s would be promoted", name, node)
		}
	}
}

func TestARedisNodeIsWedgedOnlyBesideAMasterThatWorks(t *testing.T) {
	replaced := func() redisFacts {
		f := threeNodes(view(r2, 5), view(r2, 5), view(r2, 5)).running("redis-1", "redis-2", "redis-3")
		f.Standings["redis-2"] = redis.Standing{Master: true}
		f.Standings["redis-3"] = redis.Standing{MasterAddress: r2}
		return f
	}
	if got := hungNodes(replaced()); len(got) != 1 || got[0] != "redis-1" {
		t.Errorf("a master that was replaced while it was busy: %v", got)
	}
	for name, change := range map[string]func(*redisFacts){
		"the Sentinels still name it":        func(f *redisFacts) { f.Views = threeNodes(view(r1, 5), view(r1, 5), view(r1, 5)).Views },
		"no majority answers":                func(f *redisFacts) { f.Views = f.Views[:1] },
		"a failover is under way":            func(f *redisFacts) { f.Views[0].Failing = true },
		"the named one is no master":         func(f *redisFacts) { f.Standings["redis-2"] = redis.Standing{MasterAddress: r1} },
		"the named one does not answer":      func(f *redisFacts) { delete(f.Standings, "redis-2") },
		"it answers":                         func(f *redisFacts) { f.Standings["redis-1"] = redis.Standing{MasterAddress: r2} },
		"it replies with an error":           func(f *redisFacts) { f.RepliedWithError = map[string]bool{"redis-1": true} },
		"it has no process":                  func(f *redisFacts) { delete(f.Running, "redis-1") },
		"the master is no node of the stack": func(f *redisFacts) { delete(f.Nodes, "redis-2") },
	} {
		f := replaced()
		change(&f)
		if got := hungNodes(f); len(got) != 0 {
			t.Errorf("%s: %v would be killed", name, got)
		}
	}
}

// Nodes that hang are killed one at a time, and the master that the Sentinels name never is.
func TestOneWedgedNodeIsKilledAtATime(t *testing.T) {
	f := threeNodes(view(r2, 5), view(r2, 5), view(r2, 5)).running("redis-1", "redis-2", "redis-3")
	f.Standings["redis-2"] = redis.Standing{Master: true}
	delete(f.Standings, "redis-1")
	delete(f.Standings, "redis-3")
	silent := map[string]int{}
	var killed []string
	look := func(f redisFacts) {
		if name := overdue(hungNodes(f), silent); name != "" {
			killed = append(killed, name)
		}
	}
	for range hungLooks - 1 {
		look(f)
	}
	if len(killed) != 0 {
		t.Errorf("too early: %v", killed)
	}
	look(f)
	if len(killed) != 1 || len(silent) != 0 {
		t.Errorf("%v were killed, and the count is %v", killed, silent)
	}
	for range hungLooks - 1 {
		look(f)
	}
	well := f
	well.Standings = map[string]redis.Standing{"redis-2": {Master: true}, "redis-1": {MasterAddress: r2}, "redis-3": {MasterAddress: r2}}
	look(well) // they reply once
	for range hungLooks - 1 {
		look(f)
	}
	if len(killed) != 1 {
		t.Errorf("%v were killed, though they had answered", killed)
	}
	// The master hangs, too: replacing it is left to the Sentinels.
	delete(f.Standings, "redis-2")
	for range 3 * hungLooks {
		look(f)
	}
	if len(killed) != 1 {
		t.Errorf("beside a master that hangs: %v", killed)
	}
}

func TestAMasterIsReplacedByAReplicaThatCan(t *testing.T) {
	agreed := []redis.View{view(r1, 4), view(r1, 4), view(r1, 4)}
	base := func() redisFacts {
		f := threeNodes(agreed...)
		f.Standings["redis-1"] = redis.Standing{Master: true, Offset: 100 << 20}
		f.Standings["redis-2"] = redis.Standing{MasterAddress: r1, Linked: true, Offset: 100<<20 - 10}
		f.Standings["redis-3"] = redis.Standing{MasterAddress: r1, Linked: true, Offset: 100 << 20}
		return f
	}
	for name, c := range map[string]struct {
		change func(*redisFacts)
		to     string
		heir   string
		why    string
	}{
		"the one with the most data":         {heir: "redis-3"},
		"the lowest number, in pods":         {change: func(f *redisFacts) { f.Apart = true }, heir: "redis-2"},
		"the one that is asked for":          {to: "redis-2", heir: "redis-2"},
		"one whose clock is right":           {change: func(f *redisFacts) { f.WrongClocks = map[string]bool{"redis-3": true} }, heir: "redis-2"},
		"the most data, all clocks wrong":    {change: func(f *redisFacts) { f.WrongClocks = map[string]bool{"redis-2": true, "redis-3": true} }, heir: "redis-3"},
		"not the master itself":              {to: "redis-1", why: "redis-1 is the master already"},
		"not one that is none":               {to: "redis-9", why: "redis-9 is no redis node of this stack; the replicas are redis-2, redis-3"},
		"not one that is away":               {change: func(f *redisFacts) { delete(f.Standings, "redis-3") }, to: "redis-3", why: "redis-3 cannot become the master: it does not answer"},
		"not one that is away, by itself":    {change: func(f *redisFacts) { delete(f.Standings, "redis-3") }, heir: "redis-2"},
		"not one that has lost its link":     {change: func(f *redisFacts) { f.Standings["redis-3"] = redis.Standing{MasterAddress: r1, Offset: 100 << 20} }, heir: "redis-2"},
		"not one that follows somebody else": {change: func(f *redisFacts) { f.Standings["redis-3"] = redis.Standing{MasterAddress: r2, Linked: true} }, heir: "redis-2"},
		"not one that lags": {change: func(f *redisFacts) {
			f.Standings["redis-3"] = redis.Standing{MasterAddress: r1, Linked: true, Offset: 80 << 20}
		}, to: "redis-3", why: "redis-3 cannot become the master: it lacks 20 MiB"},
		"nobody is left":           {change: func(f *redisFacts) { delete(f.Standings, "redis-2"); delete(f.Standings, "redis-3") }, why: "no replica can become the master (redis-2: it does not answer, redis-3: it does not answer)"},
		"a failover is under way":  {change: func(f *redisFacts) { f.Views[1].Failing = true }, why: "a failover is under way"},
		"the Sentinels disagree":   {change: func(f *redisFacts) { f.Views[1].Address = r2 }, why: "disagree"},
		"too few Sentinels answer": {change: func(f *redisFacts) { f.Views = f.Views[:1] }, why: "1 of 3 Sentinels answer"},
		"the master is silent":     {change: func(f *redisFacts) { delete(f.Standings, "redis-1") }, why: "does not say so itself"},
		"two are masters":          {change: func(f *redisFacts) { f.Standings["redis-2"] = redis.Standing{Master: true} }, why: "call themselves master"},
		"there are no Sentinels":   {change: func(f *redisFacts) { f.Sentinels, f.Views = 0, nil }, why: "no Sentinels"},
	} {
		f := base()
		f.Views = slices.Clone(f.Views)
		if c.change != nil {
			c.change(&f)
		}
		from, heir, err := chooseSuccessor(f, c.to)
		switch {
		case c.why == "" && (err != nil || from != "redis-1" || heir != c.heir):
			t.Errorf("%s: from %q to %q, %v", name, from, heir, err)
		case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
}

func TestAMajorityNamesTheMaster(t *testing.T) {
	for want, f := range map[bool]redisFacts{
		true:  threeNodes(view(r2, 5), view(r2, 5), view(r1, 4)),
		false: threeNodes(view(r2, 5), view(r1, 4)),
	} {
		if got := f.majorityNames(r2); got != want {
			t.Errorf("%+v: %t", f.Views, got)
		}
	}
}

func TestAReplacedMasterIsKnown(t *testing.T) {
	base := func() redisFacts {
		f := threeNodes(view(r1, 4), view(r1, 4), view(r1, 4))
		f.Standings["redis-1"] = redis.Standing{Master: true}
		return f
	}
	for name, c := range map[string]struct {
		change func(*redisFacts)
		want   bool
	}{
		"it is the only one":          {change: func(*redisFacts) {}},
		"no majority answers":         {change: func(f *redisFacts) { f.Views = f.Views[:1] }},
		"another one is master, too":  {change: func(f *redisFacts) { f.Standings["redis-3"] = redis.Standing{Master: true} }, want: true},
		"a failover is under way":     {change: func(f *redisFacts) { f.Views[2].Failing = true }, want: true},
		"the Sentinels name another":  {change: func(f *redisFacts) { f.Views = threeNodes(view(r2, 5), view(r2, 5), view(r1, 4)).Views }, want: true},
		"one has not heard of it yet": {change: func(f *redisFacts) { f.Views = threeNodes(view(r1, 4), view(r1, 4), view(r2, 3)).Views }},
	} {
		f := base()
		c.change(&f)
		if got := f.replaced("redis-1"); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
