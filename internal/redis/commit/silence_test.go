package commit

import (
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/election"
	"holdfast/internal/redis/operation"
)

// A session that ends in a switchover has not been silenced: what it had under way goes
// to the next master, once.
func TestANodeThatIsReplacedAndRepliesWasNotSilent(t *testing.T) {
	began := time.Now()
	before, after := began.Add(-time.Second), began.Add(time.Second)
	silent, left := operation.Loss{Node: "a", Silent: true}, operation.Loss{Node: "a", Left: true}
	for what, c := range map[string]struct {
		master   string
		node     election.Node
		answered bool // the session's last exchange
		want     operation.Loss
		quick    bool // Sentinels replace masters more quickly than rounds come
	}{
		"it is silent":     {"b", election.Node{Address: "a"}, false, silent, false},
		"it is the master": {"a", election.Node{Address: "a", Answered: true, Master: true}, false, silent, false},
		"nobody is":        {"", election.Node{Address: "a", Answered: true, Master: true}, false, silent, false},
		"another one is, and it does not know yet":    {"b", election.Node{Address: "a", Answered: true, Master: true}, false, left, false},
		"it says that it is none":                     {"", election.Node{Address: "a", Answered: true}, false, left, false},
		"it says so to the session first":             {"a", election.Node{Address: "a", Answered: true, Master: true}, true, left, false},
		"and it was silent meanwhile":                 {"a", election.Node{Address: "a", Answered: true, Master: true, SilentAt: after}, true, silent, false},
		"another one says that it is none":            {"a", election.Node{Address: "b", Answered: true}, false, silent, false},
		"another one is, and it was silent meanwhile": {"b", election.Node{Address: "a", Answered: true, Master: true, SilentAt: after}, false, silent, false},
		"and Sentinels are quick":                     {"b", election.Node{Address: "a", Answered: true}, true, silent, true},
		"and it was silent before":                    {"b", election.Node{Address: "a", Answered: true, SilentAt: before}, false, left, false},
	} {
		s := &Session{Master: "a", began: began, took: time.Second, wire: new(conn.Tracked), answered: c.answered}
		downAfter := discovery.SteadyInterval
		if c.quick {
			downAfter -= time.Millisecond
		}
		s.w = serving(config.Config{}.WithDefaults(), election.Snapshot{Verdict: election.Verdict{Master: c.master}, Nodes: []election.Node{c.node}, DownAfter: downAfter})
		if got := s.loss(); got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
}

// In a switchover the old master answers to its end: nothing there has silenced it.
func TestANodeIsSilentOnlyWhenItHadTheCommandsForSomeTime(t *testing.T) {
	w := New(config.Config{}.WithDefaults(), nil)
	left := new(conn.Tracked)
	left.Left.Store(true)
	for _, tt := range []struct {
		what string
		wire *conn.Tracked
		took time.Duration
		want bool
	}{
		{"it hangs", new(conn.Tracked), 500 * time.Millisecond, true},
		{"another has become the master while a WAIT was under way", new(conn.Tracked), w.slice(), false},
		{"it died", left, 500 * time.Millisecond, false},
	} {
		s := &Session{w: w, wire: tt.wire, took: tt.took}
		if got := s.silent(); got != tt.want {
			t.Errorf("%s: silent is %t", tt.what, got)
		}
	}
}
