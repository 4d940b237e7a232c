package pod

import (
	"strings"
	"testing"

	"holdfast/internal/plan"
)

var allNodes = []string{"redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3"}

// answersOf makes the answers of pods that know nothing but what is said here.
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
	if a, wait := judge("redis-1", allNodes, answersOf(nil), plan.Replication{}); wait != "" || a.Booted {
		t.Errorf("everybody says it is new: %+v, %q", a, wait)
	}
	_, wait := judge("redis-1", allNodes, answersOf(nil, "redis-2"), plan.Replication{})
	if !strings.Contains(wait, "redis-2") {
		t.Errorf("redis-2 is silent: waits for %q", wait)
	}
}

func TestOneWordIsEnoughThatTheStackIsNotNew(t *testing.T) {
	known := map[string]Answer{"redis-2": {Booted: true, Replication: plan.Replication{Master: "redis-2", ConfigEpoch: 3}}}
	named := plan.Replication{Master: "redis-2", ConfigEpoch: 3}
	a, wait := judge("redis-1", allNodes, answersOf(known, "sentinel-1"), named)
	if wait != "" || !a.Booted || a.Replication.Master != "redis-2" {
		t.Errorf("%+v, %q", a, wait)
	}
	// The volumes of redis-1 and of its Sentinel are new: neither begins a new stack.
	a, wait = judge("sentinel-1", allNodes, answersOf(known), plan.Replication{})
	if wait != "" || !a.Booted || a.Replication.Master != "redis-2" || a.Replication.LeaderEpoch != 3 {
		t.Errorf("a Sentinel without a memory: %+v, %q", a, wait)
	}
}

func TestAPodWithoutAMemoryBelievesAMajorityOrEverybody(t *testing.T) {
	known := map[string]Answer{"redis-2": {Booted: true, Replication: plan.Replication{Master: "redis-1", ConfigEpoch: 1}}}
	if _, wait := judge("sentinel-1", allNodes, answersOf(known, "sentinel-2"), plan.Replication{}); wait == "" {
		t.Error("it believes redis-2 alone, while a Sentinel that may know better is silent")
	}
	named := plan.Replication{Master: "redis-2", ConfigEpoch: 2}
	a, wait := judge("sentinel-1", allNodes, answersOf(known, "sentinel-2"), named)
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
	a, wait := judge("sentinel-1", allNodes, answersOf(known, "redis-1"), plan.Replication{})
	want := plan.Replication{Master: "redis-2", ConfigEpoch: 5, LeaderEpoch: 6, CurrentEpoch: 6}
	if wait != "" || a.Replication != want {
		t.Errorf("%+v, %q; want %+v", a, wait, want)
	}
}
