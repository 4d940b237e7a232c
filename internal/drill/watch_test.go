package drill

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/history"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// statusWith returns the status of a stack with the master on one host and everything else on
// others.
func statusWith(change ...func(st *supervise.Status)) supervise.Status {
	st := supervise.Status{Supervisor: 1, Nodes: []supervise.NodeStatus{
		{Name: "redis-1", Kind: plan.Redis, Role: "master", Host: "host-1", PID: 11, State: supervise.Up},
		{Name: "redis-2", Kind: plan.Redis, Role: "replica", Host: "host-2", PID: 12, State: supervise.Up},
		{Name: "web-1", Kind: plan.Web, Host: "host-3", PID: 13, State: supervise.Up},
	}}
	for _, c := range change {
		c(&st)
	}
	return st
}

func unwell(node int) func(*supervise.Status) {
	return func(st *supervise.Status) {
		st.Nodes[node].State, st.Nodes[node].Detail = supervise.Starting, "no master"
	}
}

func unknown(node int) func(*supervise.Status) {
	return func(st *supervise.Status) {
		st.Nodes[node].State, st.Nodes[node].PID, st.Nodes[node].Unknown = supervise.Starting, 0, true
	}
}

func TestWhatNoFaultExplainsIsNoted(t *testing.T) {
	at := func(targets ...string) []history.Fault {
		return []history.Fault{{Name: "fault", Targets: targets, Began: 0, Healthy: time.Minute}}
	}
	binding := []history.Fault{{Name: "attack", Healthy: time.Minute, Promise: history.Promise{Binding: true}}}
	another := func(st *supervise.Status) { st.Nodes[0].Role, st.Nodes[1].Role = "replica", "master" }
	for _, c := range []struct {
		what   string
		looks  []supervise.Status
		faults []history.Fault
		want   string // of the only notice; empty: no notice
	}{
		{"nothing happens", []supervise.Status{statusWith()}, nil, ""},
		{"a probe is late once", []supervise.Status{statusWith(unwell(1)), statusWith()}, nil, ""},
		{"a replica loses its master", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, nil, "redis-2 was not up any more: no master"},
		{"during another fault", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("web-1"), "redis-2 was not up"},
		{"by its fault", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("redis-2"), ""},
		{"by its host's", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("host-2"), ""},
		{"as the master is struck", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("redis-1"), ""},
		{"as the master's host is", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("host-1"), ""},
		{"as the supervisor is", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, at("supervisor"), ""},
		{"as the next master is struck, too", []supervise.Status{statusWith(another), statusWith(another, unwell(2)), statusWith(another, unwell(2))}, at("redis-1", "redis-2"), ""},
		{"as a client attacks", []supervise.Status{statusWith(unwell(1)), statusWith(unwell(1))}, binding, ""},
		{"another master, as a client attacks", []supervise.Status{statusWith(another)}, binding, "redis-2 became master"},
		{"another master, and no fault", []supervise.Status{statusWith(another)}, nil, "redis-2 became master in the place of redis-1"},
		{"another process", []supervise.Status{statusWith(func(st *supervise.Status) { st.Nodes[2].PID = 23 })}, at("redis-1"), "web-1 ended and was started again"},
		{"a node of a host that is away", []supervise.Status{statusWith(unknown(2)), statusWith(unknown(2)), statusWith()}, at("redis-1"), ""},
		{"another process when its host is back", []supervise.Status{statusWith(unknown(2)), statusWith(func(st *supervise.Status) { st.Nodes[2].PID = 23 })}, at("redis-1"), "web-1 ended and was started again"},
		{"another supervisor", []supervise.Status{statusWith(func(st *supervise.Status) { st.Supervisor = 2 })}, at("web-1"), "another supervisor"},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWatcher(nil, time.Now(), statusWith())
			for i, look := range c.looks {
				w.began = time.Now().Add(-time.Duration(i+1) * time.Second) // one second between two looks
				w.look(look)
			}
			notices := w.notices(c.faults)
			if c.want == "" && len(notices) > 0 || c.want != "" && (len(notices) != 1 || !strings.Contains(notices[0].Text, c.want)) {
				t.Errorf("noted: %+v, want %q", notices, c.want)
			}
		})
	}
}

func TestASupervisorThatIsGoneIsNotedOnce(t *testing.T) {
	w := newWatcher(nil, time.Now(), statusWith())
	for range 3 {
		w.unanswered(time.Second, 1100*time.Millisecond, errors.New("no supervisor runs"))
	}
	if n := w.notices(nil); len(n) != 1 || n[0].Node != "supervisor" {
		t.Errorf("noted: %+v", n)
	}
	if n := w.notices([]history.Fault{{Targets: []string{"supervisor"}, Healthy: 2 * time.Second}}); len(n) != 0 {
		t.Errorf("the drill's own doing is noted: %+v", n)
	}
	// The question was sent just before the injection, so it could not be answered.
	struck := history.Fault{Targets: []string{"supervisor"}, Began: 1050 * time.Millisecond, Healthy: 2 * time.Second}
	if n := w.notices([]history.Fault{struck}); len(n) != 0 {
		t.Errorf("asked before the fault: %v", n)
	}
	struck.Began = 1200 * time.Millisecond
	if n := w.notices([]history.Fault{struck}); len(n) != 1 {
		t.Errorf("silent before the fault: %v", n)
	}
}

// The Sentinels pause after each election, even if the first master is master again in the end.
func TestTheLastElectionIsKnown(t *testing.T) {
	w := newWatcher(nil, time.Now(), statusWith())
	w.look(statusWith())
	if !w.electedAt().IsZero() {
		t.Error("there was none")
	}
	w.look(statusWith(func(st *supervise.Status) { st.Nodes[0].Role, st.Nodes[1].Role = "", "master" }))
	first := w.electedAt()
	w.look(statusWith())
	if second := w.electedAt(); first.IsZero() || !second.After(first) {
		t.Errorf("elections at %v and %v", first, second)
	}
}

// Only what happens during an attack is its harm, and not what happens hours later.
func TestWhatHappensDuringAnAttackIsItsHarm(t *testing.T) {
	faults := []history.Fault{
		{Name: "kill-web", Began: 0, Healthy: time.Second},
		{Name: "attack", Began: 10 * time.Second, Healthy: 20 * time.Second, Promise: history.Promise{Binding: true}},
	}
	rest := attributeNotices(faults, []history.Notice{
		{At: time.Second, Text: "early"}, {At: 15 * time.Second, Text: "redis-2 became master"}, {At: 30 * time.Second, Text: "late"},
	})
	if len(rest) != 2 || rest[0].Text != "early" || rest[1].Text != "late" {
		t.Errorf("noted: %v", rest)
	}
	if harm := faults[1].Harm; len(harm) != 1 || harm[0] != "at 15.0 s redis-2 became master" || len(faults[0].Harm) != 0 {
		t.Errorf("harm: %q and %q", faults[0].Harm, harm)
	}
}
