package supervise

import (
	"strings"
	"testing"

	"holdfast/internal/redis"
)

// healthySentinelsView returns three Sentinels and three redis nodes that all know each other;
// redis-1 is the master.
func healthySentinelsView() sentinelsView {
	a := sentinelsView{
		redisFacts: redisFacts{
			Sentinels: 3, Nodes: map[string]string{"redis-1": "h:1", "redis-2": "h:2", "redis-3": "h:3"},
			Standings: map[string]redis.Standing{
				"redis-1": {Master: true, Offset: 9}, "redis-2": {MasterAddress: "h:1", Linked: true, Offset: 9}, "redis-3": {MasterAddress: "h:1", Linked: true, Offset: 9},
			},
		},
		Peers:   map[string]string{"sentinel-1": "h:11", "sentinel-2": "h:12", "sentinel-3": "h:13"},
		Stopped: map[string]bool{}, Known: map[string]sentinelKnowledge{}, Followers: []string{"h:2", "h:3"},
	}
	for name := range a.Peers {
		k := sentinelKnowledge{View: redis.View{Address: "h:1", Epoch: 1}, Replicas: map[string]redis.KnownReplica{}, Sentinels: map[string]bool{}}
		for _, address := range []string{"h:2", "h:3"} {
			k.Replicas[address] = redis.KnownReplica{Eligible: true}
		}
		for other, address := range a.Peers {
			if other != name {
				k.Sentinels[address] = true
			}
		}
		a.Known[name] = k
		a.Views = append(a.Views, k.View)
	}
	return a
}

// A Sentinel that was told to forget can lead no failover for a moment. So it is told only while
// no failover is likely, and while the others know everything that a failover needs.
func TestASentinelIsToldToForgetOnlyWhenAllIsWell(t *testing.T) {
	change := func(a *sentinelsView, sentinel string, f func(k *sentinelKnowledge)) {
		k := a.Known[sentinel]
		f(&k)
		a.Known[sentinel] = k
	}
	for _, c := range []struct {
		what string
		do   func(a *sentinelsView)
		want string // empty: it may be told
	}{
		{"all is well", func(*sentinelsView) {}, ""},
		{"it knows one that is gone", func(a *sentinelsView) {
			change(a, "sentinel-1", func(k *sentinelKnowledge) { k.Replicas["h:4"] = redis.KnownReplica{} })
		}, ""},
		{"it does not know all itself", func(a *sentinelsView) {
			change(a, "sentinel-1", func(k *sentinelKnowledge) { delete(k.Replicas, "h:2") })
		}, ""},
		{"a Sentinel is away", func(a *sentinelsView) { delete(a.Known, "sentinel-3") }, "sentinel-3 does not answer"},
		{"most are away", func(a *sentinelsView) { a.Views = a.Views[:1] }, "a majority is needed"},
		{"they disagree", func(a *sentinelsView) { change(a, "sentinel-2", func(k *sentinelKnowledge) { k.View.Address = "h:2" }) }, "names another master"},
		{"a failover", func(a *sentinelsView) { change(a, "sentinel-2", func(k *sentinelKnowledge) { k.View.Failing = true }) }, "a failover is under way"},
		{"the master is silent for one", func(a *sentinelsView) { change(a, "sentinel-3", func(k *sentinelKnowledge) { k.View.Down = true }) }, "holds the master for down"},
		{"TILT", func(a *sentinelsView) { change(a, "sentinel-1", func(k *sentinelKnowledge) { k.Tilted = true }) }, "TILT"},
		{"the master is silent", func(a *sentinelsView) { delete(a.Standings, "redis-1") }, "does not say so itself"},
		{"a replica is away", func(a *sentinelsView) { delete(a.Standings, "redis-2") }, "redis-2 does not answer"},
		{"a replica was stopped by its operator", func(a *sentinelsView) {
			delete(a.Standings, "redis-2")
			a.Stopped["redis-2"] = true
		}, ""},
		{"a replica is not in step", func(a *sentinelsView) { a.Standings["redis-2"] = redis.Standing{MasterAddress: "h:1"} }, "not in step"},
		{"what is gone is connected", func(a *sentinelsView) { a.Followers = append(a.Followers, "h:4") }, "h:4 is still connected"},
		{"another one has just forgotten", func(a *sentinelsView) {
			change(a, "sentinel-2", func(k *sentinelKnowledge) { k.Replicas, k.Sentinels = nil, nil })
		}, "sentinel-2 does not know redis-2, redis-3, sentinel-1, sentinel-3"},
		{"another one does not reach a replica", func(a *sentinelsView) {
			change(a, "sentinel-2", func(k *sentinelKnowledge) { k.Replicas["h:3"] = redis.KnownReplica{} })
		}, "sentinel-2 does not know redis-3"},
	} {
		a := healthySentinelsView()
		c.do(&a)
		if got := a.whyNoReset("sentinel-1"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestASentinelLeavesOnlyAMajorityBehind(t *testing.T) {
	a := healthySentinelsView()
	if why := a.whyNoFailover("sentinel-3"); why != "" {
		t.Errorf("one of three: %s", why)
	}
	delete(a.Known, "sentinel-3") // the Sentinel that leaves may be dead
	if why := a.whyNoFailover("sentinel-3"); why != "" {
		t.Errorf("a dead one of three: %s", why)
	}
	if why := a.whyNoFailover("sentinel-2"); why != "sentinel-3 does not answer" {
		t.Errorf("a second one: %s", why)
	}
	// The other two still count two Sentinels that have left the stack.
	a = healthySentinelsView()
	for name, k := range a.Known {
		k.Sentinels["h:14"], k.Sentinels["h:15"] = false, false
		a.Known[name] = k
	}
	if why := a.whyNoFailover("sentinel-3"); !strings.Contains(why, "no majority") {
		t.Errorf("two of five: %s", why)
	}
}

func TestWhatASentinelKnowsIsHeldAgainstWhatThereIs(t *testing.T) {
	a := healthySentinelsView()
	k := a.Known["sentinel-1"]
	k.Replicas["h:4"], k.Sentinels["h:14"] = redis.KnownReplica{}, false
	delete(k.Replicas, "h:3")
	if got := strings.Join(a.unknownAddresses("sentinel-1"), " "); got != "h:14 h:4" {
		t.Errorf("strangers: %s", got)
	}
	if got := strings.Join(a.missing("sentinel-1"), " "); got != "redis-3" {
		t.Errorf("missing: %s", got)
	}
	a.Stopped["redis-3"] = true
	if got := a.missing("sentinel-1"); len(got) > 0 {
		t.Errorf("missing of those that run: %s", got)
	}
}

func TestTheNodesThatHaveAllDataAreThoseInStep(t *testing.T) {
	a := healthySentinelsView()
	a.Standings["redis-1"] = redis.Standing{Master: true, Offset: 2 * mostBehind}
	a.Standings["redis-2"] = redis.Standing{MasterAddress: "h:1", Linked: true, Offset: 2 * mostBehind}
	names, why := a.inSync()
	if strings.Join(names, ", ") != "redis-1, redis-2" || !strings.Contains(why["redis-3"], "it lacks") {
		t.Errorf("%v, %v", names, why)
	}
	delete(a.Standings, "redis-2")
	if names, why = a.inSync(); strings.Join(names, ", ") != "redis-1" || why["redis-2"] != "it does not answer" {
		t.Errorf("%v, %v", names, why)
	}
}
