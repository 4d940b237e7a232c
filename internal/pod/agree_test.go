package pod

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

var allNodes = []string{"redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3"}

// answersOf returns the answers of all pods but the silent ones. Pods that are not in known
// remember nothing.
func answersOf(known map[string]Answer, silent ...string) map[string]Answer {
	all := map[string]Answer{}
	for _, node := range allNodes {
		a := known[node]
		a.Node = node
		all[node] = a
	}
	for _, node := range silent {
		delete(all, node)
	}
	return all
}

func TestTheStackIsNewOnlyByEverybodysWord(t *testing.T) {
	if a, wait := judge("redis-1", "", allNodes, answersOf(nil), plan.Replication{}); wait != "" || a.Booted {
		t.Errorf("everybody says it is new: %+v, %q", a, wait)
	}
	_, wait := judge("redis-1", "", allNodes, answersOf(nil, "redis-2"), plan.Replication{})
	if !strings.Contains(wait, "redis-2") {
		t.Errorf("redis-2 is silent: waits for %q", wait)
	}
}

func TestOneWordIsEnoughThatTheStackIsNotNew(t *testing.T) {
	known := map[string]Answer{"redis-2": {Booted: true, Replication: plan.Replication{Master: "redis-2", ConfigEpoch: 3}}}
	named := plan.Replication{Master: "redis-2", ConfigEpoch: 3}
	a, wait := judge("redis-1", "", allNodes, answersOf(known, "sentinel-1"), named)
	if wait != "" || !a.Booted || a.Replication.Master != "redis-2" {
		t.Errorf("%+v, %q", a, wait)
	}
	// The volumes of redis-1 and of its Sentinel are new: neither begins a new stack.
	a, wait = judge("sentinel-1", "", allNodes, answersOf(known), plan.Replication{})
	if wait != "" || !a.Booted || a.Replication.Master != "redis-2" || a.Replication.LeaderEpoch != 3 {
		t.Errorf("a Sentinel without a memory: %+v, %q", a, wait)
	}
}

func TestAPodWithoutAMemoryBelievesAMajorityOrEverybody(t *testing.T) {
	known := map[string]Answer{"redis-2": {Booted: true, Replication: plan.Replication{Master: "redis-1", ConfigEpoch: 1}}}
	if _, wait := judge("sentinel-1", "", allNodes, answersOf(known, "sentinel-2"), plan.Replication{}); wait == "" {
		t.Error("it believes redis-2 alone, while a Sentinel that may know better is silent")
	}
	named := plan.Replication{Master: "redis-2", ConfigEpoch: 2}
	a, wait := judge("sentinel-1", "", allNodes, answersOf(known, "sentinel-2"), named)
	if wait != "" || a.Replication.Master != "redis-2" || a.Replication.ConfigEpoch != 2 {
		t.Errorf("a majority names redis-2: %+v, %q", a, wait)
	}
}

func TestAPodKeepsItsOwnMemoryOfItsVotes(t *testing.T) {
	mine := plan.Replication{Master: "redis-1", ConfigEpoch: 4, LeaderEpoch: 6, CurrentEpoch: 6}
	known := map[string]Answer{
		"sentinel-1": {Booted: true, Replication: mine},
		"sentinel-2": {Booted: true, Replication: plan.Replication{Master: "redis-2", ConfigEpoch: 5, CurrentEpoch: 5}},
	}
	a, wait := judge("sentinel-1", "", allNodes, answersOf(known, "redis-1"), plan.Replication{})
	want := plan.Replication{Master: "redis-2", ConfigEpoch: 5, LeaderEpoch: 6, CurrentEpoch: 6}
	if wait != "" || a.Replication != want {
		t.Errorf("%+v, %q; want %+v", a, wait, want)
	}
}

func TestAPodWaitsForWhoeverMayKnowBetter(t *testing.T) {
	named := func(master string, epoch int64) plan.Replication {
		return plan.Replication{Master: master, ConfigEpoch: epoch, CurrentEpoch: epoch}
	}
	booted := func(r plan.Replication) Answer { return Answer{Booted: true, Replication: r} }
	one := map[string]Answer{"sentinel-1": booted(named("redis-1", 4)), "redis-1": booted(named("redis-1", 4))}
	with := func(node string, r plan.Replication) map[string]Answer {
		all := maps.Clone(one)
		all[node] = booted(r)
		return all
	}
	for name, c := range map[string]struct {
		own           string
		watchedMaster string
		known         map[string]Answer
		silent        []string
		named         plan.Replication
		master        string
		epoch         int64
		wait          string
		ownFile       bool
		sentinels     map[string]int
	}{
		"a redis node and a Sentinel are gone, and its own volume is lost": {
			own: "sentinel-3", known: one, silent: []string{"redis-2", "sentinel-2"}, wait: "redis-2, sentinel-2 says nothing yet; if its volume is gone for good, delete its claim and then the pod"},
		"their volumes were deleted: both are back and empty": {
			own: "sentinel-3", known: one, master: "redis-1", epoch: 4},
		"one of them was": {
			own: "sentinel-3", known: one, silent: []string{"redis-2"}, wait: "redis-2 says nothing yet"},
		"nobody remembers a first boot, and one is gone": {
			own: "sentinel-3", silent: []string{"redis-2"}, wait: "redis-2 says nothing yet; if its volume is gone for good"},
		"one with a memory waits for nobody": {
			own: "sentinel-1", known: one, silent: []string{"redis-2", "sentinel-2"}, master: "redis-1", epoch: 4},
		"a Sentinel remembers a newer epoch, and not the master: it is not started on an older one": {
			own: "sentinel-2", known: with("sentinel-2", named("", 5)), named: named("redis-1", 4), wait: "sentinel-2 remembers that a redis node became the master in epoch 5, and not which"},
		"nor are others while no majority says more": {
			own: "sentinel-1", known: with("sentinel-2", named("", 5)), wait: "sentinel-2 remembers"},
		"a majority that runs does": {
			own: "sentinel-1", known: with("sentinel-2", named("", 5)), named: named("redis-1", 4), master: "redis-1", epoch: 4},
		"and knows that epoch": {
			own: "sentinel-2", known: with("sentinel-2", named("", 5)), named: named("redis-2", 5), master: "redis-2", epoch: 5},
		"the master is in the stack file no more": {
			own: "sentinel-1", known: with("sentinel-2", named("redis-3", 5)), wait: "the stack file has no redis-3"},
		"its Sentinels are to name another one": {
			own: "sentinel-2", watchedMaster: "redis-3", known: with("sentinel-2", named("redis-3", 5)), master: "redis-3", epoch: 5, ownFile: true},
		"one of them has named one, and the others do not know yet": {
			own: "sentinel-1", watchedMaster: "redis-3", known: with("sentinel-2", named("redis-2", 6)), master: "redis-2", epoch: 6},
		"a Sentinel that names a node which stays is not started on what it says": {
			own: "sentinel-1", watchedMaster: "redis-1", known: with("sentinel-2", named("redis-3", 5)), wait: "the stack file has no redis-3"},
		"another pod goes by far fewer Sentinels": {
			own: "sentinel-3", known: one, sentinels: map[string]int{"redis-2": 1}, wait: "the stack file has 3 Sentinels, and redis-2 goes by 1"},
		"or by far more": {
			own: "redis-1", known: one, sentinels: map[string]int{"sentinel-2": 5}, wait: "sentinel-2 goes by 5: change redis.sentinels by one at a time"},
		"the pod itself did": {
			own: "sentinel-1", known: one, sentinels: map[string]int{"sentinel-1": 5}, wait: "sentinel-1 goes by 5"},
		"one more or less is near enough": {
			own: "sentinel-1", known: one, sentinels: map[string]int{"sentinel-1": 4, "sentinel-2": 2}, master: "redis-1", epoch: 4},
		"a majority of them has named another one": {
			own: "sentinel-2", watchedMaster: "redis-3", known: with("sentinel-2", named("redis-3", 5)), named: named("redis-2", 6), master: "redis-2", epoch: 6},
	} {
		answers := answersOf(c.known, c.silent...)
		for node, n := range c.sentinels {
			answer := answers[node]
			answer.Sentinels = n
			answers[node] = answer
		}
		a, wait := judge(c.own, c.watchedMaster, allNodes, answers, c.named)
		if (wait == "") != (c.wait == "") || !strings.Contains(wait, c.wait) || a.Replication.Master != c.master || a.Replication.ConfigEpoch != c.epoch || a.OwnFile != c.ownFile {
			t.Errorf("%s: %+v, waits for %q", name, a, wait)
		}
	}
}

// speaking returns the peers of redis-1, which give these answers (JSON).
func speaking(t *testing.T, said map[string]string, named plan.Replication, refused map[string]string) Peers {
	return Peers{
		Own: Answer{Node: "redis-1"}, Nodes: allNodes,
		Ask: func(_ context.Context, node string) (a Answer, err error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Error(err)
				return a, err
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, said[node]) })}
			authority := authorityOf(t, 'a')
			go server.Serve(tls.NewListener(l, identityOf(t, t.TempDir(), authority, node, time.Hour).Server()))
			defer server.Close()
			return ask(t.Context(), l.Addr().String(), identityOf(t, t.TempDir(), authority, "redis-1", time.Hour).Client(node))
		},
		Named:   func(context.Context) (plan.Replication, error) { return named, nil },
		Waiting: func(string) {},
		Refused: func(node string, why error) { refused[node] += why.Error() },
	}
}

func TestAnEpochThatCannotBeIsNotBelieved(t *testing.T) {
	const good = `{"node":"NODE","booted":true,"replication":{"master":"redis-2","config-epoch":4,"leader-epoch":4,"current-epoch":4}}`
	for text, why := range map[string]string{
		strings.Replace(good, `"config-epoch":4`, `"config-epoch":9223372036854775807`, 1):    "its configuration epoch is 9223372036854775807",
		strings.Replace(good, `"config-epoch":4`, `"config-epoch":-1`, 1):                     "its configuration epoch is -1",
		strings.Replace(good, `"leader-epoch":4`, `"leader-epoch":1000000001`, 1):             "its leader's epoch is 1000000001",
		strings.Replace(good, `"current-epoch":4`, `"current-epoch":2000000000`, 1):           "its current epoch is 2000000000",
		strings.Replace(good, `"current-epoch":4`, `"current-epoch":18446744073709551615`, 1): "cannot be read",
		strings.Replace(good, "NODE", "redis-9", 1):                                           "the pod of redis-9",
		"nonsense": "cannot be read",
	} {
		said := map[string]string{}
		for _, node := range allNodes {
			said[node] = strings.Replace(good, "NODE", node, 1)
		}
		said["sentinel-2"] = strings.Replace(text, "NODE", "sentinel-2", 1)
		refused := map[string]string{}
		peers := speaking(t, said, plan.Replication{Master: "redis-2", ConfigEpoch: 4, CurrentEpoch: 4}, refused)
		want := plan.Replication{Master: "redis-2", ConfigEpoch: 4, LeaderEpoch: 4, CurrentEpoch: 4}
		if a, err := peers.Agree(t.Context()); err != nil || a.Replication != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
		if len(refused) != 1 || !strings.Contains(refused["sentinel-2"], why) {
			t.Errorf("%s: refused %v, want %q", text, refused, why)
		}
	}

	// An impossible epoch of the Sentinels is not believed either.
	refused := map[string]string{}
	said := map[string]string{"redis-2": strings.Replace(good, "NODE", "redis-2", 1)}
	ctx, end := context.WithTimeout(t.Context(), 2*time.Second)
	defer end()
	a, err := speaking(t, said, plan.Replication{Master: "redis-1", ConfigEpoch: 1 << 60, CurrentEpoch: 1 << 60}, refused).Agree(ctx)
	if err == nil || !strings.Contains(refused[""], "1152921504606846976") {
		t.Errorf("%+v, %v; refused %v", a, err, refused)
	}
}
